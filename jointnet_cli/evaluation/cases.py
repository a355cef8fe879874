"""The cases of an evaluation: shards, folders, prompts, Middlebury."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jointnet_cli.data.shards.shard_set import ShardSet
from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.captions import Caption, shard_caption
from jointnet_cli.evaluation.folders import KIND_WORDS, files_digest, find_pairs, read_true_depth, split_name
from jointnet_cli.files.images import read_image
from jointnet_cli.files.maps import read_map, unit_normals
from jointnet_cli.files.paths import IMAGE_SUFFIXES, OUTPUT_ENDINGS, text_digest
from jointnet_cli.modality import DepthKind
from jointnet_cli.tensors import relative_disparity


def relative_depth(inverse_depth: NDArray[np.float32] | None, key: str) -> Tensor:
    """Return the relative disparity (H, W) in [0, 1] of the inverse depth of a sample, near = 1.

    Raises:
        UserError: the sample `key` has no depth.
    """
    if inverse_depth is None:
        raise UserError(f"sample {key} has no depth", hint="prepare shards that carry it")
    return relative_disparity(torch.from_numpy(inverse_depth)[None])[0]


WORLDS_CAP = 80.0
"""Metres; the usual cap of outdoor scenes, for worlds, whose horizon is a depth without bound."""

_NO_IMAGE = np.empty((0, 0, 3), np.float32)


@dataclass(frozen=True)
class Case:
    """An item of the data: what is given to a method, and what is known to be true."""

    number: int
    key: str = ""
    prompt: str = ""
    seed: int = 0
    image: NDArray[np.float32] = field(default_factory=lambda: _NO_IMAGE)
    """(H, W, 3) sRGB in [0, 1]; empty where only a prompt is given."""
    inverse_depth: NDArray[np.float32] | None = None
    """(H, W), 0 where depth is unknown or endless."""
    normal: NDArray[np.float32] | None = None
    """(H, W, 3) camera-space unit vectors, zero where there is none."""
    intrinsics: NDArray[np.float64] | None = None
    """(3, 3) of a pinhole camera, in pixels."""

    @property
    def relative_depth(self) -> NDArray[np.float32]:
        """The true relative disparity (H, W) in [0, 1], near = 1."""
        return relative_depth(self.inverse_depth, self.key).numpy().astype(np.float32)


class Cases(Protocol):
    """Cases by number."""

    @property
    def identity(self) -> str:
        """What tells them from other cases, wherever they lie."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Case:
        """Refuse files that cannot be read.

        Raises:
            UserError: such a file.
        """
        ...


