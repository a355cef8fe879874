"""Pictures with true depth or normals: shards, folders, and the Middlebury pair that scikit-image holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.files import digest, find_pairs
from jointnet_cli.evaluation.numbers import read_true_depth
from jointnet_cli.evaluation.shard_samples import ShardSamples
from jointnet_cli.output.image import read_image
from jointnet_cli.output.maps import DepthKind, read_map, unit_normals

WORLDS_CAP = 80.0
"""Metres; the usual cap of outdoor scenes, for worlds, whose horizon is a depth without bound."""


@dataclass(frozen=True)
class Scene:
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


class Scenes(Protocol):
    """Scenes by number."""

    facts: dict[str, Any]
    """What they are, ready for JSON."""
    identity: str
    """What tells them from other scenes, wherever they lie."""
    depth_cap: float | None
    """Depth beyond which they do not count unless it is asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Scene:
        """Raises UserError: files that cannot be read."""
        ...


class ShardScenes:
    """The samples of shards, such as reserved worlds (`jointnet prepare --source worlds --evaluation`).

    Raises:
        UserError: no complete shards.
    """

    depth_cap: float | None = WORLDS_CAP

    def __init__(self, source: str | Path, modality: str) -> None:
        self._samples, self._modality = ShardSamples(source), modality
        self.identity = self._samples.digest
        self.facts = {"shards": str(source), "samples": len(self), **self._samples.origin}

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, number: int) -> Scene:
        sample = self._samples.sample(number, ("depth", "normal"))
        if (sample.inverse_depth if self._modality == "depth" else sample.normal) is None:
            raise UserError(f"sample {sample.key} has no {self._modality}", hint="prepare shards that carry it")
        camera = (sample.record.get("scene") or {}).get("camera") or {}
        return Scene(
            sample.key,
            sample.image.astype(np.float32) / np.float32(255),
            sample.inverse_depth,
            None if sample.normal is None else unit_normals(sample.normal),
            np.array(camera["intrinsics"]) if "intrinsics" in camera else None,
        )


class FolderScenes:
    """The pictures of a folder that have a map of the modality; see `files.find_pairs` for the layouts.

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

    def __getitem__(self, number: int) -> Scene:
        key, (picture, truth) = self._pairs[number]
        if self._modality == "depth":
            return Scene(key, read_image(picture), inverse_depth=read_true_depth(truth, self._kind))
        return Scene(key, read_image(picture), normal=read_map(truth, "normal").values)


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
        self._scene = Scene(
            "motorcycle",
            left.astype(np.float32) / np.float32(255),
            np.where(np.isfinite(disparity), metric, 0).astype(np.float32),
            intrinsics=np.array([[self.FOCAL, 0, x], [0, self.FOCAL, y], [0, 0, 1]]),
        )
        self.facts = {"scene": self.identity, "samples": 1}

    def __len__(self) -> int:
        return 1

    def __getitem__(self, number: int) -> Scene:
        return (self._scene,)[number]
