"""Check the shards of a set: hashes, counts, members and records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jointnet_cli.data.plan import WORLDS_FILE
from jointnet_cli.data.rows import SHARD_DIGITS
from jointnet_cli.data.shards.archive import Entry, read_entries
from jointnet_cli.data.shards.format import (
    IMAGES,
    MAP_SUFFIXES,
    PLAN,
    read_stats,
    require_recorded_hash,
    stated_count,
    stats_path,
    unpack,
)
from jointnet_cli.data.shards.writer import records_path
from jointnet_cli.data.web.status import Status
from jointnet_cli.errors import UserError, reading


@dataclass
class ShardCheck:
    """What is wrong with one shard; each fault names its file."""

    path: Path
    tar: list[str] = field(default_factory=list)
    stats: list[str] = field(default_factory=list)
    records: list[str] = field(default_factory=list)
    """Of the parquet file."""
    hashed: bool = False
    """Whether a SHA-256 is recorded."""
    samples: int = 0

    @property
    def faults(self) -> list[str]:
        """All faults."""
        return [*self.tar, *self.stats, *self.records]


def set_members(folder: Path) -> list[Path]:
    """Return the tar paths of all shards that have at least one file in a folder, in order.

    In a set with a plan only files with five digits for a name count. Other sets may name a shard freely; there a parquet file
    counts only beside a tar or stats file.
    """
    stems = {path.stem for path in folder.glob("*.tar")}
    stems |= {path.stem.removesuffix("_stats") for path in folder.glob("*_stats.json")}
    if (folder / PLAN).exists() or (folder / WORLDS_FILE).exists():
        stems |= {path.stem for path in folder.glob("*.parquet")}
        stems = {stem for stem in stems if stem.isdecimal() and len(stem) == SHARD_DIGITS}
    return [folder / f"{stem}.tar" for stem in sorted(stems)]


def check_shard(path: Path) -> ShardCheck:
    """Compare a shard with its records. Without a recorded hash every member is decoded.

    Raises:
        OSError: a file cannot be read.
    """
    found = ShardCheck(path)
    stats: dict[str, Any] | None = None
    if not path.is_file():
        found.tar.append(f"{path} is missing")
    elif not stats_path(path).is_file():
        found.stats.append(f"{stats_path(path)} is missing: the shard is not finished, or its record is lost")
    else:
        try:
            stats = read_stats(path)
        except UserError as fault:
            found.stats.append(str(fault))
    found.hashed = bool(stats and "sha256" in stats)
    if not found.tar:
        with _collected(found.tar):
            if stats:
                require_recorded_hash(path)
            keys = _check_members(found)
            _compare_counts(found, stats, keys)
            if records_path(path).exists() or (stats and "status_dict" in stats):
                _check_records(found, stats, keys)
    return found


@contextmanager
def _collected(faults: list[str]) -> Iterator[None]:
    """Add a `UserError` to a list of faults."""
    try:
        yield
    except UserError as fault:
        faults.append(str(fault))


def _check_members(found: ShardCheck) -> list[str]:
    """Count the samples and return their keys."""
    begins: Counter[str] = Counter()
    for entry in read_entries(found.path):
        begins[entry.key] += 1
        fault = _fault_of(entry, decoded=not found.hashed)
        if fault:
            found.tar.append(f"{found.path}: sample {entry.key}: {fault}")
        found.samples += entry.find(*IMAGES) is not None
    found.tar += [
        f"{found.path}: sample {key}: its files do not follow one another" for key, n in begins.items() if n > 1
    ]
    return list(begins)


def _fault_of(entry: Entry, *, decoded: bool) -> str | None:
    try:
        with reading("it"):
            if decoded and entry.find(*IMAGES) is not None:
                members = {member.suffix: member.content for member in entry.members if member.content is not None}
                unpack({"__key__": entry.key, **members}, tuple(MAP_SUFFIXES))
            else:
                entry.record  # noqa: B018 - it has to be readable
    except UserError as fault:
        return str(fault)
    return None


def _compare_counts(found: ShardCheck, stats: dict[str, Any] | None, keys: list[str]) -> None:
    if stats and stated_count(stats) not in (found.samples, len(keys)):
        words = f"{found.path} has {found.samples} samples, {stats_path(found.path).name} states {stated_count(stats)}"
        (found.stats if found.hashed or found.samples > stated_count(stats) else found.tar).append(words)


def _check_records(found: ShardCheck, stats: dict[str, Any] | None, keys: list[str]) -> None:
    from jointnet_cli.data.web.download import read_records, status_counts

    path = records_path(found.path)
    with _collected(found.records):
        if stats:
            require_recorded_hash(found.path, "records_sha256", path)
        records = read_records(found.path, ("key", "status"))
        succeeded = {key for key, record in records.items() if record["status"] == Status.SUCCESS}
        if differing := succeeded ^ set(keys):
            found.records.append(
                f"{path}: {len(differing)} samples differ from {found.path.name}, first {min(differing)}"
            )
        counts = status_counts(records)
        if stats and any(stats.get(name) != counts[name] for name in ("count", "successes", "status_dict")):
            found.stats.append(f"{stats_path(found.path)}: its counts differ from {path.name}")
