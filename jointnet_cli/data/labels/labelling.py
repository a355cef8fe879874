"""Add predicted maps to the samples of shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jointnet_cli.data.job import Tally
from jointnet_cli.data.labels.teachers import Teacher, open_labeller, open_teacher
from jointnet_cli.data.shards.format import (
    IMAGES,
    MAP_SUFFIXES,
    Entry,
    encode_depth,
    encode_normal,
    sample_count,
)
from jointnet_cli.data.shards.writer import ShardWriter, claim_shard
from jointnet_cli.errors import UserError
from jointnet_cli.progress import Progress

__all__ = ["Teacher", "label_shards", "open_labeller", "open_teacher"]

WINDOW = 8
"""Batches of samples in memory: images of one size are gathered from so many."""

EXAMPLES = 20
"""Failures that are reported in words; all are counted."""


@dataclass
class LabelTally:
    """How one shard stands with one labeller."""

    labelled: int = 0
    failed: Counter[str] = field(default_factory=Counter)


def label_shards(
    shards: Sequence[Path],
    labellers: Sequence[Teacher],
    *,
    batch: int = 16,
    replace: bool = False,
    progress: Progress | None = None,
) -> Tally:
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
    tally, done = Tally(), 0
    counts = [sample_count(shard) for shard in shards]
    for shard, count in zip(shards, counts, strict=True):

        def advance(inside: int, before: int = done) -> None:
            if progress:
                progress(before + inside, sum(counts))

        with claim_shard(shard) as held:
            if held is None:
                tally.busy.append(shard)
            # Read only now: another process may have finished it meanwhile.
            elif todo := [labeller for labeller in labellers if not _is_labelled(held, labeller, replace)]:
                _label_shard(held, todo, batch, tally, advance)
            else:
                tally.skipped.append(shard)
        done += count
        advance(count)
    return tally


def _is_labelled(shard: ShardWriter, labeller: Teacher, replace: bool) -> bool:
    """Whether a whole shard is labelled by this labeller, as its stats say or, where they say nothing, its samples."""
    recorded = shard.stats.get("labels", {}).get(labeller.modality, {})
    if recorded.get("hash") == labeller.hash:
        return True
    origins = Counter(map_source(entry, labeller.modality) for entry in shard.entries())
    if origins.total() == origins[labeller.hash]:
        _commit(shard, {labeller.modality: _summary(labeller, LabelTally(origins.total()))})
        return True
    if origins.keys() - {None, labeller.hash} and not replace:
        raise UserError(
            f"{shard.path} has {labeller.modality} maps from {recorded.get('teacher', 'elsewhere')}",
            hint="leave that map out of --label, or give --relabel to replace them",
        )
    return False


def _label_shard(
    shard: ShardWriter,
    labellers: Sequence[Teacher],
    batch: int,
    tally: Tally,
    advance: Callable[[int], None],
) -> None:
    tallies = {labeller.modality: LabelTally() for labeller in labellers}

    def labelled() -> Iterator[Entry]:
        count = 0
        for entries in _windows(shard.entries(), WINDOW * batch):
            pictures = decode(entries)
            for labeller in labellers:
                done, own = label_entries(entries, pictures, labeller, batch), tallies[labeller.modality]
                own.labelled += done.kept + done.made
                own.failed.update(done.failures.values())
                tally.made[labeller.modality] += done.made
                words = [f"{key}: no {labeller.modality}: {failure}" for key, failure in done.failures.items()]
                tally.examples += words[: EXAMPLES - len(tally.examples)]
            yield from entries
            count += len(entries)
            advance(count)

    shard.write(labelled())
    tally.failed += sum((own.failed for own in tallies.values()), Counter())
    if not any(own.labelled for own in tallies.values()):
        return
    _commit(shard, {each.modality: _summary(each, tallies[each.modality]) for each in labellers})
    tally.written.append(shard.path)


def _windows(entries: Iterator[Entry], size: int) -> Iterator[list[Entry]]:
    while window := list(islice(entries, size)):
        yield window


def _summary(labeller: Teacher, tally: LabelTally) -> dict[str, Any]:
    counts = {"labelled": tally.labelled, "failed": dict(tally.failed)}
    return {"teacher": labeller.name, "hash": labeller.hash, **counts}


def _commit(shard: ShardWriter, labels: dict[str, Any]) -> None:
    stats = shard.stats
    shard.commit(stats | {"labels": stats.get("labels", {}) | labels})


SampleImage = NDArray[np.uint8] | str
"""An image (H, W, 3), or the failure that there is instead of it."""


@dataclass
class Annotated:
    """What one labeller did to some samples."""

    kept: int
    """Samples that had a map of this very labeller before."""
    made: int
    failures: dict[str, str]
    """Class of the failure by the sample's key."""


