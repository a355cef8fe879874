"""The data of an evaluation: shards, folders, prompts, Middlebury."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jointnet_cli.data.shards.format import Sample, sample_caption
from jointnet_cli.data.shards.shard_set import ShardSet
from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.folders import WORDS, digest, find_pairs, read_true_depth, take_apart
from jointnet_cli.evaluation.judge.labels import Labels, label, labels_of_caption
from jointnet_cli.evaluation.judge.prompts import fixed_prompts
from jointnet_cli.files.images import read_image
from jointnet_cli.files.maps import DepthKind, read_map, unit_normals
from jointnet_cli.files.paths import IMAGE_SUFFIXES
from jointnet_cli.files.text import decode_text


def true_disparity(sample: Sample) -> Tensor:
    """(H, W) inverse depth in 1/metres, sky = 0.

    Raises:
        UserError: the sample has no depth.
    """
    if sample.inverse_depth is None:
        raise UserError(f"sample {sample.key} has no depth", hint="prepare shards that carry it")
    return torch.from_numpy(sample.inverse_depth)


def samples_with_depth(shards: str | Path, limit: int | None, *, evaluation: bool = True) -> Iterator[Sample]:
    """Stream the first samples of shards with their depth; with `evaluation` warn of training seeds."""
    return ShardSet.open(shards, limit, evaluation=evaluation).samples(("depth",))


@dataclass(frozen=True)
class Caption:
    """A text, and what a picture of it must show."""

    text: str
    asked: Labels | None = None
    """`UNKNOWN` where the text does not say; `None` where no judge can tell."""


def fixed_captions() -> list[Caption]:
    """The two hundred fixed prompts."""
    from jointnet_cli.evaluation.judge.classifier import labels_of_prompts

    prompts = fixed_prompts()
    asked = labels_of_prompts(prompts)
    return [
        Caption(prompt.text, Labels(int(biome), int(time), tuple(present.tolist()), tuple(colour.tolist())))
        for prompt, biome, time, present, colour in zip(
            prompts, asked.biome, asked.time, asked.present, asked.colour, strict=True
        )
    ]


def shard_caption(raw: Mapping[str, Any]) -> Caption:
    """The caption of an undecoded sample of shards; of a world with what it says of it."""
    record = json.loads(raw.get("json", b"{}"))
    text = sample_caption(raw, record)
    return Caption(text, labels_of_caption(text, label(record["scene"], text)) if "scene" in record else None)


def read_coco(path: Path) -> list[Caption]:
    """One caption an image of a COCO captions file, the first of each, in the order of the images' ids.

    A JSON list of texts, or of objects with `caption`, is read too.

    Raises:
        UserError: the file cannot be read or holds no captions.
    """
    try:
        content = json.loads(decode_text(path.read_bytes()))
    except FileNotFoundError as error:
        raise UserError(f"no file {path}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    entries = content.get("annotations") if isinstance(content, dict) else content
    try:
        texts = _texts(entries if isinstance(entries, list) else [])
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{path} has no captions", hint="it takes COCO's captions_val2014.json") from error
    if not texts:
        raise UserError(f"{path} has no captions", hint="it takes COCO's captions_val2014.json")
    return [Caption(text) for text in texts]


def _texts(entries: list[Any]) -> list[str]:
    if all(isinstance(entry, str) for entry in entries):
        return [entry.strip() for entry in entries]
    if "image_id" not in entries[0]:
        return [entry["caption"].strip() for entry in entries]
    first: dict[int, str] = {}
    for entry in sorted(entries, key=lambda entry: (entry["image_id"], entry.get("id", 0))):
        first.setdefault(entry["image_id"], entry["caption"].strip())
    return list(first.values())


WORLDS_CAP = 80.0
"""Metres; the usual cap of outdoor scenes, for worlds, whose horizon is a depth without bound."""


@dataclass(frozen=True)
class Case:
    """A picture and what is known of its surfaces."""

    key: str
    image: NDArray[np.float32]
    """(H, W, 3) sRGB in [0, 1]."""
    inverse_depth: NDArray[np.float32] | None = None
    """(H, W), 0 where depth is unknown or endless."""
    normal: NDArray[np.float32] | None = None
    """(H, W, 3) camera-space unit vectors, zero where there is none."""
    intrinsics: NDArray[np.float64] | None = None
    """(3, 3) of a pinhole camera, in pixels."""


class Cases(Protocol):
    """Scenes by number."""

    facts: dict[str, Any]
    """A description of the cases that can be written as JSON."""
    identity: str
    """What tells them from other scenes, wherever they lie."""
    depth_cap: float | None
    """Depth beyond which they do not count unless it is asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Case:
        """Raises UserError: files that cannot be read."""
        ...


class ShardCases:
    """The samples of shards, such as reserved worlds (`jointnet prepare --source worlds --evaluation`).

    Raises:
        UserError: no complete shards.
    """

    depth_cap: float | None = WORLDS_CAP

    def __init__(self, source: str | Path, modality: str) -> None:
        self._samples, self._modality = ShardSet.open(source, evaluation=True), modality
        self.identity = self._samples.digest
        self.facts = {"shards": str(source), "samples": len(self), **self._samples.origin}

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, number: int) -> Case:
        sample = self._samples.sample(number, ("depth", "normal"))
        if (sample.inverse_depth if self._modality == "depth" else sample.normal) is None:
            raise UserError(f"sample {sample.key} has no {self._modality}", hint="prepare shards that carry it")
        camera = (sample.record.get("scene") or {}).get("camera") or {}
        return Case(
            sample.key,
            sample.image.astype(np.float32) / np.float32(255),
            sample.inverse_depth,
            None if sample.normal is None else unit_normals(sample.normal),
            np.array(camera["intrinsics"]) if "intrinsics" in camera else None,
        )


