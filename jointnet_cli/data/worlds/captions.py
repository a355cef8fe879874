"""Captions that name only what an image shows, in a small closed vocabulary."""

from __future__ import annotations

import math
import random
import re
from dataclasses import dataclass

from jointnet_cli.data.worlds import vocabulary
from jointnet_cli.data.worlds.raycast import SurfaceKind
from jointnet_cli.data.worlds.renderer import Rendering
from jointnet_cli.data.worlds.vocabulary import STEEP, PlaceName, plural
from jointnet_cli.data.worlds.world import World, WorldCamera, stream

_LEAST_SHARE = 0.0016  # of the image's pixels, for an object to be worth a word
_WIDE = 80  # degrees of the field of view from which it is worth a word: other cameras never reach them
_AIRBORNE = ("balloon", "fish")
_GROUNDS = {"beach": "sand", "desert": "sand", "snow": "snowy ground", "hills": "grassy ground", "canyon": "red rock",
            "forest": "forest floor"}  # fmt: skip
"""Biome to the key into `PLACES` of its ground, seen alone."""


@dataclass(frozen=True)
class Visible:
    """Objects of one kind and colour that show: how many, and over how many pixels."""

    kind: str
    colour: str | None
    count: int
    pixels: int


@dataclass(frozen=True)
class _Facts:
    """Shares of the image, and whether the moon shows."""

    sky: float
    water: float
    ground: float
    distant: float  # ground farther than 40 m
    moon: bool


def visible_objects(world: World, rendering: Rendering, index: int) -> list[Visible]:
    """Return what a viewer can make out in image `index` of a rendering, largest first; specks are left out."""
    ids = rendering.object_ids[index]
    pixels = ids.flatten().bincount(minlength=len(world.objects) + 1).tolist()
    groups: dict[tuple[str, str | None], list[int]] = {}
    for thing in world.objects:
        if pixels[thing.id] >= _LEAST_SHARE * ids.numel():
            groups.setdefault((thing.kind, thing.colour), []).append(pixels[thing.id])
    found = [Visible(kind, colour, len(sizes), sum(sizes)) for (kind, colour), sizes in groups.items()]
    return sorted(found, key=lambda group: -group.pixels)


def _moon_shows(world: World, rendering: Rendering, index: int) -> bool:
    if world.time != "night" or world.weather != "clear" or world.biome == "reef":
        return False
    azimuth, elevation, pitch = (math.radians(a) for a in (*world.sun, world.camera.pitch))
    x, y, z = math.sin(azimuth) * math.cos(elevation), math.sin(elevation), math.cos(azimuth) * math.cos(elevation)
    ahead, up = z * math.cos(pitch) + y * math.sin(pitch), y * math.cos(pitch) - z * math.sin(pitch)
    if ahead <= 0:
        return False
    focal, cx, cy = (float(rendering.intrinsics[index][i, j]) for i, j in ((0, 0), (0, 2), (1, 2)))
    column, row = int(cx + focal * x / ahead), int(cy - focal * up / ahead)
    height, width = rendering.surface.shape[1:]
    return 0 <= row < height and 0 <= column < width and int(rendering.surface[index, row, column]) == SurfaceKind.SKY


def _facts(world: World, rendering: Rendering, index: int) -> _Facts:
    surface, depth = rendering.surface[index], rendering.depth[index]
    distant = (surface == SurfaceKind.TERRAIN) & (depth > 40)
    masks = (surface == SurfaceKind.SKY, surface == SurfaceKind.WATER, surface == SurfaceKind.TERRAIN, distant)
    sky, water, ground, far = (float(mask.float().mean()) for mask in masks)
    return _Facts(sky, water, ground, far, _moon_shows(world, rendering, index))


def _is_tilted(camera: WorldCamera) -> bool:
    return abs(camera.pitch) >= STEEP or camera.fov >= _WIDE


def _air(world: World) -> str:
    """Return the key into `PLACES` of what a camera sees above the ground."""
    if world.biome == "reef":
        return "dark water" if world.time == "night" else "bright water"
    if world.weather == "clear":
        return {"noon": "blue sky", "night": "starry sky"}.get(world.time, "clear sky")
    return f"{world.weather} sky"


