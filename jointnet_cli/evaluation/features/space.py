"""What a network that looks at pictures offers to the metrics of sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

INCEPTION = "Inception"
"""The one space whose numbers are called FID and IS."""


@dataclass(frozen=True)
class FeatureSpace:
    """Features of pictures, and a classifier's logits where there is one."""

    name: str
    """Part of every metric's name that is taken in this space."""
    key: str
    """What tells these weights from others."""
    run: Callable[[Tensor], tuple[Tensor, Tensor | None]]
    """Pictures (B, 3, H, W) in [0, 1] to features (B, D), and to logits (B, C) or `None`; all on the CPU."""
    classifies: bool = True
    """Whether there are logits."""

    @property
    def frechet(self) -> str:
        """What the Fréchet distance in this space is called."""
        return "FID" if self.name == INCEPTION else f"FD-{self.name}"

    @property
    def score(self) -> str | None:
        """What the Inception Score (Salimans et al., 2016) of its classifier is called, if it has one."""
        if not self.classifies:
            return None
        return "IS" if self.name == INCEPTION else f"IS-{self.name}"
