"""Render procedural worlds into shards, one process a core, resumable by shard."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import chain, islice
from typing import TYPE_CHECKING

from jointnet_cli.data.job import IMAGES, PrepareJob, Show, Tally
from jointnet_cli.data.shards.archive import DamagedShard
from jointnet_cli.data.shards.format import pack
from jointnet_cli.data.shards.writer import claim_shard

if TYPE_CHECKING:
    from jointnet_cli.data.shards.format import Sample

RENDER_BATCH = 16


def render_shards(job: PrepareJob, numbers: Sequence[int], tally: Tally, show: Show) -> None:
    """Render the worlds that shards lack. Those that another process holds are left to it."""
    missing = list(filter(job.missing, numbers))
    for number, count in _render_all(job, missing):
        if isinstance(count, DamagedShard):
            tally.damaged.append(count)
        elif count is None:
            tally.busy.append(job.path(number))
        else:
            tally.made[IMAGES] += count
            tally.written.append(job.path(number))
        show(tally)


def _render_all(job: PrepareJob, numbers: list[int]) -> Iterator[tuple[int, int | DamagedShard | None]]:
    workers = min(job.processes or os.cpu_count() or 1, len(numbers))
    if workers <= 1:
        for number in numbers:
            yield number, render_shard(job, number)
        return
    # Spawned, not forked: torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker) as pool:
        # A few at a time: a pool that is handed thousands of jobs at once can lock itself up on its own pipe.
        waiting = iter(numbers)
        running: dict[Future[int | DamagedShard | None], int] = {}

        def submit(count: int) -> None:
            running.update((pool.submit(_work, job, number), number) for number in islice(waiting, count))

        # The workers inherit the mask: Ctrl-C is the parent's, which ends them.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            submit(2 * workers)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            while running:
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                submit(len(done))
                yield from [(running.pop(future), future.result()) for future in done]
        except BaseException:
            for worker in multiprocessing.active_children():
                worker.terminate()
            pool.shutdown(cancel_futures=True)
            raise


def _start_worker() -> None:
    """Use one thread per process, and remove unfinished files on SIGTERM."""
    import torch

    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    torch.set_num_threads(1)


def _work(job: PrepareJob, number: int) -> int | DamagedShard | None:
    """Render a shard in a worker, which ends with SIGTERM: a pool would hand it the next shard."""
    try:
        return render_shard(job, number)
    except SystemExit:
        os._exit(1)


def render_shard(job: PrepareJob, number: int) -> int | DamagedShard | None:
    """Render the worlds that a shard lacks and return their number, or its fault if what it has is damaged.

    `None` means that another process holds the shard.
    """
    try:
        return _render_shard(job, number)
    except DamagedShard as fault:
        return fault


def _render_shard(job: PrepareJob, number: int) -> int | None:
    positions = job.plan.positions(number, job.limit)
    with claim_shard(job.path(number)) as shard:
        if shard is None:
            return None
        shard.require_sound()
        missing = positions[shard.count :]  # a set that grows keeps what it has
        if missing:
            seed, tilted = job.plan.facts["seed"], job.plan.facts["tilted"]
            seeds = range(seed + missing.start, seed + missing.stop)
            fresh = map(pack, render_samples(seeds, job.settings.image.size, tilted))
            count = shard.write(chain(shard.entries(), fresh))
            shard.commit({"count": count, "shard": shard.path.name})
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