def _tilted_scene(world: World, facts: _Facts, seen: list[Visible]) -> str:
    """Return the key into `PLACES` of what a tilted camera sees: air alone, ground alone, or a place."""
    if facts.ground < 0.03 and facts.water < 0.01:
        return _air(world)
    dry, level = facts.water < 0.01, facts.distant <= 0.02 and facts.sky < 0.03
    if world.biome == "beach" and (dry or facts.ground < 0.03):
        return "sand" if dry else "open water"
    if world.biome == "lake" and (dry or facts.ground < 0.03) and facts.distant <= 0.02:
        return "ground" if dry else "open water"
    if world.biome in ("ocean", "reef") or not (dry and level):
        return _scene(world, facts, seen)
    if world.theme == "wheat":
        return "wheat ground"
    return _GROUNDS.get(world.biome, "ground")


def _scene(world: World, facts: _Facts, seen: list[Visible]) -> str:
    """Return the key into `PLACES` of what shows of a world's place."""
    theme, far = world.theme, facts.distant > 0.02 and world.weather != "foggy"
    match world.biome:
        case "ocean":
            return "island" if theme == "island" and facts.ground > 0.008 else "ocean"
        case "beach":
            return "beach" if facts.ground >= 0.03 else "ocean"
        case "reef":
            return "reef" if any(group.kind == "coral" for group in seen) else "sea floor"
        case "snow":
            return "snowy mountains" if far else "snow"
        case "lake":
            return "valley" if facts.water < 0.012 else "mountain lake" if far else "lake"
        case "volcano":
            return "volcano" if facts.distant > 0.03 else "ash"
        case "canyon":
            return "river" if theme == "river" and facts.water > 0.01 else "canyon"
    return "flowers" if theme and theme.endswith("flowers") else theme or world.biome


