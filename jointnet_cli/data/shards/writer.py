"""The three files of a downloaded shard change together, whenever the program is killed.

New files lie under hidden names beside the old ones; the stats file is the last that gets such a name, in one step. While it
is not there, the shard is what it was before; once it is there, the shard is the new one, and whoever comes next finishes
the renaming.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from jointnet_cli.data.shards.format import stats_path
from jointnet_cli.files.atomic import claim_path
from jointnet_cli.files.text import to_json


def records_path(shard: Path) -> Path:
    """Where the record of every wanted image of a shard lies, as img2dataset has it."""
    return shard.with_suffix(".parquet")


def results_path(shard: Path) -> Path:
    """Where the results of a shard lie on their way into its parquet file."""
    return shard.with_name(f".{shard.stem}.jsonl")


def members_path(shard: Path) -> Path:
    """The folder where images of other shards lie until this one is written."""
    return shard.with_name(f".{shard.stem}.source")


def pending(path: Path) -> Path:
    """The name of a file's new content."""
    return path.with_name(f".{path.name}.new")


def commit(shard: Path, stats: dict[str, Any]) -> None:
    """Put the pending tar and parquet of a shard in place, with their stats."""
    written = pending(shard.with_suffix(".json"))
    written.write_text(to_json(stats, indent=1), encoding="utf-8")
    written.replace(pending(stats_path(shard)))
    roll_forward(shard)


def has_leftovers(shard: Path) -> bool:
    """Whether a killed run left something behind, or another process is at the shard."""
    left = (*_temporary(shard), pending(stats_path(shard)), members_path(shard), claim_path(shard))
    return any(path.exists() for path in left)


def roll_forward(shard: Path) -> None:
    """Finish a commit that was interrupted, or forget one that had not begun; only the holder of the claim may."""
    decided = pending(stats_path(shard))
    if decided.exists():
        for path in (shard, records_path(shard)):
            if pending(path).exists():
                pending(path).replace(path)
        decided.replace(stats_path(shard))
    for path in _temporary(shard):
        path.unlink(missing_ok=True)
    shutil.rmtree(members_path(shard), ignore_errors=True)


def _temporary(shard: Path) -> tuple[Path, ...]:
    """What is worth nothing unless the stats file's new content is there."""
    names = (shard, records_path(shard), shard.with_suffix(".json"))
    return (*map(pending, names), results_path(shard))
