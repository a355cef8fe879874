"""Micro-batches from memory and from shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from jointnet_cli.data.labels.teachers import Teacher, open_teacher
from jointnet_cli.data.shards.format import MAP_SUFFIXES
from jointnet_cli.data.shards.latents import Encode, LatentSet, Replaced
from jointnet_cli.data.shards.order import SampleOrder, order, slice_shards
from jointnet_cli.data.shards.shard_set import ShardSet
from jointnet_cli.data.shards.stream import PixelBatch, ShardStream
from jointnet_cli.errors import UserError
from jointnet_cli.modality import MODALITIES
from jointnet_cli.tensors import flip, relative_disparity, to_map
from jointnet_cli.training.determinism import RankSampler, SampleRNG
from jointnet_cli.training.recipe import Data

if TYPE_CHECKING:
    from jointnet_cli.training.runs import Log


@dataclass(frozen=True)
class Batch:
    """The samples at consecutive positions of a run."""

    positions: range
    clean: Tensor
    """(B, N, C, h, w) latents of the N branches; for an autoencoder images (B, 3, H, W)."""
    captions: list[str]
    crop_conditioning: Tensor | None = None
    """(B, 4) size and crop conditioning of Stable Diffusion XL: height and width of the original, and the top and left of the
    crop, in pixels."""


class BatchSource(Protocol):
    """Where the samples come from."""

    def batches(self, sampler: RankSampler, step: int) -> Iterator[Batch]:
        """Yield the micro-batches of a process from a step on, without end; a function of sampler and step alone."""


@dataclass(frozen=True)
class CachedSource:
    """Draw from a set of latents in memory."""

    data: LatentSet
    seed: int

    def batches(self, sampler: RankSampler, step: int) -> Iterator[Batch]:
        for number in count(step):
            for micro in range(sampler.accumulation):
                yield self._batch(sampler.positions(number, micro))

    def _batch(self, positions: range) -> Batch:
        indices = order(len(self.data), positions, self.seed)
        sides = SampleRNG(self.seed, positions, "mirrored").integers(len(self.data.latents))
        captions = [self.data.captions[index] for index in indices.tolist()]
        device = self.data.latents.device
        return Batch(positions, self.data.latents[sides.to(device), indices.to(device)].float(), captions)


Warn = Callable[[str], None]


def warn_of_replaced(replaced: Sequence[Replaced], log: Log) -> None:
    """Log the unusable samples of a set in memory: for each cause the first one and their number."""
    for cause, number in Counter(cause for cause, _ in replaced).items():
        first = next(which for reason, which in replaced if reason == cause)
        further = f" and {number - 1} more" if number > 1 else ""
        log({"warning": f"replaced a sample: {cause} ({first}){further}"})


class StreamedSource:
    """Draw from local or remote shards, in the order of `SampleOrder`.

    Args:
        data: the recipe's table; its `maps` in branch order, of which those in `label` are made here.
        shards: the set that the table names.
        seed: of the run.
        size: the model's own, for a recipe that names none.
        encode: maps (B, 3, H, W) in [-1, 1], on `device`, to latents (B, C, h, w); all branches go through it together.
        device: where the teachers and `encode` work.
        warn: told of the first sample of every cause that cannot be used; `replaced` counts all.

    Raises:
        UserError: a teacher that cannot be opened.
    """

    def __init__(
        self,
        data: Data,
        shards: ShardSet,
        seed: int,
        size: int,
        encode: Encode,
        device: torch.device,
        warn: Warn,
    ) -> None:
        self.data, self.seed, self.size = data, seed, data.size or size
        self.shards = shards.shards
        self.replaced: Counter[str] = Counter()
        """Unusable samples that another one stands in for, counted by cause."""
        self._encode, self._device, self._warn = encode, device, warn
        self._labellers: dict[str, Teacher] = {
            name: open_teacher(f"{name}={teacher}", str(device)) for name, teacher in data.label.items()
        }

    def batches(self, sampler: RankSampler, step: int) -> Iterator[Batch]:
        """Yield the micro-batches of a process from a step on, without end; a function of sampler and step alone.

        Raises:
            UserError: a shard cannot be read, holds nothing that can be used, or a teacher fails on a whole micro-batch.
        """
        sample_order = SampleOrder(
            slice_shards([shard.count for shard in self.shards], sampler.total),
            sampler.total,
            self.seed,
            self.data.shuffle,
        )
        stored = tuple(name for name in self.data.maps if name in MAP_SUFFIXES and name not in self.data.label)
        stream = ShardStream(self.shards, sample_order, sampler.slots, sampler.batch, step, stored, self.size)
        found = stream.read(self._device, self.data.workers)
        for number in count(step):
            for micro in range(sampler.accumulation):
                yield self._batch(sampler.positions(number, micro), next(found))

    @torch.no_grad()
    def _batch(self, positions: range, squares: PixelBatch) -> Batch:
        self._note(squares.replaced)
        pictures = squares.images.float() / 255
        maps = {"rgb": to_map(pictures, "rgb")}
        maps |= {name: values.float().expand(-1, 3, -1, -1) for name, values in squares.maps.items()}
        for name, labeller in self._labellers.items():
            values = labeller(pictures).to(self._device, torch.float32)
            maps[name] = to_map(relative_disparity(values) if MODALITIES[name].values == "disparity" else values, name)
        captions, crop_conditioning = squares.captions, squares.crop_conditioning
        rows = self._usable_rows(maps)
        if rows is not None:
            maps = {name: values[rows] for name, values in maps.items()}
            captions, crop_conditioning = [captions[row] for row in rows], crop_conditioning[rows]
        return Batch(positions, self._latents(positions, maps), captions, crop_conditioning)

    def _latents(self, positions: range, maps: dict[str, Tensor]) -> Tensor:
        """Return (B, N, C, h, w) of the maps, those of some positions mirrored, in branch order."""
        sides = SampleRNG(self.seed, positions, "mirrored").integers(1 + self.data.flip)
        mirrored = sides.bool().to(self._device).view(-1, 1, 1, 1)
        branches = [torch.where(mirrored, flip(maps[name], name), maps[name]) for name in self.data.maps]
        latents = self._encode(torch.cat(branches)).float()
        # A copy, since of what inference mode has made no gradient could be taken.
        by_sample: Tensor = latents.unflatten(0, (len(branches), len(positions))).transpose(0, 1)
        return by_sample.clone(memory_format=torch.contiguous_format)

    def _usable_rows(self, maps: dict[str, Tensor]) -> list[int] | None:
        """Return every row, or in its place the next row for which the teachers gave numbers; `None` if all rows have them."""
        made = [maps[name].isfinite().flatten(1).all(dim=1) for name in self._labellers]
        finite = torch.stack(made).all(dim=0).tolist() if made else [True]
        if all(finite):
            return None
        if not any(finite):
            raise UserError("the teachers of data.label give no numbers for a whole micro-batch")
        self._note([("a teacher gives no numbers for it", "one of a micro-batch")] * finite.count(False))
        good = [row for row in range(len(finite)) if finite[row]]
        return [next((other for other in good if other >= row), good[0]) for row in range(len(finite))]

    def _note(self, replaced: list[tuple[str, str]]) -> None:
        for cause, which in replaced:
            if cause not in self.replaced:
                self._warn(f"replaced a sample: {cause} ({which}); further ones are counted")
            self.replaced[cause] += 1
