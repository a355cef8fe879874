"""Objects of a world and the solids they are built of."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jointnet_cli.data.worlds.grammar import PALETTE
from jointnet_cli.data.worlds.world import SceneObject, World, stream

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


class SolidPart(NamedTuple):
    """One shape in an object's own frame: `frame` (3, 3) maps the unit solid, `at` is where its origin goes."""

    shape: int
    at: Vector
    frame: np.ndarray
    taper: float
    colour: Colour
    glow: float


@dataclass
class ObjectBuilder:
    """Collect the shapes of one object in its own frame: height 1, base at the origin, front towards -z."""

    rng: random.Random
    colour: Colour
    night: bool = False
    snowy: bool = False
    autumn: bool = False
    parts: list[SolidPart] = field(default_factory=list)

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
        """Add a shape. Cones, pyramids and gables stand on `at`; `lean` shifts x and z by that much a unit of height."""
        frame = np.diag(radii).astype(np.float64)
        frame[0, 1], frame[2, 1] = lean[0] * radii[1], lean[1] * radii[1]
        self.parts.append(SolidPart(shape, at, frame if turn is None else turn @ frame, taper, colour, glow))

    def about(self, colour: Colour, amount: float = 0.07) -> Colour:
        gain = 1 + self.rng.uniform(-amount, amount)
        r, g, b = (min(1.0, max(0.0, c * gain + self.rng.uniform(-amount, amount) * 0.4)) for c in colour)
        return r, g, b


def bounding_radii(shapes: np.ndarray, frames: np.ndarray, tapers: np.ndarray) -> np.ndarray:
    """Return radii (p,) of spheres about the centres that hold the shapes."""
    corners = _CORNERS @ frames.transpose(0, 2, 1) * np.maximum(1, tapers)[:, None, None]  # (p, 8, 3)
    round_ = np.linalg.norm(frames, axis=1).max(1)
    radii: NDArray[np.float64] = np.where(shapes == BALL, round_, np.linalg.norm(corners, axis=2).max(1))
    return radii


TRUNK, BARK, STONE, DARK = (0.30, 0.20, 0.12), (0.45, 0.33, 0.20), (0.48, 0.47, 0.45), (0.12, 0.10, 0.10)

WHITE, SNOW, GLASS, LAMP = (0.93, 0.92, 0.89), (0.90, 0.92, 0.97), (0.50, 0.66, 0.78), (1.0, 0.85, 0.42)


def _hut(kit: ObjectBuilder) -> None:
    rng = kit.rng
    roof = SNOW if kit.snowy else rng.choice([(0.35, 0.20, 0.13), (0.24, 0.23, 0.26), (0.30, 0.16, 0.12)])
    kit.add(BOX, (0, 0.22, 0), (0.56, 0.34, 0.46), kit.colour)
    kit.add(GABLE, (0, 0.55, 0), (0.68, 0.45, 0.54), roof)
    kit.add(GABLE, (0, 0.53, -0.50), (0.56, 0.37, 0.06), kit.colour)
    kit.add(BOX, (0, 0.20, -0.46), (0.11, 0.22, 0.03), (0.22, 0.13, 0.07))
    for side in (-0.34, 0.34):
        pane = LAMP if kit.night else GLASS
        kit.add(BOX, (side, 0.34, -0.46), (0.11, 0.10, 0.03), pane, glow=1.0 if kit.night else 0.1)
    if rng.random() < 0.6:
        kit.add(BOX, (0.34, 0.85, 0.1), (0.07, 0.17, 0.07), STONE)


def _tree(kit: ObjectBuilder) -> None:
    rng = kit.rng
    autumn = rng.choice([(0.86, 0.34, 0.05), (0.80, 0.17, 0.05), (0.92, 0.62, 0.08)])
    leaves = kit.about(autumn if kit.autumn else (0.16, 0.43, 0.12))
    kit.add(CONE, (0, -0.08, 0), (0.065, 0.6, 0.065), TRUNK, taper=0.7)
    kit.add(BALL, (0, 0.68, 0), (0.30, 0.32, 0.30), leaves)
    for i in range(2):
        angle = rng.uniform(0, math.pi) + math.pi * i
        at = (0.2 * math.cos(angle), rng.uniform(0.52, 0.62), 0.2 * math.sin(angle))
        kit.add(BALL, at, (rng.uniform(0.20, 0.27), rng.uniform(0.18, 0.23), 0.24), kit.about(leaves))


