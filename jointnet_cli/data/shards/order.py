"""Deterministic assignment of samples to steps and workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import count, pairwise

import torch
from torch import Tensor


@dataclass(frozen=True)
class ShardSlice:
    """Neighbouring samples of a shard."""

    shard: int
    """The number of the shard."""
    start: int
    """The first sample's number in the shard."""
    count: int


@dataclass(frozen=True)
class ShuffleBlock:
    """Neighbouring samples that are shuffled among each other."""

    shard: int
    start: int
    """The first sample's number in the shard."""
    order: list[int]
    """The samples as they are taken, counted from `start`."""
    done: int
    """How many of them were taken before."""


def slice_shards(counts: Sequence[int], slots: int) -> list[ShardSlice]:
    """Divide shards with these counts of samples into at least `slots` slices, if there are so many samples.

    A shard is one slice, or several equal ones where there are fewer shards than slots.
    """
    pieces = max(-(-slots // len(counts)), 1)
    bounds = [[samples * piece // pieces for piece in range(pieces + 1)] for samples in counts]
    slices = [ShardSlice(n, start, end - start) for n, ends in enumerate(bounds) for start, end in pairwise(ends)]
    return [piece for piece in slices if piece.count]


@dataclass(frozen=True)
class SampleOrder:
    """Assigns the slices of a set to slots. A slot gives one sample to every step, at its place in the step.

    The permutations of all slices, one an epoch, follow one another without end; slot l of L takes the slices l, l + L,
    l + 2L, … of them. A slot goes through its slices one by one, so shards may differ in length, and every epoch has every
    slice once.
    """

    slices: Sequence[ShardSlice]
    count: int
    """Slots; samples of a step."""
    seed: int
    shuffle: int
    """Samples of a block at most."""

    def walk(self, slot: int, step: int) -> Iterator[ShuffleBlock]:
        """Yield what a slot takes from a step on, without end."""
        passed = step
        for turn in count(slot, self.count):
            epoch, number = divmod(turn, len(self.slices))
            piece = self.slices[_permutation(len(self.slices), f"slices/{self.seed}/{epoch}")[number]]
            if passed >= piece.count:
                passed -= piece.count
                continue
            yield from self._blocks(piece, turn, passed)
            passed = 0

    def _blocks(self, piece: ShardSlice, turn: int, passed: int) -> Iterator[ShuffleBlock]:
        """Yield the slice in blocks as even as can be: in one of few samples, none might be usable."""
        number = -(-piece.count // self.shuffle)
        bounds = [piece.count * nth // number for nth in range(number + 1)]
        for nth, (begin, end) in enumerate(pairwise(bounds)):
            if passed < end:
                order = _permutation(end - begin, f"block/{self.seed}/{turn}/{nth}")
                yield ShuffleBlock(piece.shard, piece.start + begin, order, max(passed - begin, 0))


@lru_cache(maxsize=1024)
def _permutation(size: int, name: str) -> list[int]:
    seed = int.from_bytes(blake2b(name.encode(), digest_size=7).digest())
    order: list[int] = torch.randperm(size, generator=torch.Generator().manual_seed(seed)).tolist()
    return order


def order(size: int, places: Sequence[int], seed: int) -> Tensor:
    """Return the numbers (B,), below `size`, of the samples at some positions of a run: seeded permutations, one an epoch.

    They depend on seed and position alone, so a resumed run reads the same samples as an uninterrupted one.
    """
    where = torch.tensor(places)
    found = torch.empty_like(where)
    for epoch in (where // size).unique().tolist():
        here = where // size == epoch
        found[here] = _epoch_order(size, epoch, seed)[where[here] % size]
    return found


@lru_cache(maxsize=4)
def _epoch_order(size: int, epoch: int, seed: int) -> Tensor:
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
