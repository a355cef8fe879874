"""Rendered worlds for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jointnet_cli.data.job import PrepareJob, Show, Tally
from jointnet_cli.data.plan import open_world_plan
from jointnet_cli.data.prepare import prepare
from jointnet_cli.data.settings import prepare_settings


def world_job(
    out: Path, count: int, size: int = 48, shard_size: int = 500, workers: int = 1, **worlds: Any
) -> PrepareJob:
    flags = {"image": {"size": size}, "shards": {"size": shard_size}, "worlds": worlds}
    settings = prepare_settings(flags=flags, worlds=True)
    return PrepareJob(out, open_world_plan(out, settings, count), settings, limit=count, processes=workers)


def make_worlds(out: Path, count: int, show: Show | None = None, **changes: Any) -> Tally:
    """Render worlds into shards, as `jointnet prepare` does."""
    return prepare(world_job(out, count, **changes), show)