class TrueCases(Cases, Protocol):
    """Cases whose depth or normals are known."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """A description of the cases, ready for JSON."""
        ...

    @property
    def depth_cap(self) -> float | None:
        """Depth beyond which the truth does not count by default."""
        ...


class PromptCases:
    """Prompts over and over, each time from a seed of its own: the number of the case.

    No two cases share noise or tiles, so that an interval may take them as independent.

    Args:
        prompts: the prompts.
        count: how many cases there are.
        images: real images that belong to the prompts, if there are any.
    """

    def __init__(self, prompts: Sequence[str], count: int, images: ShardCases | None = None) -> None:
        self.prompts, self._count, self._images = prompts, count, images

    @property
    def identity(self) -> str:
        images = [] if self._images is None else [self._images.identity]
        return text_digest("\n".join([*self.prompts, *images]))

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Case:
        case = Case(number, prompt=self.prompts[number % len(self.prompts)], seed=number)
        return case if self._images is None else replace(case, image=self._images.image(number))


class ShardCases:
    """The samples of shards, such as reserved worlds (`jointnet prepare worlds --evaluation`).

    Args:
        source: as for `ShardSet.open`.
        modality: `depth` or `normal` if every case must have that map.

    Raises:
        UserError: no complete shards.
    """

    depth_cap: float | None = WORLDS_CAP

    def __init__(self, source: str | Path, modality: str | None = None) -> None:
        self._samples, self._modality = ShardSet.open(source, evaluation=True), modality

    @property
    def identity(self) -> str:
        return self._samples.digest

    @property
    def facts(self) -> dict[str, Any]:
        return {"shards": self._samples.source, "samples": len(self), **self._samples.origin}

    @property
    def image_facts(self) -> dict[str, Any]:
        """A description of the images, ready for JSON."""
        facts = {"shards": self._samples.source, "images": len(self), "digest": self.identity}
        return {**facts, **self._samples.origin}

    @property
    def key(self) -> str:
        """What tells their images from any others."""
        return f"shards {self.identity}"

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, number: int) -> Case:
        sample = self._samples.sample(number, ("depth", "normal"))
        if self._modality and (sample.inverse_depth if self._modality == "depth" else sample.normal) is None:
            raise UserError(f"sample {sample.key} has no {self._modality}", hint="prepare shards that carry it")
        return Case(
            number,
            sample.key,
            sample.caption,
            number,
            sample.image.astype(np.float32) / np.float32(255),
            sample.inverse_depth,
            None if sample.normal is None else unit_normals(sample.normal),
            _intrinsics(sample.record),
        )

    def image(self, number: int) -> NDArray[np.float32]:
        """Return one image (H, W, 3), sRGB in [0, 1]."""
        return self._samples.sample(number).image.astype(np.float32) / np.float32(255)

    @cached_property
    def captions(self) -> list[Caption]:
        """The captions of all samples; images are not decoded."""
        return [shard_caption(raw) for raw in self._samples.raw()]


def _intrinsics(record: Mapping[str, Any]) -> NDArray[np.float64] | None:
    try:
        return np.array(record["scene"]["camera"]["intrinsics"], np.float64).reshape(3, 3)
    except (KeyError, TypeError, ValueError):  # no scene of a world, or one without camera
        return None


class FolderCases:
    """The images of a folder that have a map of the modality; `folders.find_pairs` explains the layouts.

    Raises:
        UserError: there are none.
    """

    depth_cap: float | None = None

    def __init__(self, folder: Path, modality: str, kind: DepthKind = "auto") -> None:
        self._pairs = list(find_pairs(folder, modality).items())
        self._modality, self._kind = modality, kind
        self.identity = f"{files_digest(folder, (path for _, pair in self._pairs for path in pair))} {kind}"
        self.facts = {"folder": str(folder), "samples": len(self)}

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, number: int) -> Case:
        key, (image, truth) = self._pairs[number]
        case = Case(number, key, seed=number, image=read_image(image))
        if self._modality == "depth":
            return replace(case, inverse_depth=read_true_depth(truth, self._kind))
        return replace(case, normal=read_map(truth, "normal").values)


class Middlebury:
    """The left image of Middlebury 2014's `Motorcycle`, a quarter of its size, with measured disparity.

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
        self._case = Case(
            0,
            "motorcycle",
            image=left.astype(np.float32) / np.float32(255),
            inverse_depth=np.where(np.isfinite(disparity), metric, 0).astype(np.float32),
            intrinsics=np.array([[self.FOCAL, 0, x], [0, self.FOCAL, y], [0, 0, 1]]),
        )
        self.facts = {"scene": self.identity, "samples": 1}

    def __len__(self) -> int:
        return 1

    def __getitem__(self, number: int) -> Case:
        return (self._case,)[number]


class FolderImages:
    """The images of a folder and its subfolders in the order of their paths, without the maps beside them.

    Raises:
        UserError: there are none.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise UserError(f"no folder {folder}", hint="name a folder of images that exists")
        self._folder = folder
        self.paths = [path for path in sorted(folder.rglob("*")) if _is_image(path.relative_to(folder))]
        if not self.paths:
            raise UserError(f"no images in {folder}", hint=f"looked for {', '.join(IMAGE_SUFFIXES)}")

    @cached_property
    def digest(self) -> str:
        """A digest that changes with the files."""
        return files_digest(self._folder, self.paths)

    @property
    def image_facts(self) -> dict[str, Any]:
        """A description of the images, ready for JSON."""
        return {"folder": str(self._folder), "images": len(self), "digest": self.digest}

    @property
    def key(self) -> str:
        """What tells them from any other images."""
        return f"folder {self.digest}"

    def __len__(self) -> int:
        return len(self.paths)

    def image(self, number: int) -> NDArray[np.float32]:
        """Return one image (H, W, 3), sRGB in [0, 1]."""
        return read_image(self.paths[number])


def _is_image(path: Path) -> bool:
    """Return whether a path within a folder is an image, by its suffix and the words of its name."""
    word = split_name(path).word
    hidden = any(part.startswith(".") for part in path.parts)
    if hidden or path.name.endswith(OUTPUT_ENDINGS):
        return False
    return path.suffix.lower() in IMAGE_SUFFIXES and (word is None or word in KIND_WORDS["image"])
