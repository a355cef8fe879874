"""A world as plain data: what stands where, in what light, seen by which camera."""

from __future__ import annotations

import math
import random
from dataclasses import asdict, dataclass
from typing import Any


def stream(seed: int, purpose: str) -> random.Random:
    """Return a random stream of its own for one purpose of one world: what one part draws never shifts another part."""
    return random.Random(f"{seed}/{purpose}")


@dataclass(frozen=True)
class WorldCamera:
    """Eye height above the ground or the water in metres; pitch (up positive) and vertical field of view in degrees."""

    height: float
    pitch: float
    fov: float


@dataclass(frozen=True)
class SceneObject:
    """One object: `position` is (x, altitude above ground or water, z) in metres; x right, z ahead of the camera."""

    id: int
    kind: str
    colour: str | None
    position: tuple[float, float, float]
    size: float
    heading: float


@dataclass(frozen=True)
class World:
    """A scene as plain data, a pure function of its seed.

    `theme` is a variant of the biome (such as `river` or `red flowers`); `anchor` is (x, z) in metres of the landmark
    that shapes the ground: the island, the lake, the summit, or the nearest point of the shore.
    """

    seed: int
    biome: str
    time: str
    weather: str
    theme: str | None
    anchor: tuple[float, float]
    sun: tuple[float, float]  # azimuth (0 ahead, positive right) and elevation, degrees
    camera: WorldCamera
    objects: tuple[SceneObject, ...]

    def to_json(self, size: int | tuple[int, int] = 128) -> dict[str, Any]:
        """Return facts fit for JSON; the camera's pinhole `intrinsics` (3 x 3, pixels) are for images of `size`."""
        facts = asdict(self)
        facts["camera"]["intrinsics"] = intrinsics(self.camera, size)
        return facts


def image_size(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return (height, width) from a side or a pair."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def intrinsics(camera: WorldCamera, size: int | tuple[int, int]) -> list[list[float]]:
    """Return pinhole matrix in pixels, the origin at the top left corner of the image, pixel centres at halves."""
    height, width = image_size(size)
    focal = height / 2 / math.tan(math.radians(camera.fov) / 2)
    return [[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]]


EVALUATION_SEEDS = 1_000_000_000
"""World seeds from here on are reserved for evaluation and never rendered for training."""
