"""Shards of the tests: written from members; those of a folder, and all their samples."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jointnet_cli.data.shards.format import Sample, pack
from jointnet_cli.data.shards.index import list_shards
from jointnet_cli.data.shards.shard_set import ShardSet
from jointnet_cli.data.shards.writer import claim_shard
from jointnet_cli.errors import UserError


def write_tar(path: Path, members: Mapping[str, bytes], **options: Any) -> Path:
    with tarfile.open(path, "w", **options) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def write_shard(path: Path, samples: Iterable[Sample]) -> int:
    """Write one shard and its stats file, whole or not at all; return the number of samples.

    Raises:
        UserError: another process is writing it.
    """
    with claim_shard(path) as shard:
        if shard is None:
            raise UserError(f"another process is writing {path}")
        count = shard.write(map(pack, samples))
        shard.commit({"count": count, "shard": path.name})
    return count


def find_shards(source: str | Path) -> list[Path]:
    return [Path(location) for location in list_shards(source)]


def read_shards(shards: Iterable[Path], maps: Collection[str] = ("depth", "normal")) -> Iterator[Sample]:
    for shard in shards:
        yield from ShardSet.open(shard).samples(maps)
