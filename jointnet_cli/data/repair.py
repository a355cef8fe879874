"""Make damaged and missing files of a set again: records from tars, shards from the plan."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

from jointnet_cli.data.job import PrepareJob
from jointnet_cli.data.plan import WORLDS_FILE, Plan, read_plan, read_world_facts
from jointnet_cli.data.report import REPORT
from jointnet_cli.data.rows import RESULTS, shard_name
from jointnet_cli.data.settings import PrepareSettings, prepare_settings
from jointnet_cli.data.shards.archive import read_entries
from jointnet_cli.data.shards.format import PLAN, stats_path
from jointnet_cli.data.shards.writer import claim_shard, records_path
from jointnet_cli.data.verify import ShardCheck
from jointnet_cli.errors import UserError
from jointnet_cli.files.atomic import set_aside
from jointnet_cli.files.paths import file_digest
from jointnet_cli.files.text import load_json
from jointnet_cli.recipe_file import merge


def open_set(folder: Path, shards: Sequence[Path]) -> Plan | None:
    """Return the plan of a set; `None` for shards that were not made here.

    The plan of rendered worlds ends with the last shard: `worlds.json` does not state their number.

    Raises:
        UserError: it is damaged.
    """
    if (folder / PLAN).exists():
        plan = read_plan(folder / PLAN)
        plan.require_rows()
        return plan
    if not (folder / WORLDS_FILE).exists():
        return None
    facts = read_world_facts(folder / WORLDS_FILE)
    size = facts["shard_size"]
    return Plan(facts, _limit(folder, size, shards), size)


def planned_shards(folder: Path, plan: Plan | None, shards: Sequence[Path]) -> list[Path]:
    """Return the shards that a finished set has: those of its last report, and all up to the last that is there."""
    if plan is None:
        return []
    numbers = plan.shards(_limit(folder, plan.shard_size, shards))
    return [folder / f"{shard_name(number)}.tar" for number in numbers]


def repair_records(check: ShardCheck, plan: Plan | None) -> bool:
    """Write the records of a shard whose tar is sound, or rename the files of one whose tar is damaged.

    Files are renamed to `NAME.aside-1` and so on. Without a plan, a damaged tar stays as it is.

    Returns:
        Whether the shard is now missing.

    Raises:
        UserError: another process holds the shard.
    """
    path = check.path
    if check.tar and plan is None:
        return False
    with claim_shard(path) as shard:
        if shard is None:
            raise UserError(f"another process is writing {path}")
        if check.tar:
            for file in (path, stats_path(path), records_path(path)):
                if file.exists():
                    set_aside(file)
            return True
        stats: dict[str, Any] = {} if check.stats else shard.stats
        counts: dict[str, Any] = {"count": check.samples}
        if plan is not None and not plan.is_worlds:
            from jointnet_cli.data.web.download import read_records, status_counts, write_records

            if check.records:
                found = {entry.key: {name: entry.record.get(name) for name in RESULTS} for entry in read_entries(path)}
                write_records(plan, int(path.stem), shard, found)
            else:
                found = read_records(path)
            counts = status_counts(found)
        hashes = {"sha256": file_digest(path)}
        if not check.records and records_path(path).exists():
            hashes["records_sha256"] = file_digest(records_path(path))
        shard.commit(stats | counts | hashes | {"shard": path.name})
    return False


def repair_job(folder: Path, plan: Plan, shards: Sequence[Path], flags: Mapping[str, Any]) -> PrepareJob:
    """Return the job that makes the missing shards of a set again, with the settings that its plan states.

    Args:
        folder: of the set.
        plan: of the set.
        shards: of the set, before damaged ones are renamed: the last one states how many images there are.
        flags: tables of settings that replace those of the plan, which states none of the network.

    Raises:
        UserError: settings that are not valid.
    """
    return PrepareJob(folder, plan, _settings(plan, flags), _limit(folder, plan.shard_size, shards))


def _settings(plan: Plan, flags: Mapping[str, Any]) -> PrepareSettings:
    facts, values = plan.facts, dict[str, Any]()
    if plan.is_worlds:
        values = {"image": {"size": facts["size"]}}
    else:
        image = facts["image"]
        tables = {field.name: field.default for field in fields(PrepareSettings) if field.name in ("image", "fetch")}
        values = {
            name: {key: value for key, value in image.items() if hasattr(table, key)} for name, table in tables.items()
        }
        values |= {"columns": facts["columns"], "filter": facts["filter"]}
    values["shards"] = {"size": plan.shard_size}
    merge(values, flags)
    return prepare_settings(flags=values, worlds=plan.is_worlds)


def _limit(folder: Path, size: int, shards: Sequence[Path]) -> int:
    """Return the number of wanted images of a set: the larger of what its last report and its last shard's stats state.

    If these stats are lost, the last shard counts as full unless the report's images end in it.
    """
    last = max((path for path in shards if path.stem.isdecimal()), default=None)
    wanted = _stated(folder / REPORT, "images", "wanted") or 0
    if last is None:
        return wanted
    start, count = int(last.stem) * size, _stated(stats_path(last), "count")
    if count is None:
        return wanted if wanted > start else start + size
    return max(wanted, start + min(count, size))


def _stated(path: Path, *keys: str) -> int | None:
    """Return a number in a JSON file; `None` if the file is missing or damaged."""
    with contextlib.suppress(UserError, OSError, ValueError, KeyError, TypeError, OverflowError):
        return int(reduce(getitem, keys, load_json(path)))
    return None
