"""Run a preparation on the machines of a Ray cluster."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from jointnet_cli.data.job import PrepareJob, Tally, Watch
from jointnet_cli.data.web.download import download_shards
from jointnet_cli.errors import UserError

LOCAL = "local"

BATCH = 4
"""Shards of one task: they overlap, so that none waits for the stragglers of another."""


def gather_on_ray(
    job: PrepareJob, numbers: Sequence[int], tally: Tally, address: str, watch: Watch | None = None
) -> None:
    """Do what `download_shards` does, on the workers of a Ray cluster; as many tasks run as the cluster has cores.

    Args:
        job: its folder has to be the same on every machine.
        numbers: the shards.
        tally: counts what was done.
        address: of the cluster, or `local` for one that is started on this machine and stopped at the end.
        watch: called when a task is done.

    Raises:
        UserError: Ray is not installed, or the cluster does not answer.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError("--cluster ray needs Ray", hint='pip install "jointnet-cli[cluster]"') from error
    try:
        place = {"include_dashboard": False} if address == LOCAL else {"address": address}
        ray.init(**place, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f"no Ray cluster at {address}: {error}", hint="`ray status` tells") from error
    try:
        remote = ray.remote(num_cpus=1, max_retries=3)(_work)
        batches = _batches(numbers)
        running = [remote.remote(job, batch) for batch in _take(batches, int(ray.cluster_resources().get("CPU", 1)))]
        while running:
            (ready, *_), running = ray.wait(running)
            tally.add(ray.get(ready))
            running += [remote.remote(job, batch) for batch in _take(batches, 1)]
            if watch:
                watch(tally)
    finally:
        ray.shutdown()


def _work(job: PrepareJob, numbers: Sequence[int]) -> Tally:
    tally = Tally()
    download_shards(job, numbers, tally)
    return tally


def _batches(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    return (numbers[start : start + BATCH] for start in range(0, len(numbers), BATCH))


def _take(batches: Iterator[Any], count: int) -> list[Any]:
    return [batch for _, batch in zip(range(count), batches, strict=False)]