def _article(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _group(rng: random.Random, group: Visible, mixed: bool, alone: bool) -> str:
    """Return words for one group; `mixed` groups hold several colours, `alone` ones are all that shows."""
    name = rng.choice(vocabulary.NAMES[group.kind])
    if mixed:
        return f"{rng.choice(vocabulary.MIXED)} {plural(name)}".strip()
    colour = f"{group.colour} " if group.colour and rng.random() < 0.92 else ""
    if group.count == 1:
        lone = f"{rng.choice(vocabulary.LONE)} " if alone and rng.random() < 0.18 else ""
        return _article(lone + colour + name)
    count = rng.choice(vocabulary.COUNTS.get(group.count, vocabulary.MANY)) if rng.random() < 0.8 else ""
    return f"{count} {colour}{plural(name)}".strip()


def _objects(rng: random.Random, world: World, seen: list[Visible]) -> tuple[str, list[str]]:
    """Return the phrase for up to three groups of objects, and their kinds."""
    merged: list[tuple[Visible, bool]] = []
    for group in seen:
        corals = [g for g in seen if g.kind == "coral"]
        if group.kind != "coral" or len(corals) == 1:
            merged.append((group, False))
        elif group is corals[0]:
            whole = Visible("coral", None, sum(g.count for g in corals), sum(g.pixels for g in corals))
            merged.append((whole, True))
    if world.biome == "forest" and rng.random() < 0.55:
        merged = [pair for pair in merged if pair[0].kind not in ("tree", "pine")]
    # What stands out is named: coloured things before trees and rocks.
    merged.sort(key=lambda pair: -pair[0].pixels * (0.25 if pair[0].kind in ("rock", "tree", "pine") else 1.0))
    merged = merged[: rng.choice((1, 2, 3, 3))]
    parts = [_group(rng, group, mixed, alone=len(seen) == 1) for group, mixed in merged]
    kinds = [group.kind for group, _ in merged]
    return (" and ".join(parts) if len(parts) < 3 else f"{parts[0]}, {parts[1]} and {parts[2]}"), kinds


def _hour(rng: random.Random, world: World, facts: _Facts) -> str:
    if world.biome == "reef":
        return (
            rng.choice(vocabulary.DEEP_HOURS[world.time])
            if rng.random() < (0.9 if world.time == "night" else 0.4)
            else ""
        )
    if rng.random() < 0.08:
        return ""
    if facts.moon and rng.random() < 0.25:
        return rng.choice(vocabulary.MOON)
    if world.weather == "clear" and facts.sky > 0.12 and rng.random() < 0.35:
        return rng.choice(vocabulary.CLEAR_HOURS[world.time])
    return rng.choice(vocabulary.HOURS[world.time])


def _weather(rng: random.Random, world: World, facts: _Facts, hour: str) -> str:
    if world.biome == "reef" or (world.weather != "foggy" and facts.sky < 0.12):
        return ""
    if rng.random() > (0.1 if world.weather == "clear" else 0.85):
        return ""
    if "sky" in hour or "star" in hour:
        return ""
    choices = vocabulary.WEATHER[world.weather]
    if re.search("day|sun|night|morning|evening|dark|with", hour):  # said the span of the day already
        choices = tuple(phrase for phrase in choices if "{}" not in phrase)
    return rng.choice(choices).format(vocabulary.SPANS[world.time])


def _sentence(rng: random.Random, things: str, kinds: list[str], place: PlaceName) -> str:
    """Return objects and place as one phrase."""
    name = place.name
    if not things:
        return name
    preposition = rng.choice(place.prepositions)
    if kinds == ["balloon"]:
        preposition = rng.choice(vocabulary.AIRBORNE)
    elif "island" in name and kinds[0] in ("palm", "lighthouse"):
        preposition = "on"
    elif kinds[0] == "boat":
        preposition = place.afloat or preposition
    if rng.random() < 0.7 or preposition == "and":
        return f"{things} {preposition} {name}"
    return f"{name} {'and' if ' with ' in name or ' of ' in name else 'with'} {things}"


def caption(world: World, rendering: Rendering, index: int, seed: int | None = None) -> str:
    """Return a caption of image `index` of a rendering; another `seed` words the same content another way."""
    rng = stream(world.seed, "caption" if seed is None else f"caption {seed}")
    facts, seen = _facts(world, rendering, index), visible_objects(world, rendering, index)
    if _is_tilted(world.camera):
        return _tilted_caption(rng, world, facts, seen)
    place = rng.choice(vocabulary.PLACES[_scene(world, facts, seen)])
    place = place._replace(name=place.name.format((world.theme or "").split(" ")[0]))  # the colour of its flowers
    things, kinds = _objects(rng, world, seen)
    hour = _hour(rng, world, facts)
    weather = _weather(rng, world, facts, hour)
    beneath = world.biome == "reef" and not re.search("under|sea|ocean", place.name) and rng.random() < 0.7
    if beneath:
        hour = f"{rng.choice(vocabulary.BENEATH)} {hour}".strip()
    style = rng.random()
    text = _sentence(rng, things, kinds, place)
    if style < 0.2:  # a bare prompt, as people type them
        named = rng.random() if things and world.biome != "reef" else 1.0
        bare = re.sub(r"^(an?|the) ", "", text if named < 0.5 else things if named < 0.75 else place.name)
        return " ".join(f"{bare} {hour if rng.random() < 0.7 else ''}".split())
    if style < 0.3 and hour and "with" not in hour:
        return " ".join(f"{hour}, {text} {weather}".split())
    opening = rng.choice(vocabulary.OPENINGS) if rng.random() < 0.35 else ""
    return " ".join(f"{opening} {text} {hour} {weather}".split())


def _tilted_caption(rng: random.Random, world: World, facts: _Facts, seen: list[Visible]) -> str:
    """Return a caption of a view up, down or wide, which also says how the camera looks."""
    scene = _tilted_scene(world, facts, seen)
    place = rng.choice(vocabulary.PLACES[scene])
    place = place._replace(name=place.name.format((world.theme or "").split(" ")[0]))
    things, kinds = _objects(rng, world, seen)
    hour, weather = _hour(rng, world, facts), _weather(rng, world, facts, "")
    if scene == _air(world):  # which its name describes
        hour, weather = rng.choice(vocabulary.HOURS[world.time]), ""
        if world.biome == "reef":
            hour = rng.choice(vocabulary.BENEATH[:1])
        elif facts.moon and rng.random() < 0.25:
            hour = vocabulary.MOON[-1]
        if things and kinds[0] not in _AIRBORNE:  # what stands on ground that does not show
            place = place._replace(prepositions=("under",))
        text = f"{things} {rng.choice(place.prepositions)} {place.name}" if things else place.name
    else:
        text = _sentence(rng, things, kinds, place)
        if "sky" in hour or "star" in hour:
            weather = ""
    pitch, draw, opening, closing = world.camera.pitch, rng.random(), "", ""
    if pitch >= STEEP:
        opening = vocabulary.UPWARD if draw < 0.75 else ""
    elif pitch <= -STEEP:
        opening = vocabulary.DOWNWARD if draw < 0.5 else ""
        closing = vocabulary.FROM_ABOVE if 0.5 <= draw < 0.8 else ""
    else:
        opening = vocabulary.WIDE if draw < 0.5 else ""
    if not opening and not closing and rng.random() < 0.35:
        opening = rng.choice(vocabulary.OPENINGS[:4])
    return " ".join(f"{opening} {text} {closing} {hour if rng.random() < 0.85 else ''} {weather}".split())
