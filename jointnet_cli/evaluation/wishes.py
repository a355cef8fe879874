"""What a row of a table of pictures is asked for, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.tasks import Sampling


@dataclass(frozen=True)
class Wish:
    """One picture that is wanted."""

    prompt: str
    seed: int
    disparity: NDArray[np.float32] | None = None
    """(H, W) in [0, 1], near = 1: the depth that the picture is painted for."""


@dataclass(frozen=True)
class Made:
    """One picture that was made."""

    image: NDArray[np.float32]
    """(H, W, 3) sRGB in [0, 1]."""
    disparity: NDArray[np.float32] | None
    """(H, W) in [0, 1], near = 1, where the method makes it too."""
    settings: dict[str, Any]
    """How it was made, ready for JSON."""


@dataclass(frozen=True)
class Making:
    """How all rows make their pictures; what is `None` is the model's own default."""

    sampling: Sampling = field(default_factory=Sampling)
    device: str | None = None
    dtype: str | None = None


class Maker(Protocol):
    """Makes the pictures of a row; loads its model when the first is wanted."""

    @property
    def identity(self) -> str:
        """What tells its pictures from those of any other model or settings."""
        ...

    def __call__(self, wish: Wish) -> Made:
        """Raises UserError: a picture that it cannot make, or a model that cannot be loaded."""
        ...
