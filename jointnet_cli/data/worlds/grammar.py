"""Sample worlds from tables of frequencies: biomes, objects, light and cameras."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from jointnet_cli.data.worlds.world import SceneObject, World, WorldCamera, stream

PALETTE = {
    "red": (0.80, 0.07, 0.06),
    "blue": (0.08, 0.22, 0.82),
    "yellow": (0.95, 0.76, 0.05),
    "white": (0.92, 0.92, 0.90),
    "orange": (0.96, 0.42, 0.04),
    "purple": (0.47, 0.12, 0.68),
    "pink": (0.95, 0.40, 0.58),
    "green": (0.10, 0.52, 0.14),
    "brown": (0.40, 0.24, 0.12),
}
"""Colours that captions name, as albedo in [0, 1], approximately linear."""

TIMES = {"noon": 0.34, "sunset": 0.24, "night": 0.24, "dawn": 0.18}

WEATHERS = {"clear": 0.60, "cloudy": 0.25, "foggy": 0.15}

SUN_ELEVATION = {"noon": (38, 65), "sunset": (3, 8), "night": (14, 28), "dawn": (5, 13)}  # degrees; the moon at night

WATERY = ("ocean", "beach", "lake")

TILTED = 0.25
"""Share of training worlds with a tilted camera."""

TILTED_PITCH, TILTED_FOV = (-90.0, 90.0), (40.0, 100.0)
"""Ranges of a tilted camera, in degrees."""

# Overall height in metres, except for a fish: its length.
SIZES = {
    "hut": (4.0, 5.2), "tree": (4.0, 6.0), "pine": (5.0, 8.0), "palm": (5.0, 7.0), "cactus": (3.0, 4.5),
    "rock": (1.2, 2.2), "coral": (0.9, 1.8), "fish": (0.7, 1.2), "boat": (5.0, 6.5), "lighthouse": (10.0, 14.0),
    "pyramid": (14.0, 22.0), "sheep": (1.4, 1.7), "balloon": (8.0, 11.0), "windmill": (8.0, 10.5),
}  # fmt: skip

KINDS = tuple(SIZES)

FIRM = ("hut", "lighthouse", "windmill", "pyramid", "boat")  # the ground is levelled, or dredged, under these

COLOURS = {
    "hut": {"red": 3, "blue": 2, "yellow": 2, "white": 2, "green": 1, "brown": 1},
    "boat": {"red": 2, "blue": 2, "white": 2, "yellow": 2, "green": 1, "orange": 1},
    "lighthouse": {"red": 3, "blue": 2, "white": 2},
    "balloon": {"red": 2, "blue": 2, "yellow": 2, "purple": 2, "orange": 2, "green": 1},
    "windmill": {"white": 2, "red": 2, "blue": 2, "brown": 1},
    "fish": {"orange": 2, "yellow": 2, "blue": 2, "red": 2},
    "coral": {"red": 2, "pink": 2, "orange": 2, "purple": 2, "yellow": 2, "white": 1, "blue": 1, "green": 1},
}  # fmt: skip


@dataclass(frozen=True)
class PlacementRule:
    """Objects that a biome may hold: `share` is the range of the image's height that one of them fills."""

    kind: str
    chance: float
    count: tuple[int, int]
    share: tuple[float, float]
    spread: float = 0.85
    ground: str = "land"  # land, sea or air


def _hero(kind: str, weight: float, share: tuple[float, float] = (0.26, 0.52), ground: str = "land") -> PlacementRule:
    return PlacementRule(kind, weight, (1, 1), share, 0.5, ground)


def _balloon(weight: float) -> PlacementRule:
    return PlacementRule("balloon", weight, (1, 1), (0.22, 0.42), 0.6, "air")


@dataclass(frozen=True)
class Biome:
    """How often a biome occurs, at most one hero (chances below a sum of one), its company, and its themes."""

    weight: float
    heroes: tuple[PlacementRule, ...]
    company: tuple[PlacementRule, ...] = ()
    themes: tuple[tuple[str | None, float], ...] = ((None, 1.0),)


_FLOWERS = tuple((f"{colour} flowers", 0.06) for colour in ("red", "yellow", "purple", "pink", "white"))

