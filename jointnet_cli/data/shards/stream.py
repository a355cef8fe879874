"""Stream the crops of one process from shards by worker processes, a micro-batch at a time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing.connection import wait
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from jointnet_cli.data.shards.index import Raw, Shard, read_samples, too_few_samples
from jointnet_cli.data.shards.order import SampleOrder, ShuffleBlock
from jointnet_cli.data.shards.samples import Crop, UnusableSample, crop_sample
from jointnet_cli.errors import UserError

AHEAD = 2
"""Micro-batches that a worker reads ahead."""


@dataclass
class PixelBatch:
    """Samples of a micro-batch, all or those that one worker reads."""

    rows: list[int]
    """Where they stand in the micro-batch."""
    images: Tensor
    """(B, 3, S, S) uint8 sRGB."""
    maps: dict[str, Tensor]
    """Depth (B, 1, S, S) and normals (B, 3, S, S) float16 as maps in [-1, 1]."""
    captions: list[str]
    crop_conditioning: Tensor
    """(B, 4) as `Crop.crop_conditioning`."""
    replaced: list[tuple[str, str]] = field(default_factory=list)
    """Samples that could not be used: the cause, and which."""

    def __getstate__(self) -> dict[str, Any]:
        # Arrays go through a pipe; tensors would go through shared memory, of which containers have little.
        arrays = {name: values.numpy() for name, values in self.maps.items()}
        return {
            **vars(self),
            "images": self.images.numpy(),
            "maps": arrays,
            "crop_conditioning": self.crop_conditioning.numpy(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.images, self.crop_conditioning = (
            torch.from_numpy(state["images"]),
            torch.from_numpy(state["crop_conditioning"]),
        )
        self.maps = {name: torch.from_numpy(values) for name, values in state["maps"].items()}

    def pin_memory(self) -> Self:
        """Return the batch in memory that a GPU copies from by itself; DataLoader calls it."""
        self.images, self.crop_conditioning = self.images.pin_memory(), self.crop_conditioning.pin_memory()
        self.maps = {name: values.pin_memory() for name, values in self.maps.items()}
        return self

    def to(self, device: torch.device) -> Self:
        """Return the batch on a device."""
        self.images = self.images.to(device, non_blocking=True)
        self.maps = {name: values.to(device, non_blocking=True) for name, values in self.maps.items()}
        return self


@dataclass(frozen=True)
class ShardStream:
    """The samples that a process reads from a set, from a step on.

    The n-th of its slots is read by worker n modulo their number, so that every sample is read by one worker whatever the
    step, and the batches do not depend on the number of workers.
    """

    shards: Sequence[Shard]
    order: SampleOrder
    own: range
    """This process's slots."""
    batch: int
    """Samples of a micro-batch; `own` holds several micro-batches of a step, one after the other."""
    step: int
    """The first step."""
    maps: tuple[str, ...]
    """Those that are read: `depth`, `normal`."""
    size: int
    """Side of the squares."""

    def read(self, device: torch.device, workers: int) -> Iterator[PixelBatch]:
        """Yield the micro-batches on a device, without end.

        Raises:
            UserError: a shard cannot be read, or holds nothing that can be used, or a worker died.
        """
        workers = min(workers, len(self.own))
        context = _context() if workers else None
        loader: DataLoader[Any] = DataLoader(
            _Parts(self),
            batch_size=None,
            collate_fn=_as_it_is,
            num_workers=workers,
            multiprocessing_context=context,
            worker_init_fn=_begin if workers else None,
            prefetch_factor=AHEAD if workers else None,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # else it would draw from the generator of the training
        )
        items = _living(loader)
        while True:
            yield _joined([next(items) for _ in range(max(workers, 1))], device)

    def part(self, worker: int, workers: int) -> Iterator[PixelBatch | None]:
        """Yield a worker's part of every micro-batch; `None` where it has none."""
        readers = {slot: self._squares(slot) for slot in self.own[worker::workers]}
        while True:
            for start in range(0, len(self.own), self.batch):
                rows = [row for row in range(self.batch) if (start + row) % workers == worker]
                yield _stacked(rows, [next(readers[self.own[start + row]]) for row in rows]) if rows else None

    def _squares(self, slot: int) -> Iterator[tuple[Crop, list[tuple[str, str]]]]:
        """Yield a slot's samples, and for each the unusable ones that it stands in for."""
        samples: Iterator[Raw] = iter(())
        position = None
        for block in self.order.walk(slot, self.step):
            place = self.shards[block.shard].location
            if position != (block.shard, block.start):
                samples = read_samples(place, block.start)
            neighbours = list(islice(samples, len(block.order)))
            if len(neighbours) < len(block.order):
                raise too_few_samples(self.shards[block.shard], block.start + len(neighbours))
            position = block.shard, block.start + len(neighbours)
            yield from self._usable(block, neighbours)

    def _usable(self, block: ShuffleBlock, neighbours: Sequence[Raw]) -> Iterator[tuple[Crop, list[tuple[str, str]]]]:
        """Yield the samples of a block in its order.

        An unusable sample is replaced by the next usable one, so that no position of the run moves.
        """
        ring = [neighbours[index] for index in block.order]
        place = self.shards[block.shard].location
        for first in range(block.done, len(ring)):
            replaced = []
            for raw in ring[first:] + ring[:first]:
                try:
                    square = crop_sample(raw, self.maps, self.size)
                except UnusableSample as error:
                    replaced.append((str(error), f"{raw['__key__']} of {place}"))
                    continue
                yield square, replaced[:1]
                break
            else:
                end = block.start + len(ring) - 1
                raise UserError(
                    f"none of the samples {block.start} to {end} of {place} can be used: {replaced[0][0]}",
                    hint="missing maps: data.label makes them while training, `jointnet prepare --label` beforehand",
                )