def _pine(kit: ObjectBuilder) -> None:
    needles, snowy = kit.about((0.07, 0.29, 0.12)), kit.snowy and kit.rng.random() < 0.75
    kit.add(CONE, (0, -0.08, 0), (0.045, 0.36, 0.045), TRUNK, taper=0.8)
    for i in range(3):
        radius, base = 0.29 - 0.075 * i, 0.15 + 0.235 * i
        shade = SNOW if snowy and (i == 2 or kit.rng.random() < 0.35) else kit.about(needles, 0.05)
        kit.add(CONE, (0, base, 0), (radius, 0.39 - 0.012 * i, radius), shade, taper=0.03)


def _palm(kit: ObjectBuilder) -> None:
    rng = kit.rng
    lean = (rng.uniform(-0.25, 0.25), rng.uniform(-0.12, 0.12))
    kit.add(CONE, (0, -0.06, 0), (0.045, 0.9, 0.045), BARK, lean=lean, taper=0.6)
    top, start = (lean[0] * 0.86, 0.83, lean[1] * 0.86), rng.uniform(0, 6.28)
    for i in range(7):
        frond = turn_y(start + i * 6.283 / 7 + rng.uniform(-0.2, 0.2)) @ turn_z(-rng.uniform(0.1, 0.5))
        out = frond @ np.array([0.22, 0.0, 0.0])
        at = (top[0] + out[0], top[1] + out[1] + 0.03, top[2] + out[2])
        kit.add(BALL, at, (0.26, 0.026, 0.08), kit.about((0.14, 0.46, 0.10), 0.1), turn=frond)
    kit.add(BALL, top, (0.06, 0.05, 0.06), (0.35, 0.22, 0.1))


def _cactus(kit: ObjectBuilder) -> None:
    rng = kit.rng
    green = kit.about((0.15, 0.45, 0.16))
    kit.add(CONE, (0, -0.06, 0), (0.125, 0.95, 0.125), green, taper=0.9)
    kit.add(BALL, (0, 0.88, 0), (0.113, 0.12, 0.113), green)
    for side in (-1, 1):
        if rng.random() < 0.88:
            y, length = rng.uniform(0.3, 0.52), rng.uniform(0.24, 0.36)
            kit.add(BALL, (side * 0.18, y, 0), (0.2, 0.075, 0.075), green)
            kit.add(CONE, (side * 0.33, y - 0.03, 0), (0.075, length, 0.075), green, taper=0.9)
            kit.add(BALL, (side * 0.33, y - 0.03 + length, 0), (0.068, 0.07, 0.068), green)


def _rock(kit: ObjectBuilder) -> None:
    rng = kit.rng
    for i in range(2):
        at = (rng.uniform(-0.35, 0.35) * (1 + i), 0.25, rng.uniform(-0.3, 0.3))
        radii = (rng.uniform(0.6, 0.95), rng.uniform(0.5, 0.75) / (1 + 0.5 * i), rng.uniform(0.5, 0.8))
        kit.add(BALL, at, radii, kit.about(kit.colour), turn=turn_z(rng.uniform(-0.35, 0.35)))