BIOMES = {
    "ocean": Biome(
        0.95,
        (_hero("boat", 0.42, (0.24, 0.5), "sea"), _hero("lighthouse", 0.32, (0.3, 0.6)), _balloon(0.18)),
        (PlacementRule("palm", 0.55, (1, 4), (0.2, 0.42)), PlacementRule("boat", 0.12, (1, 1), (0.14, 0.28), 0.7, "sea")),
        ((None, 0.45), ("island", 0.55)),
    ),
    "beach": Biome(
        1.05,
        (_hero("palm", 0.26, (0.45, 0.8)), _hero("hut", 0.18), _hero("lighthouse", 0.2, (0.3, 0.6)), _balloon(0.13),
         _hero("boat", 0.18, (0.22, 0.45), "sea")),
        (PlacementRule("palm", 0.45, (1, 3), (0.3, 0.65)), PlacementRule("boat", 0.2, (1, 1), (0.16, 0.34), 0.7, "sea"),
         PlacementRule("rock", 0.2, (1, 3), (0.08, 0.18))),
    ),
    "reef": Biome(
        1.1, (),
        (PlacementRule("fish", 0.75, (2, 5), (0.16, 0.36), 0.8, "air"), PlacementRule("coral", 1.0, (3, 5), (0.28, 0.5), 1.0),
         PlacementRule("coral", 1.0, (5, 9), (0.14, 0.3), 1.0), PlacementRule("rock", 0.3, (1, 3), (0.12, 0.25))),
    ),
    "desert": Biome(
        1.0,
        (_hero("cactus", 0.28, (0.3, 0.6)), _hero("pyramid", 0.24, (0.24, 0.46)), _hero("palm", 0.16, (0.4, 0.7)),
         _balloon(0.18), _hero("hut", 0.08)),
        (PlacementRule("cactus", 0.2, (1, 3), (0.2, 0.42)), PlacementRule("rock", 0.25, (1, 3), (0.09, 0.2))),
    ),
    "snow": Biome(
        1.05,
        (_hero("hut", 0.42), _hero("pine", 0.14, (0.45, 0.8)), _balloon(0.18), _hero("lighthouse", 0.12, (0.3, 0.6))),
        (PlacementRule("pine", 0.5, (2, 7), (0.2, 0.55)),),
    ),
    "hills": Biome(
        1.25,
        (_hero("hut", 0.26), _hero("windmill", 0.23, (0.32, 0.6)), _hero("lighthouse", 0.1, (0.3, 0.6)),
         _hero("tree", 0.06, (0.4, 0.7)), _balloon(0.14), _hero("sheep", 0.14, (0.22, 0.4))),
        (PlacementRule("tree", 0.3, (1, 5), (0.16, 0.4)), PlacementRule("sheep", 0.32, (1, 4), (0.16, 0.32), 0.7),
         PlacementRule("pine", 0.12, (2, 5), (0.2, 0.45)), PlacementRule("rock", 0.08, (1, 2), (0.09, 0.18))),
        ((None, 0.58), ("wheat", 0.12), *_FLOWERS),
    ),
    "canyon": Biome(
        0.95,
        (_hero("cactus", 0.26, (0.3, 0.55)), _balloon(0.24), _hero("hut", 0.2),
         _hero("boat", 0.12, (0.2, 0.38), "sea")),
        (PlacementRule("rock", 0.4, (1, 4), (0.1, 0.22)), PlacementRule("cactus", 0.12, (1, 2), (0.16, 0.4))),
        ((None, 0.6), ("river", 0.4)),
    ),
    "forest": Biome(
        1.0,
        (_hero("hut", 0.4), _hero("tree", 0.08, (0.6, 0.9))),
        (PlacementRule("tree", 1.0, (12, 18), (0.2, 0.75), 1.0),),
        ((None, 0.28), ("pine", 0.4), ("autumn", 0.32)),
    ),
    "lake": Biome(
        1.0,
        (_hero("boat", 0.38, (0.2, 0.4), "sea"), _hero("hut", 0.26), _balloon(0.16),
         _hero("lighthouse", 0.12, (0.3, 0.55))),
        (PlacementRule("pine", 0.5, (2, 7), (0.2, 0.55)), PlacementRule("rock", 0.12, (1, 3), (0.08, 0.18))),
    ),
    "volcano": Biome(
        0.95,
        (_hero("hut", 0.28), _hero("palm", 0.22, (0.4, 0.7)), _balloon(0.2)),
        (PlacementRule("tree", 0.25, (1, 5), (0.16, 0.4)), PlacementRule("rock", 0.3, (1, 4), (0.1, 0.2))),
    ),
}  # fmt: skip