def decode(entries: Sequence[Entry]) -> list[SampleImage]:
    """The images of samples."""
    return [_decode(entry) for entry in entries]


def label_entries(
    entries: Sequence[Entry], pictures: Sequence[SampleImage], labeller: Teacher, batch: int
) -> Annotated:
    """Put a map into every sample that can have one; the others lose what another teacher had said.

    Images of one size go through the labeller together, at most `batch` of them.
    """
    kept = {place for place, entry in enumerate(entries) if map_source(entry, labeller.modality) == labeller.hash}
    failures: dict[int, str] = {}
    sizes: dict[tuple[int, ...], list[int]] = {}
    for place, picture in enumerate(pictures):
        if place in kept:
            continue
        if isinstance(picture, str):
            failures[place] = picture
        else:
            sizes.setdefault(picture.shape, []).append(place)
    groups = (places[start : start + batch] for places in sizes.values() for start in range(0, len(places), batch))
    for group in groups:
        for place, values in zip(group, _ask(labeller, [pictures[place] for place in group]), strict=True):
            if isinstance(values, str):
                failures[place] = values
            else:
                _put(entries[place], labeller, values)
    for place in failures:
        _forget(entries[place], labeller.modality)
    words = {entries[place].key: failure for place, failure in sorted(failures.items())}
    return Annotated(len(kept), len(entries) - len(kept) - len(failures), words)


def map_source(entry: Entry, modality: str) -> str | None:
    """The hash of the teacher that a sample's map is from: "" for none, as of exact maps; `None` without a map."""
    if entry.find(MAP_SUFFIXES[modality]) is None:
        return None
    facts = _record(entry).get(modality)
    return str(facts.get("hash", "")) if isinstance(facts, dict) else ""


def _record(entry: Entry) -> dict[str, Any]:
    try:
        return entry.record
    except ValueError:
        return {}


def _decode(entry: Entry) -> SampleImage:
    from jointnet_cli.files.decode import read_srgb8

    try:
        entry.record  # noqa: B018 - a map needs a record that can be read
    except ValueError:
        return "damaged_record"
    data = entry.find(*IMAGES)
    if data is None:
        return "no_image"
    try:
        return read_srgb8(data, entry.key)
    except UserError:
        return "not_an_image"


def _ask(labeller: Teacher, pictures: Sequence[Any]) -> Iterable[Tensor | str]:
    """The labeller's maps of images of one size, or for an image the failure."""
    images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255  # (B, 3, H, W)
    try:
        return [values if values.isfinite().all() else "not_finite" for values in labeller(images).float().cpu()]
    except UserError:
        raise
    except Exception as error:  # what a network raises is its own; one image must not cost the others their maps
        if len(pictures) == 1:
            return [type(error).__name__]
        return [values for picture in pictures for values in _ask(labeller, [picture])]


def _put(entry: Entry, labeller: Teacher, values: Tensor) -> None:
    facts: dict[str, Any]
    if labeller.modality == "depth":
        content, scale = encode_depth(values.numpy())
        facts = {"encoding": "inverse depth, 16 bit, far = 0", "unit": "relative", "scale": scale}
    else:
        content = encode_normal(values.permute(1, 2, 0).numpy())
        facts = {"encoding": "(n + 1) / 2, 8 bit", "space": "camera: x right, y up, z towards the viewer"}
    entry.put(MAP_SUFFIXES[labeller.modality], content)
    entry.record = entry.record | {labeller.modality: facts | {"teacher": labeller.name, "hash": labeller.hash}}


def _forget(entry: Entry, modality: str) -> None:
    """Remove a map and its record: in a shard all maps of a modality are of one origin."""
    entry.drop(MAP_SUFFIXES[modality])
    record = _record(entry)
    if modality in record:
        entry.record = {name: value for name, value in record.items() if name != modality}