@dataclass(frozen=True)
class _Fault:
    """A `UserError` as data: an exception from a worker process would arrive with its traceback as its message."""

    message: str
    hint: str | None


class _Parts(IterableDataset[Any]):
    """`ShardStream.part` of the worker that asks."""

    def __init__(self, stream: ShardStream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[PixelBatch | _Fault | None]:
        info = get_worker_info()
        try:
            yield from self._stream.part(info.id, info.num_workers) if info else self._stream.part(0, 1)
        except UserError as error:
            yield _Fault(str(error), error.hint)


def _living(loader: Iterable[Any]) -> Iterator[PixelBatch | None]:
    """Yield what the workers send, while they can."""
    try:
        for item in loader:
            if isinstance(item, _Fault):
                raise UserError(item.message, item.hint)
            yield item
    except RuntimeError as error:
        if "exited unexpectedly" not in str(error):
            raise
        hint = "out of memory? Less is needed with fewer data.workers or a smaller data.shuffle"
        raise UserError("a process that reads the shards died", hint=hint) from error


def _stacked(rows: list[int], found: Sequence[tuple[Crop, list[tuple[str, str]]]]) -> PixelBatch:
    squares = [square for square, _ in found]
    return PixelBatch(
        rows,
        torch.from_numpy(np.stack([square.image for square in squares])),
        {name: torch.from_numpy(np.stack([square.maps[name] for square in squares])) for name in squares[0].maps},
        [square.caption for square in squares],
        torch.tensor([square.crop_conditioning for square in squares], dtype=torch.float32),
        [note for _, notes in found for note in notes],
    )


def _joined(parts: Iterable[PixelBatch | None], device: torch.device) -> PixelBatch:
    """Return the parts of all workers in the order of the micro-batch."""
    there = [part.to(device) for part in parts if part is not None]
    if len(there) == 1:
        return there[0]
    rows = [row for part in there for row in part.rows]
    order = sorted(range(len(rows)), key=rows.__getitem__)
    captions = [caption for part in there for caption in part.captions]
    return PixelBatch(
        sorted(rows),
        torch.cat([part.images for part in there])[order],
        {name: torch.cat([part.maps[name] for part in there])[order] for name in there[0].maps},
        [captions[index] for index in order],
        torch.cat([part.crop_conditioning for part in there])[order],
        [note for part in there for note in part.replaced],
    )


def _as_it_is(item: Any) -> Any:
    return item


def _context() -> Any:
    """Return processes that inherit neither CUDA nor threads; the server they come from imports this module once."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _begin(worker: int) -> None:
    """Let a worker ignore Ctrl-C, which is the training's, and end with the training even if that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