def _coral(kit: ObjectBuilder) -> None:
    rng, colour = kit.rng, kit.colour
    form = rng.choice(("brain", "branch", "branch", "branch", "fan", "fan", "tube", "tube"))
    if form == "brain":
        for i in range(3):
            at = (rng.uniform(-0.4, 0.4), 0.25, rng.uniform(-0.4, 0.4))
            kit.add(BALL, at, (0.55 - 0.1 * i, 0.75 - 0.15 * i, 0.55), kit.about(colour, 0.1))
    elif form == "branch":
        for i in range(6):
            lean = (math.cos(i * 1.05) * rng.uniform(0.2, 0.7), math.sin(i * 1.05) * rng.uniform(0.2, 0.6))
            radii = (0.11, rng.uniform(0.6, 1.05), 0.11)
            kit.add(CONE, (0, -0.05, 0), radii, kit.about(colour, 0.1), lean=lean, taper=0.75)
    elif form == "fan":
        kit.add(CONE, (0, -0.05, 0), (0.09, 0.4, 0.09), colour, taper=0.8)
        kit.add(BALL, (0, 0.55, 0), (0.55, 0.48, 0.07), kit.about(colour))
        kit.add(BALL, (0.2, 0.42, 0.12), (0.35, 0.32, 0.06), kit.about(colour, 0.12), turn=turn_y(0.7))
    else:
        for i in range(5):
            at = (0.28 * math.cos(i * 1.26), -0.05, 0.28 * math.sin(i * 1.26))
            kit.add(CONE, at, (0.15, rng.uniform(0.5, 1.05), 0.15), kit.about(colour, 0.1), taper=1.3)


def _fish(kit: ObjectBuilder) -> None:
    colour = kit.colour
    tail: Colour = (colour[0] * 0.75, colour[1] * 0.75, colour[2] * 0.75)
    kit.add(BALL, (0.06, 0, 0), (0.42, 0.22, 0.11), colour)
    kit.add(BALL, (-0.40, 0, 0), (0.12, 0.2, 0.035), tail)
    kit.add(BALL, (0.08, 0, 0), (0.06, 0.225, 0.118), WHITE)
    for side in (-0.085, 0.085):
        kit.add(BALL, (0.34, 0.05, side), (0.045, 0.045, 0.03), DARK)


def _boat(kit: ObjectBuilder) -> None:
    kit.add(BALL, (0, 0.09, 0), (0.5, 0.17, 0.19), kit.colour)
    kit.add(BOX, (0, 0.24, 0), (0.40, 0.025, 0.14), BARK)
    kit.add(CONE, (0.04, 0.1, 0), (0.017, 0.9, 0.017), TRUNK, taper=0.8)
    kit.add(GABLE, (-0.02, 0.33, 0.012), (0.36, 0.62, 0.012), WHITE, lean=(0.1, 0))
    kit.add(BALL, (0.17, 0.28, 0), (0.16, 0.07, 0.12), kit.colour)


def _lighthouse(kit: ObjectBuilder) -> None:
    kit.add(CONE, (0, -0.08, 0), (0.22, 0.12, 0.22), STONE, taper=0.8)
    for i in range(4):
        low, high = 0.135 - 0.014 * i, 0.135 - 0.014 * (i + 1)
        stripe = kit.colour if i % 2 == 0 else WHITE if kit.colour != PALETTE["white"] else (0.80, 0.80, 0.80)
        kit.add(CONE, (0, 0.03 + 0.185 * i, 0), (low, 0.186, low), stripe, taper=high / low)
    kit.add(CONE, (0, 0.77, 0), (0.105, 0.025, 0.105), DARK, taper=1.0)
    kit.add(CONE, (0, 0.79, 0), (0.06, 0.1, 0.06), (1.0, 0.9, 0.5), taper=1.0, glow=1.0 if kit.night else 0.3)
    cap = (0.30, 0.30, 0.33) if kit.colour == PALETTE["white"] else kit.colour
    kit.add(CONE, (0, 0.88, 0), (0.09, 0.12, 0.09), cap, taper=0.05)


def _pyramid(kit: ObjectBuilder) -> None:
    kit.add(PYRAMID, (0, -0.1, 0), (1.02, 1.1, 1.02), kit.about((0.84, 0.66, 0.34)))


def _sheep(kit: ObjectBuilder) -> None:
    kit.add(BALL, (0, 0.6, 0), (0.58, 0.36, 0.36), WHITE)
    kit.add(BALL, (0.58, 0.74, 0), (0.2, 0.19, 0.15), DARK)
    for x in (-0.3, 0.3):
        for z in (-0.14, 0.14):
            kit.add(CONE, (x, -0.06, z), (0.06, 0.5, 0.06), DARK, taper=1.0)


