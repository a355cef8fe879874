"""The randomness of a batch, sample by sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b

import torch
from torch import Generator, Tensor


class Draws:
    """Random numbers for the samples of a batch, on the CPU.

    Every sample has a generator of its own, seeded by the run's seed and by the sample's place in the run. So it meets the
    same noise however the samples of a step are spread over processes and micro-batches, and after a resume.

    Args:
        seed: of the run.
        places: of the samples, counted from the first of the run.
        purpose: a word that tells independent draws for the same samples apart.
    """

    def __init__(self, seed: int, places: Sequence[int], purpose: str = "noise") -> None:
        self._generators = [Generator().manual_seed(_mixed(f"{purpose}/{seed}/{place}")) for place in places]

    def __len__(self) -> int:
        return len(self._generators)

    def normal(self, *shape: int) -> Tensor:
        """(B, *shape) from the unit normal."""
        return self._stacked(lambda generator: torch.randn(shape, generator=generator))

    def uniform(self, *shape: int) -> Tensor:
        """(B, *shape) in [0, 1)."""
        return self._stacked(lambda generator: torch.rand(shape, generator=generator))

    def integers(self, high: int, *shape: int) -> Tensor:
        """(B, *shape) in [0, high)."""
        return self._stacked(lambda generator: torch.randint(high, shape, generator=generator))

    def _stacked(self, draw: Callable[[Generator], Tensor]) -> Tensor:
        return torch.stack([draw(generator) for generator in self._generators])


def _mixed(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=7).digest())
