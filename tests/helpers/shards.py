"""Shards of the tests: those of a folder, and all their samples."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from jointnet_cli.data.shards.format import Sample
from jointnet_cli.data.shards.index import list_shards
from jointnet_cli.data.shards.shard_set import ShardSet


def find_shards(source: str | Path) -> list[Path]:
    return [Path(location) for location in list_shards(source)]


def read_shards(shards: Iterable[Path], maps: Collection[str] = ("depth", "normal")) -> Iterator[Sample]:
    for shard in shards:
        yield from ShardSet.open(shard).samples(maps)
