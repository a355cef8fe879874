"""Add predicted maps to the samples of shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jointnet_cli.data.job import Tally
from jointnet_cli.data.labels.teachers import Teacher
from jointnet_cli.data.shards.archive import DamagedShard, Entry
from jointnet_cli.data.shards.format import IMAGES, MAP_SUFFIXES, encode_depth, encode_normal, sample_count
from jointnet_cli.data.shards.writer import ShardWriter, claim_shard
from jointnet_cli.errors import UserError
from jointnet_cli.files.metadata import CAMERA_SPACE
from jointnet_cli.progress import Progress

WINDOW = 8
"""Batches of samples in memory: images of one size are gathered from so many."""

DECODED_BYTES = 2**28
"""Bytes of the decoded images in memory."""

SampleImage = NDArray[np.uint8] | str
"""An image (H, W, 3), or the failure that there is instead of it."""

EXAMPLES = 20
"""Failures that are reported in words; all are counted."""


def label_shards(
    shards: Sequence[Path],
    teachers: Sequence[Teacher],
    *,
    batch: int = 16,
    replace: bool = False,
    progress: Progress | None = None,
) -> Tally:
    """Add the teachers' maps to every sample of complete shards.

    A shard is rewritten whole; members that are no label keep their order and bytes. A shard that the same teacher labelled
    in the same way is skipped, so that a run that was cut off goes on. A sample that cannot be labelled stays without the
    map and is counted; a shard without a single map stays as it was, and so does a damaged one.

    Args:
        shards: tar files with their stats files.
        teachers: at most one for each modality.
        batch: images that a teacher gets at once.
        replace: whether maps of another origin are replaced.
        progress: called with the samples done and their number.

    Raises:
        UserError: a shard has such a map from elsewhere, and `replace` is not given.
    """
    tally, done = Tally(), 0
    counts = [sample_count(shard) for shard in shards]
    for path, count in zip(shards, counts, strict=True):

        def advance(inside: int, before: int = done) -> None:
            if progress:
                progress(before + inside, sum(counts))

        with claim_shard(path) as shard:
            try:
                if shard is None:
                    tally.busy.append(path)
                # Read only now: another process may have finished it meanwhile.
                elif todo := [teacher for teacher in teachers if not _is_labelled(shard, teacher, replace)]:
                    shard.require_sound()
                    _label_shard(shard, todo, batch, tally, advance)
                else:
                    tally.skipped.append(path)
            except DamagedShard as fault:
                tally.damaged.append(fault)
        done += count
        advance(count)
    return tally


def _is_labelled(shard: ShardWriter, teacher: Teacher, replace: bool) -> bool:
    """Return whether a teacher labelled the whole shard, by its stats or, where they do not state it, by its samples."""
    recorded = shard.stats.get("labels", {}).get(teacher.modality, {})
    if recorded.get("hash") == teacher.hash:
        return True
    origins = Counter(map_source(entry, teacher.modality) for entry in shard.entries())
    if origins.total() == origins[teacher.hash]:
        _commit(shard, {teacher.modality: _summary(teacher, origins.total(), Counter())})
        return True
    if origins.keys() - {None, teacher.hash} and not replace:
        raise UserError(
            f"{shard.path} has {teacher.modality} maps from {recorded.get('teacher', 'elsewhere')}",
            hint="leave that map out of --label, or give --relabel to replace them",
        )
    return False


def _label_shard(
    shard: ShardWriter, teachers: Sequence[Teacher], batch: int, tally: Tally, advance: Callable[[int], None]
) -> None:
    labelled: Counter[str] = Counter()
    """Maps in the shard by modality, those that were there before too."""
    failed: dict[str, Counter[str]] = {teacher.modality: Counter() for teacher in teachers}

    def entries() -> Iterator[Entry]:
        count = 0
        for window, images in windows(shard.entries(), WINDOW * batch):
            for teacher in teachers:
                kept, made, failures = label_entries(window, images, teacher, batch)
                labelled[teacher.modality] += kept + made
                tally.made[teacher.modality] += made
                failed[teacher.modality].update(failures.values())
                words = [f"{key}: no {teacher.modality}: {failure}" for key, failure in failures.items()]
                tally.examples += words[: EXAMPLES - len(tally.examples)]
            yield from window
            count += len(window)
            advance(count)

    shard.write(entries())
    tally.failed += sum(failed.values(), Counter())
    if labelled.total():
        each = ((teacher, teacher.modality) for teacher in teachers)
        _commit(shard, {name: _summary(teacher, labelled[name], failed[name]) for teacher, name in each})
        tally.written.append(shard.path)


def windows(entries: Iterable[Entry], size: int) -> Iterator[tuple[list[Entry], list[SampleImage]]]:
    """Yield samples and their images, at most `size` at once and no more than `DECODED_BYTES` and one image."""
    window: list[Entry] = []
    images: list[SampleImage] = []
    for entry in entries:
        window.append(entry)
        images.append(_decode(entry))
        decoded = sum(image.nbytes for image in images if not isinstance(image, str))
        if len(window) == size or decoded > DECODED_BYTES:
            yield window, images
            window, images = [], []
    if window:
        yield window, images


def _summary(teacher: Teacher, labelled: int, failed: Counter[str]) -> dict[str, Any]:
    return {"teacher": teacher.name, "hash": teacher.hash, "labelled": labelled, "failed": dict(failed)}


def _commit(shard: ShardWriter, labels: dict[str, Any]) -> None:
    stats = shard.stats
    shard.commit(stats | {"labels": stats.get("labels", {}) | labels})


def label_entries(
    entries: Sequence[Entry], images: Sequence[SampleImage], teacher: Teacher, batch: int
) -> tuple[int, int, dict[str, str]]:
    """Put a map into every sample that can have one; remove other teachers' maps from the rest.

    Images of one size go through the teacher together, at most `batch` of them.

    Returns:
        How many samples had a map of this very teacher before, how many maps were made, and the class of each failure by
        the sample's key.
    """
    kept = {place for place, entry in enumerate(entries) if map_source(entry, teacher.modality) == teacher.hash}
    failures: dict[int, str] = {}
    sizes: dict[tuple[int, ...], list[int]] = {}
    for place, image in enumerate(images):
        if place in kept:
            continue
        if isinstance(image, str):
            failures[place] = image
        else:
            sizes.setdefault(image.shape, []).append(place)
    groups = (places[start : start + batch] for places in sizes.values() for start in range(0, len(places), batch))
    for group in groups:
        for place, values in zip(group, _ask(teacher, [images[place] for place in group]), strict=True):
            if isinstance(values, str):
                failures[place] = values
            else:
                _put(entries[place], teacher, values)
    for place in failures:
        _forget(entries[place], teacher.modality)
    words = {entries[place].key: failure for place, failure in sorted(failures.items())}
    return len(kept), len(entries) - len(kept) - len(failures), words


def map_source(entry: Entry, modality: str) -> str | None:
    """Return the hash of the teacher that made a sample's map: "" for exact maps, `None` without a map."""
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


