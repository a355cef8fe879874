"""`jointnet prepare --verify` and `--repair`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jointnet_cli.cli.console import note, progress
from jointnet_cli.cli.prepare_output import live, note_left
from jointnet_cli.errors import UserError
from jointnet_cli.files.text import to_json

if TYPE_CHECKING:
    from jointnet_cli.data.plan import Plan
    from jointnet_cli.data.verify import ShardCheck


def verify_set(folder: Path, *, as_json: bool, quiet: bool) -> bool:
    """Print one line for each fault of a set; return whether it has none.

    Raises:
        UserError: there are no shards.
    """
    _, checks, faults = _check(folder, quiet)
    for fault in faults:
        print(to_json({"fault": fault}) if as_json else fault)
    samples = sum(check.samples for check in checks)
    note(f"{folder}: {samples:,} samples in {len(checks):,} shards, {len(faults) or 'no'} faults", quiet)
    return not faults


def repair_set(folder: Path, flags: Mapping[str, Any], *, as_json: bool, quiet: bool) -> bool:
    """Make what is damaged or missing in a set again; print what is still wrong and return whether nothing is.

    Raises:
        UserError: there are no shards, or the plan is damaged.
    """
    from dataclasses import replace

    from jointnet_cli.data.prepare import prepare
    from jointnet_cli.data.repair import open_set, repair_job, repair_records

    plan, checks, _ = _check(folder, quiet)
    shards = [check.path for check in checks]
    open_set(folder, shards)  # a damaged plan is reported before anything is changed
    wrong = [check for check in checks if check.faults]
    job = repair_job(folder, plan, shards, flags) if plan is not None and wrong else None
    numbers = []
    for check in wrong:
        missing = repair_records(check, plan)
        note(f"{check.path}: {'made again' if missing else 'records written'}: {'; '.join(check.faults)}", quiet)
        if job is not None and (missing or check.records):
            numbers.append(int(check.path.stem))
    if job is not None and numbers:
        with live(f"into {folder}", quiet) as show:
            note_left(prepare(replace(job, numbers=tuple(numbers)), show), quiet)
    return verify_set(folder, as_json=as_json, quiet=quiet)


def _check(folder: Path, quiet: bool) -> tuple[Plan | None, Sequence[ShardCheck], list[str]]:
    """Return the plan of a set, its shards as they are, and all faults."""
    from jointnet_cli.data.repair import open_set, planned_shards
    from jointnet_cli.data.verify import check_shard, set_members

    if not folder.is_dir():
        raise UserError(f"no folder {folder}", hint="name the folder of a set: jointnet prepare --verify shards/worlds")
    plan, faults = None, []
    members = set_members(folder)
    try:
        plan = open_set(folder, members)
    except UserError as fault:
        faults.append(str(fault))
    members = sorted({*members, *planned_shards(folder, plan, members)})
    if not members and not faults:
        raise UserError(f"no shards in {folder}", hint="jointnet prepare worlds --count 64 --out shards/worlds")
    checks = []
    with progress(f"checking {folder}", quiet) as advance:
        for number, path in enumerate(members):
            checks.append(check_shard(path))
            faults += checks[-1].faults
            advance(number + 1, len(members))
    unhashed = sum(not check.hashed for check in checks if not check.faults)
    if unhashed:
        note(f"{folder}: no hash recorded for {unhashed} shards; every member was decoded instead", quiet)
    return plan, checks, faults
