"""Run a preparation on this machine, or on the machines of a Ray cluster."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from jointnet_cli.data.job import PrepareJob, Show, Tally
from jointnet_cli.data.shards.writer import finish_killed
from jointnet_cli.data.web.download import download_shards
from jointnet_cli.data.worlds.dataset import render_shards
from jointnet_cli.errors import UserError

LOCAL = "local"

BATCH = 4
"""Shards of one task: they overlap, so that none waits for the stragglers of another."""


def prepare(job: PrepareJob, show: Show | None = None) -> Tally:
    """Make the missing shards of this worker. An interrupted run leaves whole shards only; the next run continues.

    Shards that another process holds are left to it.

    Args:
        job: on a cluster its folder has to be the same on every machine.
        show: called with the state of the run from time to time.

    Raises:
        UserError: Ray is not installed, or the cluster does not answer.
    """
    finish_killed(job.out)
    tally = Tally(total=sum(map(job.missing, job.shards)))
    show = show or (lambda tally: None)
    show(tally)  # nothing is done yet, and how much there is to do is known
    if job.cluster is None:
        _make_shards(job, job.shards, tally, show)
    else:
        _run_on_ray(job, job.cluster, tally, show)
    return tally


def _make_shards(job: PrepareJob, numbers: Sequence[int], tally: Tally, show: Show) -> None:
    if job.plan.is_worlds:
        render_shards(job, numbers, tally, show)
    else:
        download_shards(job, numbers, tally, show)


def _run_on_ray(job: PrepareJob, address: str, tally: Tally, show: Show) -> None:
    """Send batches of shards to the cluster; as many tasks run as the cluster has cores."""
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
        numbers, job = job.shards, replace(job, processes=1)
        batches = (numbers[start : start + BATCH] for start in range(0, len(numbers), BATCH))
        running = [remote.remote(job, batch) for batch in islice(batches, int(ray.cluster_resources().get("CPU", 1)))]
        while running:
            (ready, *_), running = ray.wait(running)
            tally.add(ray.get(ready))
            running += [remote.remote(job, batch) for batch in islice(batches, 1)]
            show(tally)
    finally:
        ray.shutdown()


def _work(job: PrepareJob, numbers: Sequence[int]) -> Tally:
    tally = Tally()
    _make_shards(job, numbers, tally, lambda tally: None)
    return tally