def kinds_in_groups() -> list[str]:
    """Return kinds of which a world may hold several."""

    def most(kind: str, biome: Biome) -> int:
        alone = any(rule.kind == kind for rule in biome.heroes)
        return alone + sum(rule.count[1] for rule in biome.company if rule.kind == kind)

    return [kind for kind in KINDS if any(most(kind, biome) > 1 for biome in BIOMES.values())]


def _pick(rng: random.Random, weights: Mapping[str, float]) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]


def _camera(rng: random.Random, biome: str) -> WorldCamera:
    if biome == "reef":
        return WorldCamera(rng.uniform(1.3, 2.4), rng.uniform(-12, 0), rng.uniform(54, 68))
    height = rng.uniform(2.2, 5.5) if biome == "ocean" else rng.choice([rng.uniform(1.6, 2.4), rng.uniform(1.8, 4.2)])
    return WorldCamera(height, rng.triangular(-6, 6, 0 if biome in WATERY else 1), rng.uniform(48, 68))


def _anchor(rng: random.Random, biome: str) -> tuple[float, float]:
    if biome == "beach":
        angle = rng.choice([rng.uniform(-1.25, -0.4), rng.uniform(0.4, 1.25), rng.uniform(-0.4, 0.4)])
        distance = rng.uniform(6, 15)
    elif biome == "volcano":
        angle, distance = rng.uniform(-0.3, 0.3), rng.uniform(90, 120)
    elif biome == "lake":
        angle, distance = rng.choice((-1, 1)) * rng.uniform(0.1, 0.55), rng.uniform(32, 38)
    else:
        angle, distance = rng.uniform(-0.28, 0.28), rng.uniform(24, 48)
    return distance * math.sin(angle), distance * math.cos(angle)


def _ground_kind(biome: str, theme: str | None, anchor: tuple[float, float]) -> Callable[[float, float], str]:
    """Return whether a point (x, z) is plain `land`, plain `sea`, or too near a waterline to say (`shore`)."""

    def classify(x: float, z: float) -> str:
        if biome == "beach":
            reach = math.hypot(*anchor)
            offshore = (x * anchor[0] + z * anchor[1]) / reach - reach
            return "land" if offshore < -1.5 else "sea" if offshore > 5 else "shore"
        if biome in ("ocean", "lake"):
            distance = math.hypot(x - anchor[0], z - anchor[1])
            if biome == "lake":
                return "sea" if distance < 18 else "land" if distance > 26 else "shore"
            island = math.hypot(*anchor) * 0.36 if theme == "island" else 0.0
            return "land" if distance < island * 0.6 else "sea" if distance > island * 1.3 + 3 else "shore"
        return "sea" if theme == "river" and abs(x) < 4 else "land"

    return classify


@dataclass
class _Layout:
    """Where objects stand so far, and where the next one fits."""

    rng: random.Random
    camera: WorldCamera
    ground: Callable[[float, float], str]
    placed: list[SceneObject]

    def spot(self, rule: PlacementRule, size: float) -> tuple[float, float] | None:
        half = math.tan(math.radians(self.camera.fov) / 2)
        for _ in range(24):
            z = max(2.0, size / (self.rng.uniform(*rule.share) * 2 * half))
            x = self.rng.uniform(-rule.spread, rule.spread) * half * z
            # A lighthouse may stand anywhere: where there is no land it gets a rock of its own.
            fits = rule.ground == "air" or rule.kind == "lighthouse" or self.ground(x, z) == rule.ground
            if fits and self._free(x, z, size, rule.kind):
                return x, z
        return None

    def _free(self, x: float, z: float, size: float, kind: str) -> bool:
        for other in self.placed:
            ox, _, oz = other.position
            gap = 0.3 if {kind, other.kind} <= {"coral", "fish", "rock", "tree", "pine"} else 0.5
            if math.hypot(x - ox, z - oz) < gap * (size + other.size):
                return False
            # An object that is nearer must not hide a hero from the camera.
            hidden = abs(x / z - ox / oz) < 0.3 * size / z + 0.4 * other.size / oz
            if hidden and (other.kind in FIRM or kind in FIRM or kind == other.kind == "fish"):
                return False
        return True


