"""Solids that objects are made of: ellipsoids, cones and convex prisms."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from torch import Tensor

Colour = tuple[float, float, float]
Vector = tuple[float, float, float]
BALL, CONE, BOX, PYRAMID, GABLE = range(5)
_CORNERS = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)


@dataclass
class Primitives:
    """Shapes of one world, as tensors over primitives (p, ...): a shape is a unit solid moved by an affine map."""

    shape: Tensor  # BALL, CONE, BOX, PYRAMID or GABLE
    centre: Tensor  # (p, 3)
    inverse: Tensor  # (p, 3, 3), world offset from the centre -> unit solid
    taper: Tensor  # radius of a cone's top; its base has radius 1
    colour: Tensor  # (p, 3)
    glow: Tensor
    radius: Tensor  # of a bounding sphere about the centre
    owner: Tensor  # object id

    def __len__(self) -> int:
        return len(self.shape)


def turn_y(angle: float) -> np.ndarray:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def turn_z(angle: float) -> np.ndarray:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


class Part(NamedTuple):
    """One shape in an object's own frame: `frame` (3, 3) maps the unit solid, `at` is where its origin goes."""

    shape: int
    at: Vector
    frame: np.ndarray
    taper: float
    colour: Colour
    glow: float


@dataclass
class Kit:
    """Collects the shapes of one object in its own frame: height 1, base at the origin, front towards -z."""

    rng: random.Random
    colour: Colour
    night: bool = False
    snowy: bool = False
    autumn: bool = False
    parts: list[Part] = field(default_factory=list)

    def add(
        self,
        shape: int,
        at: Vector,
        radii: Vector,
        colour: Colour,
        *,
        turn: np.ndarray | None = None,
        lean: tuple[float, float] = (0.0, 0.0),
        taper: float = 0.0,
        glow: float = 0.0,
    ) -> None:
        """One shape. Cones, pyramids and gables stand on `at`; `lean` shifts x and z by that much a unit of height."""
        frame = np.diag(radii).astype(np.float64)
        frame[0, 1], frame[2, 1] = lean[0] * radii[1], lean[1] * radii[1]
        self.parts.append(Part(shape, at, frame if turn is None else turn @ frame, taper, colour, glow))

    def about(self, colour: Colour, amount: float = 0.07) -> Colour:
        gain = 1 + self.rng.uniform(-amount, amount)
        r, g, b = (min(1.0, max(0.0, c * gain + self.rng.uniform(-amount, amount) * 0.4)) for c in colour)
        return r, g, b


def bounding_radii(shapes: np.ndarray, frames: np.ndarray, tapers: np.ndarray) -> np.ndarray:
    """Radii (p,) of spheres about the centres that hold the shapes."""
    corners = _CORNERS @ frames.transpose(0, 2, 1) * np.maximum(1, tapers)[:, None, None]  # (p, 8, 3)
    round_ = np.linalg.norm(frames, axis=1).max(1)
    return np.where(shapes == BALL, round_, np.linalg.norm(corners, axis=2).max(1))