def _ask(teacher: Teacher, pictures: Sequence[Any]) -> Iterable[Tensor | str]:
    """Return the teacher's maps of images of one size, or the failure of an image."""
    images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255  # (B, 3, H, W)
    try:
        return [values if values.isfinite().all() else "not_finite" for values in teacher(images).float().cpu()]
    except UserError:
        raise
    except Exception as error:  # what a network raises is its own; one image must not cost the others their maps
        if len(pictures) == 1:
            return [type(error).__name__]
        return [values for picture in pictures for values in _ask(teacher, [picture])]


def _put(entry: Entry, teacher: Teacher, values: Tensor) -> None:
    facts: dict[str, Any]
    if teacher.modality == "depth":
        content, scale = encode_depth(values.numpy())
        facts = {"encoding": "inverse depth, 16 bit, far = 0", "unit": "relative", "scale": scale}
    else:
        content = encode_normal(values.permute(1, 2, 0).numpy())
        facts = {"encoding": "(n + 1) / 2, 8 bit", "space": CAMERA_SPACE}
    entry.put(MAP_SUFFIXES[teacher.modality], content)
    entry.record = entry.record | {teacher.modality: facts | {"teacher": teacher.name, "hash": teacher.hash}}


def _forget(entry: Entry, modality: str) -> None:
    """Remove a map and its record: in a shard all maps of a modality are of one origin."""
    entry.drop(MAP_SUFFIXES[modality])
    record = _record(entry)
    if modality in record:
        entry.record = {name: value for name, value in record.items() if name != modality}