def _balloon_altitude(rng: random.Random, camera: WorldCamera, z: float, size: float) -> float:
    """Return an altitude at which a balloon is high in the image, and whole."""
    top = 0.92 * math.tan(math.radians(camera.fov) / 2) + math.tan(math.radians(camera.pitch)) - size / z
    return max(1.5, camera.height + z * rng.uniform(min(0.02, top), top))


def _rules(rng: random.Random, biome: str, theme: str | None) -> list[PlacementRule]:
    """Return at most one hero, then the company that came along."""
    spec, chosen, draw = BIOMES[biome], [], rng.random()
    for hero in spec.heroes:
        if biome == "canyon" and hero.ground == "sea" and theme != "river":
            continue
        if 0 <= draw < hero.chance:
            chosen.append(hero)
        draw -= hero.chance
    return chosen + [rule for rule in spec.company if rng.random() < rule.chance]


def _furnish(rng: random.Random, rule: PlacementRule, theme: str | None, layout: _Layout) -> None:
    """Place the objects of one rule, as far as there is room."""
    kind = "pine" if theme == "pine" and rule.kind == "tree" else rule.kind
    colour = _pick(rng, COLOURS[kind]) if kind in COLOURS else None
    for _ in range(rng.randint(*rule.count)):
        size = rng.uniform(*SIZES[kind])
        spot = layout.spot(rule, size)
        if spot is None:
            continue
        if kind == "coral":
            colour = _pick(rng, COLOURS[kind])
        x, z = spot
        altitude = 0.0
        if kind == "balloon":
            altitude = _balloon_altitude(rng, layout.camera, z, size)
        elif kind == "fish":
            altitude = layout.camera.height + z * rng.uniform(-0.2, 0.3)
        turn = rng.uniform(-math.pi, math.pi) if kind in ("rock", "sheep", "coral") else rng.uniform(-0.7, 0.7)
        if kind in ("fish", "boat") and rng.random() < 0.5:
            turn += math.pi
        layout.placed.append(SceneObject(len(layout.placed) + 1, kind, colour, (x, altitude, z), size, turn))


def _tilted(seed: int, camera: WorldCamera, share: float) -> WorldCamera:
    """Return the camera, turned up or down and with another field of view in a share of the worlds."""
    rng = stream(seed, "tilt")
    if rng.random() >= share:
        return camera
    return replace(camera, pitch=rng.uniform(*TILTED_PITCH), fov=rng.uniform(*TILTED_FOV))


def sample_world(seed: int, tilted: float = 0.0) -> World:
    """Return the world of a seed: cheap, reproducible anywhere, and never touching global random state.

    Args:
        seed: of the world.
        tilted: share of the worlds, in [0, 1], whose camera looks up or down at any pitch, with a field of view of 40 to
            100 degrees. What stands in a world does not depend on it, nor do the other worlds.
    """
    rng = stream(seed, "grammar")
    biome = _pick(rng, {name: spec.weight for name, spec in BIOMES.items()})
    time = _pick(rng, TIMES)
    weather = "clear" if biome == "reef" else _pick(rng, WEATHERS)
    names, weights = zip(*BIOMES[biome].themes, strict=True)
    theme = rng.choices(names, weights)[0]
    anchor, camera = _anchor(rng, biome), _camera(rng, biome)
    ahead = {"noon": 0.15, "sunset": 0.75, "dawn": 0.75, "night": 0.6}[time]
    azimuth = rng.uniform(-28, 28) if rng.random() < ahead else rng.uniform(40, 320)
    elevation = rng.uniform(*SUN_ELEVATION[time])
    layout = _Layout(rng, camera, _ground_kind(biome, theme, anchor), [])
    for rule in _rules(rng, biome, theme):
        _furnish(rng, rule, theme, layout)
    camera = _tilted(seed, camera, tilted)
    return World(seed, biome, time, weather, theme, anchor, (azimuth, elevation), camera, tuple(layout.placed))
