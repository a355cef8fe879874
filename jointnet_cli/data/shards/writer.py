"""Write one shard: its tar, its records and its stats change together, whenever the program is killed.

New files lie under hidden names beside the old ones; the stats file is the last that gets such a name, in one rename. Until
then the shard is what it was before; from then on it is the new one, and the next holder of the shard finishes the renaming.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jointnet_cli.data.shards.archive import Entry, read_entries, write_entry
from jointnet_cli.data.shards.format import (
    damaged_shard,
    is_complete,
    read_stats,
    require_recorded_hash,
    sample_count,
    stats_path,
)
from jointnet_cli.files.atomic import claim, open_new
from jointnet_cli.files.paths import file_digest
from jointnet_cli.files.text import to_json


@contextmanager
def claim_shard(path: Path) -> Iterator[ShardWriter | None]:
    """Lock a shard, or yield `None` while another process holds it. A killed commit is finished first."""
    with claim(path) as held:
        if held is None:
            yield None
            return
        _roll_forward(path)
        try:
            yield ShardWriter(path)
        finally:
            if not _pending(stats_path(path)).exists():
                _discard(path)


class ShardWriter:
    """A claimed shard: what it holds, and its new content."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records = _pending(records_path(path))
        """Where the new parquet file of a download is written before the commit."""
        self.results = _results_path(path)
        """Where the results lie from which that file is made."""

    @property
    def count(self) -> int:
        """Number of samples in the shard; 0 where it is not complete."""
        return sample_count(self.path)

    @property
    def stats(self) -> dict[str, Any]:
        """Content of the stats file; empty where the shard is not complete."""
        return read_stats(self.path)

    def require_sound(self) -> None:
        """Compare the files of the shard, if it is complete, with their recorded SHA-256.

        Raises:
            DamagedShard: one differs.
        """
        if is_complete(self.path):
            require_recorded_hash(self.path)
            require_recorded_hash(self.path, "records_sha256", records_path(self.path))

    def entries(self) -> Iterator[Entry]:
        """Stream the samples of the shard; none where it is not complete.

        Raises:
            DamagedShard: it cannot be read to its end, or has fewer samples than recorded.
        """
        if not is_complete(self.path):
            return
        found = 0
        for entry in read_entries(self.path):
            found += 1
            yield entry
        if found < self.count:
            raise damaged_shard(self.path, f"it has {found} samples rather than {self.count}")

    def write(self, entries: Iterable[Entry]) -> int:
        """Write the new tar beside the old one and return its number of samples."""
        count = 0
        with open_new(_pending(self.path)) as file, tarfile.open(fileobj=file, mode="w") as tar:
            for entry in entries:
                write_entry(tar, entry)
                count += 1
        return count

    def commit(self, stats: dict[str, Any]) -> None:
        """Put what was written in place, with its stats and the SHA-256 of every file."""
        for key, path in {"sha256": self.path, "records_sha256": records_path(self.path)}.items():
            if (new := _pending(path)).exists():
                stats = {**stats, key: file_digest(new)}
        written = _pending(self.path.with_suffix(".json"))
        with open_new(written) as file:
            file.write(to_json(stats, indent=1).encode())
        written.replace(_pending(stats_path(self.path)))
        _roll_forward(self.path)


def records_path(shard: Path) -> Path:
    """Return the path of the parquet file that records every row of a shard, as in img2dataset."""
    return shard.with_suffix(".parquet")


def finish_killed(folder: Path) -> None:
    """Finish the commits of killed runs and remove their other files; shards that another process holds are left to it."""
    stems = {path.name[1:].partition(".")[0].removesuffix("_stats") for path in folder.glob(".*.*")}
    for stem in sorted(filter(str.isdecimal, stems)):
        with claim_shard(folder / f"{stem}.tar"):
            pass


def _results_path(shard: Path) -> Path:
    return shard.with_name(f".{shard.stem}.jsonl")


def _pending(path: Path) -> Path:
    """Return the name of a file's new content."""
    return path.with_name(f".{path.name}.new")


def _roll_forward(shard: Path) -> None:
    """Finish a commit that was interrupted, or remove the files of one that had not begun."""
    decided = _pending(stats_path(shard))
    if decided.exists():
        for path in (shard, records_path(shard)):
            if _pending(path).exists():
                _pending(path).replace(path)
        decided.replace(stats_path(shard))
    _discard(shard)


def _discard(shard: Path) -> None:
    """Remove files that are worthless unless the new stats file is there."""
    names = (shard, records_path(shard), shard.with_suffix(".json"))
    for path in (*map(_pending, names), _results_path(shard)):
        path.unlink(missing_ok=True)
