"""`jointnet prepare --source worlds`: render procedural scenes into shards, one process a core, resumable by shard."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from jointnet_cli.data.shards.format import pack, sample_count
from jointnet_cli.data.shards.writer import claim_shard, has_leftovers
from jointnet_cli.data.worlds.grammar import TILTED
from jointnet_cli.data.worlds.world import EVALUATION_SEEDS
from jointnet_cli.errors import UserError
from jointnet_cli.files.text import to_json
from jointnet_cli.progress import Progress

if TYPE_CHECKING:
    from jointnet_cli.data.shards.format import Sample

RENDER_BATCH = 16


@dataclass(frozen=True)
class PrepareWorlds:
    """Render `count` worlds with seeds from `seed` on into `out`.

    Raises:
        UserError: seeds that are reserved for evaluation without `evaluation`, or the reverse; sizes out of range.
    """

    out: Path
    count: int
    size: int = 128
    """Pixels of a side."""
    seed: int | None = None
    """Of the first world; `None` is 0, and the first reserved seed for an evaluation set."""
    evaluation: bool = False
    workers: int | None = None
    """Processes; `None` takes one a core."""
    shard_size: int = 500
    tilted: float | None = None
    """Share of the worlds whose camera looks up, down or wide; `None` is `TILTED`, and 0 for an evaluation set."""

    def __post_init__(self) -> None:
        if self.tilted is not None and not 0 <= self.tilted <= 1:
            raise UserError(f"--tilted must be between 0 and 1, got {self.tilted:g}")
        if self.count < 1 or self.size < 16 or self.shard_size < 1 or self.first_seed < 0:
            raise UserError("count and shard size must be at least 1, size at least 16, seed at least 0")
        if not self.evaluation and self.first_seed + self.count > EVALUATION_SEEDS:
            raise UserError(
                f"world seeds from {EVALUATION_SEEDS} on are reserved for evaluation",
                hint="choose a smaller --seed, or give --evaluation for a set that is never trained on",
            )
        if self.evaluation and self.first_seed < EVALUATION_SEEDS:
            raise UserError(
                f"an evaluation set needs world seeds from {EVALUATION_SEEDS} on", hint=f"--seed {EVALUATION_SEEDS}"
            )
        if self.workers is not None and self.workers < 1:
            raise UserError("workers must be at least 1")

    @property
    def first_seed(self) -> int:
        """Seed of the first world."""
        if self.seed is None:
            return EVALUATION_SEEDS if self.evaluation else 0
        return self.seed

    @property
    def tilted_share(self) -> float:
        """Share of the worlds with a tilted camera."""
        if self.tilted is None:
            return 0.0 if self.evaluation else TILTED
        return self.tilted

    def shards(self) -> list[tuple[Path, range]]:
        """Every shard with the world seeds in it."""
        last = self.first_seed + self.count
        starts = range(self.first_seed, last, self.shard_size)
        return [
            (self.out / f"{number:05}.tar", range(start, min(start + self.shard_size, last)))
            for number, start in enumerate(starts)
        ]


@dataclass
class PrepareReport:
    """What `prepare` did."""

    written: int = 0
    skipped: int = 0
    """Samples in shards that were complete before."""
    shards: list[Path] = field(default_factory=list)
    seconds: float = 0.0


def prepare_worlds(request: PrepareWorlds, progress: Progress | None = None) -> PrepareReport:
    """Render the missing shards. Interrupted, it leaves whole shards only; run again, it goes on."""
    started = time.monotonic()
    request.out.mkdir(parents=True, exist_ok=True)
    _check_same_set(request)
    report = PrepareReport()
    missing = []
    for shard, seeds in request.shards():
        report.shards.append(shard)
        report.skipped += min(sample_count(shard), len(seeds))
        if sample_count(shard) < len(seeds) or has_leftovers(shard):
            missing.append((shard, seeds))
    for written in _render_all(missing, request):
        report.written += written
        if progress:
            progress(report.skipped + report.written, request.count)
    report.seconds = time.monotonic() - started
    return report


def _render_all(missing: list[tuple[Path, range]], request: PrepareWorlds) -> Iterator[int]:
    workers = min(request.workers or os.cpu_count() or 1, len(missing))
    if workers <= 1:
        for shard, seeds in missing:
            yield _render_shard(shard, seeds, request)
        return
    # Spawned, not forked: torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker) as pool:
        # A few at a time: a pool that is handed thousands of jobs at once can lock itself up on its own pipe.
        waiting = iter(missing)
        jobs = {pool.submit(_render_shard, *shard, request) for shard in islice(waiting, 2 * workers)}
        try:
            while jobs:
                done, jobs = wait(jobs, return_when=FIRST_COMPLETED)
                jobs |= {pool.submit(_render_shard, *shard, request) for shard in islice(waiting, len(done))}
                yield from (job.result() for job in done)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise


def _start_worker() -> None:
    """One thread a process; Ctrl-C is the parent's to answer, which then ends the workers."""
    import signal

    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


def _render_shard(path: Path, seeds: range, request: PrepareWorlds) -> int:
    """Render the worlds that a shard lacks and return their number; 0 where another process is writing it."""
    with claim_shard(path) as shard:
        if shard is None:
            return 0
        missing = seeds[shard.count :]  # a set that grows keeps what it has
        if missing:
            fresh = map(pack, render_samples(missing, request.size, request.tilted_share))
            count = shard.write(chain(shard.entries(), fresh))
            shard.commit({"count": count, "shard": path.name})
        return len(missing)


def render_samples(seeds: range, size: int, tilted: float) -> Iterator[Sample]:
    """Render worlds in batches, a share of them with a tilted camera, and turn each into a sample."""
    from jointnet_cli.data.shards.format import Sample
    from jointnet_cli.data.worlds.captions import caption
    from jointnet_cli.data.worlds.grammar import sample_world
    from jointnet_cli.data.worlds.renderer import render
    from jointnet_cli.tensors import inverse_depth

    for start in range(seeds.start, seeds.stop, RENDER_BATCH):
        worlds = [sample_world(seed, tilted) for seed in range(start, min(start + RENDER_BATCH, seeds.stop))]
        pictures = render(worlds, size)
        images = (pictures.rgb * 255).round().byte().permute(0, 2, 3, 1).numpy()
        depths = inverse_depth(pictures.depth).numpy()
        normals = pictures.normals.permute(0, 2, 3, 1).numpy()
        for index, world in enumerate(worlds):
            record = {"seed": world.seed, "scene": world.to_json(size)}
            text = caption(world, pictures, index)
            yield Sample(f"{world.seed:012}", images[index], text, depths[index], normals[index], record)


def _check_same_set(request: PrepareWorlds) -> None:
    """Refuse to mix two different sets of worlds in one folder."""
    import json

    marker = request.out / "worlds.json"
    facts = {
        "seed": request.first_seed, "size": request.size, "shard_size": request.shard_size, "tilted": request.tilted_share
    }  # fmt: skip
    if marker.exists():
        before = {"tilted": 0.0, **json.loads(marker.read_text())}  # older sets have no tilted cameras
        if before != facts:
            raise UserError(f"{request.out} holds another set of worlds: {before}", hint="choose another --out")
    else:
        marker.write_text(to_json(facts))