class FolderCases:
    """The pictures of a folder that have a map of the modality; see `folders.find_pairs` for the layouts.

    Raises:
        UserError: there are none.
    """

    depth_cap: float | None = None

    def __init__(self, folder: Path, modality: str, kind: DepthKind = "auto") -> None:
        self._pairs = list(find_pairs(folder, modality).items())
        self._modality, self._kind = modality, kind
        maps = {key: truth for key, (_, truth) in self._pairs}
        self.identity = f"{digest(folder, maps)} {kind}"
        self.facts = {"folder": str(folder), "samples": len(self)}

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, number: int) -> Case:
        key, (picture, truth) = self._pairs[number]
        if self._modality == "depth":
            return Case(key, read_image(picture), inverse_depth=read_true_depth(truth, self._kind))
        return Case(key, read_image(picture), normal=read_map(truth, "normal").values)


class Middlebury:
    """The left picture of Middlebury 2014's `Motorcycle`, a quarter of its size, with measured disparity.

    Raises:
        UserError: scikit-image is not installed.
    """

    identity = "Middlebury 2014 Motorcycle (scikit-image)"
    depth_cap: float | None = None
    FOCAL, CENTRE, OFFSET, BASELINE = 994.978, (311.193, 254.877), 31.086, 0.193001
    """Pixels, and metres: the calibration that comes with the pair. The cameras' centres differ by the offset."""

    def __init__(self) -> None:
        try:
            from skimage.data import stereo_motorcycle
        except ImportError as error:
            raise UserError(
                "the Middlebury pair needs scikit-image", hint="pip install 'jointnet-cli[eval]'"
            ) from error
        left, _, disparity = stereo_motorcycle()
        metric = (disparity + self.OFFSET) / (self.FOCAL * self.BASELINE)
        x, y = self.CENTRE
        self._scene = Case(
            "motorcycle",
            left.astype(np.float32) / np.float32(255),
            np.where(np.isfinite(disparity), metric, 0).astype(np.float32),
            intrinsics=np.array([[self.FOCAL, 0, x], [0, self.FOCAL, y], [0, 0, 1]]),
        )
        self.facts = {"scene": self.identity, "samples": 1}

    def __len__(self) -> int:
        return 1

    def __getitem__(self, number: int) -> Case:
        return (self._scene,)[number]


@dataclass(frozen=True)
class PictureSet:
    """Pictures with their numbers; of a set that was made some may be missing."""

    key: str
    """What tells them from any other pictures, these ones remade included."""
    count: int
    read: Callable[[int], NDArray[np.floating]]
    """The picture of a number, (H, W, 3) sRGB in [0, 1]. Raises UserError: it is missing or cannot be read."""

    def tensor(self, number: int) -> Tensor:
        """(1, 3, H, W) in [0, 1]."""
        values = np.ascontiguousarray(self.read(number), np.float32)
        return torch.from_numpy(values).permute(2, 0, 1)[None]


class ShardPictures:
    """The pictures of shards, with their captions.

    Raises:
        UserError: no complete shards.
    """

    def __init__(self, source: str | Path) -> None:
        self._samples = ShardSet.open(source, evaluation=True)
        self.sample = self._samples.sample

    def __len__(self) -> int:
        return len(self._samples)

    @cached_property
    def captions(self) -> list[Caption]:
        """The captions of all samples. Pictures are passed over undecoded."""
        return [shard_caption(raw) for raw in self._samples.raw()]

    @cached_property
    def facts(self) -> dict[str, Any]:
        """A description of the cases that can be written as JSON."""
        return {
            "shards": self._samples.source,
            "pictures": len(self),
            "digest": self._samples.digest,
            **self._samples.origin,
        }

    def pictures(self) -> PictureSet:
        """All of their pictures."""
        return PictureSet(
            f"shards {self._samples.digest}",
            len(self),
            lambda number: self.sample(number).image / np.float32(255),
        )


class FolderPictures:
    """The pictures of a folder and its subfolders in the order of their paths, without the maps beside them.

    Raises:
        UserError: there are none.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise UserError(f"no folder {folder}")
        self.folder = folder
        self.paths = [path for path in sorted(folder.rglob("*")) if _is_picture(path.relative_to(folder))]
        if not self.paths:
            raise UserError(f"no pictures in {folder}", hint=f"looked for {', '.join(IMAGE_SUFFIXES)}")

    @cached_property
    def facts(self) -> dict[str, Any]:
        """A description of the cases that can be written as JSON."""
        key = digest(self.folder, {str(path): path for path in self.paths})
        return {"folder": str(self.folder), "pictures": len(self.paths), "digest": key}

    def pictures(self, limit: int | None = None) -> PictureSet:
        """The first of them, or all."""
        count = len(self.paths) if limit is None else min(limit, len(self.paths))
        return PictureSet(f"folder {self.facts['digest']}", count, lambda number: read_image(self.paths[number]))


def _is_picture(path: Path) -> bool:
    """Whether a path within a folder is a picture, by its suffix and the words of its name."""
    word = take_apart(path).word
    hidden = any(part.startswith(".") for part in path.parts)
    return path.suffix.lower() in IMAGE_SUFFIXES and not hidden and (word is None or word in WORDS["image"])