def _balloon(kit: ObjectBuilder) -> None:
    stripe: Colour = (0.96, 0.92, 0.82)
    dark: Colour = (kit.colour[0] * 0.7, kit.colour[1] * 0.7, kit.colour[2] * 0.7)
    kit.add(BALL, (0, 0.64, 0), (0.335, 0.36, 0.335), kit.colour)
    kit.add(BALL, (0, 0.64, 0), (0.341, 0.07, 0.341), stripe)
    kit.add(CONE, (0, 0.16, 0), (0.06, 0.27, 0.06), dark, taper=4.2)
    kit.add(BOX, (0, 0.06, 0), (0.07, 0.06, 0.07), (0.42, 0.27, 0.13))


def _windmill(kit: ObjectBuilder) -> None:
    kit.add(CONE, (0, -0.06, 0), (0.2, 0.72, 0.2), kit.colour, taper=0.62)
    kit.add(CONE, (0, 0.65, 0), (0.145, 0.16, 0.145), (0.33, 0.19, 0.13), taper=0.1)
    kit.add(BOX, (0, 0.12, -0.19), (0.05, 0.11, 0.03), (0.22, 0.13, 0.07))
    start = kit.rng.uniform(0.1, 1.4)
    for i in range(4):
        blade = turn_z(start + i * math.pi / 2)
        out = blade @ np.array([0.2, 0.0, 0.0])
        kit.add(BOX, (out[0], 0.66 + out[1], -0.2), (0.2, 0.042, 0.008), (0.94, 0.92, 0.86), turn=blade)
    kit.add(BALL, (0, 0.66, -0.2), (0.035, 0.035, 0.05), DARK)


BUILDERS: dict[str, Callable[[ObjectBuilder], None]] = {
    "hut": _hut, "tree": _tree, "pine": _pine, "palm": _palm, "cactus": _cactus, "rock": _rock, "coral": _coral,
    "fish": _fish, "boat": _boat, "lighthouse": _lighthouse, "pyramid": _pyramid, "sheep": _sheep,
    "balloon": _balloon, "windmill": _windmill,
}  # fmt: skip

_ROCKS = {
    "desert": (0.62, 0.45, 0.30), "canyon": (0.60, 0.30, 0.17), "volcano": (0.20, 0.18, 0.18),
    "reef": (0.34, 0.33, 0.34),
}  # fmt: skip


def build(thing: SceneObject, world: World) -> list[SolidPart]:
    """Return the shapes of one object, in its own frame."""
    colour = PALETTE[thing.colour] if thing.colour else _ROCKS.get(world.biome, STONE)
    rng = stream(world.seed, f"object {thing.id}")
    kit = ObjectBuilder(rng, colour, world.time == "night", world.biome == "snow", world.theme == "autumn")
    BUILDERS[thing.kind](kit)
    return kit.parts


def primitives(world: World, ground: list[float], device: str = "cpu") -> Primitives:
    """Return all shapes of a world; `ground` is the height in metres under each object."""
    parts: list[SolidPart] = []
    owners: list[int] = []
    centres: list[np.ndarray] = []
    placed: list[np.ndarray] = []
    for thing, base in zip(world.objects, ground, strict=True):
        place = turn_y(thing.heading) * thing.size
        origin = np.array([thing.position[0], base + thing.position[1], thing.position[2]])
        for part in build(thing, world):
            parts.append(part)
            owners.append(thing.id)
            centres.append(origin + place @ np.asarray(part.at, dtype=np.float64))
            placed.append(place @ part.frame)
    shapes, tapers = np.array([p.shape for p in parts], dtype=np.int64), np.array([p.taper for p in parts])
    frames = np.array(placed).reshape(-1, 3, 3)

    def tensor(values: object, *shape: int) -> Tensor:
        return torch.as_tensor(np.asarray(values, dtype=np.float32)).reshape(-1, *shape).to(device)

    return Primitives(
        shape=torch.as_tensor(shapes).to(device),
        centre=tensor(centres, 3),
        inverse=tensor(np.linalg.inv(frames), 3, 3),
        taper=tensor(tapers),
        colour=tensor([p.colour for p in parts], 3),
        glow=tensor([p.glow for p in parts]),
        radius=tensor(bounding_radii(shapes, frames, tapers)),
        owner=torch.tensor(owners, dtype=torch.int64).to(device),
    )
