"""Label existing shards: the maps of teachers are added to every sample, a shard at a time, whole or not at all."""

from __future__ import annotations

import json
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from jointnet_cli.data.annotate import annotate, decode, origin
from jointnet_cli.data.claim import claim
from jointnet_cli.data.labeller import Labeller, open_labeller, open_teacher
from jointnet_cli.data.members import Entry, read_entries, write_entry
from jointnet_cli.data.shards import sample_count, stats_path
from jointnet_cli.errors import UserError
from jointnet_cli.output.atomic import write_text
from jointnet_cli.strict_json import to_json

__all__ = ["LabelReport", "Labeller", "label_shards", "open_labeller", "open_teacher"]

WINDOW = 8
"""Batches of samples in memory: images of one size are gathered from so many."""
EXAMPLES = 20
"""Failures that are reported in words; all are counted."""
Progress = Callable[[int, int], None]


@dataclass
class LabelReport:
    """What `label_shards` did."""

    labelled: Counter[str] = field(default_factory=Counter)
    """Maps made, by modality."""
    failed: Counter[str] = field(default_factory=Counter)
    """Maps that could not be made, by the class of the failure."""
    examples: list[str] = field(default_factory=list)
    """The first of these failures."""
    written: list[Path] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)
    """Shards that had the maps of these very teachers before."""
    busy: list[Path] = field(default_factory=list)
    """Shards that another process was writing."""
    hopeless: list[Path] = field(default_factory=list)
    """Shards of which no sample could be labelled; they are as they were."""
    seconds: float = 0.0


@dataclass
class Tally:
    """How one shard stands with one labeller."""

    labelled: int = 0
    failed: Counter[str] = field(default_factory=Counter)


def label_shards(
    shards: Sequence[Path],
    labellers: Sequence[Labeller],
    *,
    batch: int = 16,
    replace: bool = False,
    progress: Progress | None = None,
) -> LabelReport:
    """Add the labellers' maps to every sample of complete shards.

    A shard is rewritten under a temporary name and renamed; members that are no label keep their order and bytes. What
    was labelled by the same teacher in the same way is skipped, so that a run that was cut off goes on. A sample that
    cannot be labelled stays without the map and is counted.

    Args:
        shards: tar files with their stats files.
        labellers: at most one for each modality.
        batch: images that a labeller gets at once.
        replace: whether maps of another origin are replaced.
        progress: called with the samples done and their number.

    Raises:
        UserError: a shard has such a map from elsewhere, and `replace` is not given.
    """
    started = time.monotonic()
    report, done = LabelReport(), 0
    counts = [sample_count(shard) for shard in shards]
    for shard, count in zip(shards, counts, strict=True):

        def advance(inside: int, before: int = done) -> None:
            if progress:
                progress(before + inside, sum(counts))

        with claim(shard) as partial:
            if partial is None:
                report.busy.append(shard)
            # Read only now: another process may have finished it meanwhile.
            elif todo := [labeller for labeller in labellers if not _is_labelled(shard, labeller, replace)]:
                _label_shard(shard, partial, todo, batch, report, advance)
            else:
                report.skipped.append(shard)
        done += count
        advance(count)
    report.seconds = time.monotonic() - started
    return report


def _is_labelled(shard: Path, labeller: Labeller, replace: bool) -> bool:
    """Whether all of a shard is labelled by this labeller, as its stats say or, where a kill came before them, its samples."""
    recorded = _read_stats(shard).get("labels", {}).get(labeller.modality, {})
    if recorded.get("hash") == labeller.hash:
        return True
    origins = Counter(origin(entry, labeller.modality) for entry in read_entries(shard))
    if origins.total() == origins[labeller.hash]:
        _write_stats(shard, {labeller.modality: _summary(labeller, Tally(origins.total()))})
        return True
    if origins.keys() - {None, labeller.hash} and not replace:
        raise UserError(
            f"{shard} has {labeller.modality} maps from {recorded.get('teacher', 'elsewhere')}",
            hint="leave that map out of --label, or give --relabel to replace them",
        )
    return False


def _label_shard(
    shard: Path,
    partial: Path,
    labellers: Sequence[Labeller],
    batch: int,
    report: LabelReport,
    advance: Callable[[int], None],
) -> None:
    tallies = {labeller.modality: Tally() for labeller in labellers}
    count = 0
    with tarfile.open(partial, "w") as tar:
        for entries in _windows(read_entries(shard), WINDOW * batch):
            pictures = decode(entries)
            for labeller in labellers:
                done, tally = annotate(entries, pictures, labeller, batch), tallies[labeller.modality]
                tally.labelled += done.kept + done.made
                tally.failed.update(done.failures.values())
                report.labelled[labeller.modality] += done.made
                words = [f"{key}: no {labeller.modality}: {failure}" for key, failure in done.failures.items()]
                report.examples += words[: EXAMPLES - len(report.examples)]
            for entry in entries:
                write_entry(tar, entry)
            count += len(entries)
            advance(count)
    report.failed += sum((tally.failed for tally in tallies.values()), Counter())
    if not any(tally.labelled for tally in tallies.values()):
        report.hopeless.append(shard)
        return
    partial.replace(shard)
    _write_stats(shard, {each.modality: _summary(each, tallies[each.modality]) for each in labellers})
    report.written.append(shard)


def _windows(entries: Iterator[Entry], size: int) -> Iterator[list[Entry]]:
    while window := list(islice(entries, size)):
        yield window


def _summary(labeller: Labeller, tally: Tally) -> dict[str, Any]:
    counts = {"labelled": tally.labelled, "failed": dict(tally.failed)}
    return {"teacher": labeller.name, "hash": labeller.hash, **counts}


def _read_stats(shard: Path) -> dict[str, Any]:
    stats: dict[str, Any] = json.loads(stats_path(shard).read_text(encoding="utf-8"))
    return stats


def _write_stats(shard: Path, labels: dict[str, Any]) -> None:
    stats = _read_stats(shard)
    write_text(stats_path(shard), to_json(stats | {"labels": stats.get("labels", {}) | labels}))
