"""Which samples a process trains on, and one random stream per sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import torch
from torch import Tensor


@dataclass(frozen=True)
class RankSampler:
    """One process's part of every step.

    The samples of a run are numbered: their positions. A step takes the next `total` of them, whoever works on them, so that a
    run does not depend on how a step is divided into processes and micro-batches.
    """

    batch: int
    """Samples of a micro-batch."""
    accumulation: int = 1
    """Micro-batches of a step, one after the other in every process."""
    processes: int = 1
    process: int = 0

    @property
    def total(self) -> int:
        """Samples of a step."""
        return self.batch * self.accumulation * self.processes

    @property
    def slots(self) -> range:
        """Where in a step this process's samples stand."""
        own = self.batch * self.accumulation
        return range(self.process * own, (self.process + 1) * own)

    def positions(self, step: int, micro: int = 0) -> range:
        """Return the positions of one micro-batch of a step."""
        first = step * self.total + self.slots.start + micro * self.batch
        return range(first, first + self.batch)


_GOLDEN = -0x61C8864680B583EB  # 2^64 / golden ratio, odd, as a signed number

_FIRST, _SECOND = -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15


class SampleRNG:
    """Random numbers for the samples of a batch, on any device.

    Every sample has a stream of its own (SplitMix64, Steele et al., 2014), which begins where the run's seed and the
    sample's place in the run say. So it meets the same noise however the samples of a step are spread over processes and
    micro-batches, and after a resume; on another device the same but for the rounding of normal numbers.

    Args:
        seed: of the run.
        positions: of the samples, counted from the first of the run.
        purpose: a word that tells independent draws for the same samples apart.
        device: where the numbers are made.
    """

    def __init__(
        self, seed: int, positions: Sequence[int], purpose: str = "noise", *, device: torch.device | str = "cpu"
    ) -> None:
        stream = int.from_bytes(blake2b(f"{purpose}/{seed}".encode(), digest_size=8).digest(), signed=True)
        self._starts = _mixed(_mixed(torch.tensor(positions, dtype=torch.int64)) + stream)
        self._drawn = 0
        self.device = torch.device(device)

    def __len__(self) -> int:
        return len(self._starts)

    def normal(self, *shape: int) -> Tensor:
        """Return (B, *shape) from the unit normal (Box and Muller's transform)."""
        bits = self._bits(shape)
        radius = (((bits >> 32) & 0xFFFFFFFF) + 1).float().mul_(2.0**-32).log_().mul_(-2).sqrt_()
        return (bits & 0xFFFFFFFF).float().mul_(2 * math.pi * 2.0**-32).cos_().mul_(radius)

    def uniform(self, *shape: int, device: torch.device | str | None = None) -> Tensor:
        """Return (B, *shape) in [0, 1), on another device where that is wanted."""
        return ((self._bits(shape, device) >> 40) & 0xFFFFFF).float() * 2.0**-24

    def integers(self, high: int, *shape: int) -> Tensor:
        """Return (B, *shape) in [0, high)."""
        return (((self._bits(shape) >> 16) & ((1 << 48) - 1)).double() * (2.0**-48 * high)).long()

    def _bits(self, shape: tuple[int, ...], device: torch.device | str | None = None) -> Tensor:
        """Return the next 64 bits of every sample for every number, (B, *shape) int64."""
        count, device = math.prod(shape), device or self.device
        steps = torch.arange(self._drawn + 1, self._drawn + count + 1, device=device) * _GOLDEN
        self._drawn += count
        starts = self._starts.to(device, non_blocking=True)
        return _mixed(starts[:, None] + steps).view(len(self), *shape)


def _mixed(bits: Tensor) -> Tensor:
    """Return the output function of SplitMix64 on int64, whose arithmetic wraps."""
    bits = (bits ^ ((bits >> 30) & ((1 << 34) - 1))) * _FIRST
    bits = (bits ^ ((bits >> 27) & ((1 << 37) - 1))) * _SECOND
    return bits ^ ((bits >> 31) & ((1 << 33) - 1))
