"""A labeller's maps put into samples in memory, and a word on every sample that can have none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jointnet_cli.data.labeller import Labeller
from jointnet_cli.data.maps import SUFFIXES, encode_depth, encode_normal
from jointnet_cli.data.members import Entry
from jointnet_cli.data.shards import IMAGES
from jointnet_cli.errors import UserError

Picture = NDArray[np.uint8] | str
"""An image (H, W, 3), or the failure that there is instead of it."""


@dataclass
class Annotated:
    """What one labeller did to some samples."""

    kept: int
    """Samples that had a map of this very labeller before."""
    made: int
    failures: dict[str, str]
    """Class of the failure by the sample's key."""


def decode(entries: Sequence[Entry]) -> list[Picture]:
    """The images of samples."""
    return [_decode(entry) for entry in entries]


def annotate(entries: Sequence[Entry], pictures: Sequence[Picture], labeller: Labeller, batch: int) -> Annotated:
    """Put a map into every sample that can have one; the others lose what another teacher had said.

    Images of one size go through the labeller together, at most `batch` of them.
    """
    kept = {place for place, entry in enumerate(entries) if origin(entry, labeller.modality) == labeller.hash}
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


def origin(entry: Entry, modality: str) -> str | None:
    """The hash of the teacher that a sample's map is from: "" for none, as of exact maps; `None` without a map."""
    if entry.find(SUFFIXES[modality]) is None:
        return None
    facts = _record(entry).get(modality)
    return str(facts.get("hash", "")) if isinstance(facts, dict) else ""


def _record(entry: Entry) -> dict[str, Any]:
    try:
        return entry.record
    except ValueError:
        return {}


def _decode(entry: Entry) -> Picture:
    from jointnet_cli.output.pixels import read_srgb8

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


def _ask(labeller: Labeller, pictures: Sequence[Any]) -> Iterable[Tensor | str]:
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


def _put(entry: Entry, labeller: Labeller, values: Tensor) -> None:
    facts: dict[str, Any]
    if labeller.modality == "depth":
        content, scale = encode_depth(values.numpy())
        facts = {"encoding": "inverse depth, 16 bit, far = 0", "unit": "relative", "scale": scale}
    else:
        content = encode_normal(values.permute(1, 2, 0).numpy())
        facts = {"encoding": "(n + 1) / 2, 8 bit", "space": "camera: x right, y up, z towards the viewer"}
    entry.put(SUFFIXES[labeller.modality], content)
    entry.record = entry.record | {labeller.modality: facts | {"teacher": labeller.name, "hash": labeller.hash}}


def _forget(entry: Entry, modality: str) -> None:
    """Remove a map and its record: in a shard all maps of a modality are of one origin."""
    entry.drop(SUFFIXES[modality])
    record = _record(entry)
    if modality in record:
        entry.record = {name: value for name, value in record.items() if name != modality}
