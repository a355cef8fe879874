"""What an image of a world shows, as labels that a classifier can learn and a prompt can ask for.

A shard says what stands in a scene and describes the image, but not which objects show. Its captions name only what
is visible, though not always all of it. Hence:

- Biome, time of day and view (level, up, down) are the scene's. Only a level view is sure to show the biome.
- A kind of object is present if the caption names it, absent if the scene has none, and otherwise unknown: hidden, a
  speck, or left unsaid. Unknown kinds are neither trained on nor scored.
- The colour of a kind that the caption names is the one the caption gives it, or else the one that all objects of the
  kind in the scene share; with neither, or with several colours, it is unknown.
- Corals have no colour label: they grow in many colours side by side, and captions call them bright or colourful.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from jointnet_cli.data.worlds import grammar, vocabulary
from jointnet_cli.data.worlds.grammar import PALETTE
from jointnet_cli.data.worlds.vocabulary import DOWNWARD, FROM_ABOVE, NAMES, PLACES, STEEP, UPWARD, plural

if TYPE_CHECKING:
    from jointnet_cli.evaluation.judge.prompts import Prompt

BIOMES = tuple(grammar.BIOMES)

TIMES = tuple(grammar.TIMES)

KINDS = grammar.KINDS

COLOURS = tuple(PALETTE)

PAINTED = {kind: tuple(colours) for kind, colours in grammar.COLOURS.items() if kind != "coral"}
"""The kinds whose colour is judged, each with the colours it comes in."""

VIEWS = ("level", "up", "down")

UNKNOWN = -1


@dataclass(frozen=True)
class Labels:
    """The labels of one image, as indices into the tuples of this module."""

    biome: int
    time: int
    view: int
    present: tuple[int, ...]
    """For each of `KINDS` 1, 0 or `UNKNOWN`."""
    colour: tuple[int, ...]
    """For each of `PAINTED` an index into `COLOURS`, or `UNKNOWN`."""


def label(scene: dict[str, Any], caption: str) -> Labels:
    """Return the labels of a sample from its scene record (`World.to_json`) and its caption."""
    named = named_objects(caption)
    standing: dict[str, set[str]] = {}
    for thing in scene["objects"]:
        standing.setdefault(thing["kind"], set()).add(thing["colour"])
    present = tuple(1 if kind in named else UNKNOWN if kind in standing else 0 for kind in KINDS)
    colour = []
    for kind in PAINTED:
        candidates = (named[kind] or standing.get(kind, set())) if kind in named else set()
        colour.append(COLOURS.index(next(iter(candidates))) if len(candidates) == 1 else UNKNOWN)
    view = _view(scene["camera"]["pitch"])
    biome = BIOMES.index(scene["biome"]) if view == "level" else UNKNOWN
    return Labels(biome, TIMES.index(scene["time"]), VIEWS.index(view), present, tuple(colour))


def label_record(record: Mapping[str, Any], caption: str) -> Labels | None:
    """Return the labels of a sample from its record; `None` if the record holds no scene of a world."""
    try:
        return label(record["scene"], caption)
    except (KeyError, TypeError, ValueError):  # other data sets name a scene, or describe it in other words
        return None


def _view(pitch: float) -> str:
    """Return which of `VIEWS` a camera with a pitch in degrees has: those that captions may name are up or down."""
    return "level" if abs(pitch) < STEEP else "up" if pitch > 0 else "down"


def named_objects(caption: str) -> dict[str, set[str]]:
    """Return the kinds of objects that a caption names, each with the colours given to it.

    The name of the place is no object: `a red rock canyon` names no rock, `a forest of fir trees` no tree.
    """
    found: dict[str, set[str]] = {}
    for match in _object_pattern().finditer(place_pattern().sub("@", caption)):
        colours = found.setdefault(_kinds_by_name()[match["name"]], set())
        if match["colour"]:
            colours.add(match["colour"])
    return found


@cache
def _kinds_by_name() -> dict[str, str]:
    return {form: kind for kind, names in NAMES.items() for name in names for form in (name, plural(name))}


@cache
def _object_pattern() -> re.Pattern[str]:
    names = sorted(_kinds_by_name(), key=len, reverse=True)  # `pine tree` before `tree`
    return re.compile(rf"\b(?:(?P<colour>{'|'.join(COLOURS)}) )?(?P<name>{'|'.join(names)})\b")


@cache
def place_pattern() -> re.Pattern[str]:
    """Return a pattern that finds what a caption calls its place."""
    names = {place.name.format(colour) for places in PLACES.values() for place in places for colour in COLOURS}
    names |= {re.sub(r"^(an?|the) ", "", name) for name in names}  # bare prompts drop the article
    return re.compile(rf"\b({'|'.join(sorted(names, key=len, reverse=True))})\b")


def labels_of_caption(text: str, labels: Labels) -> Labels:
    """Return labels of a world without the biome, the time of day or the view where its caption leaves them out."""
    return replace(
        labels,
        view=labels.view if any(phrase in text for phrase in (UPWARD, DOWNWARD, FROM_ABOVE)) else UNKNOWN,
        biome=labels.biome if place_pattern().search(text) else UNKNOWN,
        time=labels.time if any(phrase in text for phrase in _hours(TIMES[labels.time])) else UNKNOWN,
    )


def _hours(time: str) -> list[str]:
    """Return the phrases that tell a time of day."""
    spans = [
        phrase.format(vocabulary.SPANS[time])
        for group in vocabulary.WEATHER.values()
        for phrase in group
        if "{}" in phrase
    ]
    moon = vocabulary.MOON if time == "night" else ()
    return [*vocabulary.HOURS[time], *vocabulary.CLEAR_HOURS[time], *vocabulary.DEEP_HOURS[time], *moon, *spans]


def labels_of_prompt(prompt: Prompt) -> Labels:
    """Return what the image of a prompt must show; a kind is absent where its biome never holds it."""
    colours = [UNKNOWN] * len(PAINTED)
    if prompt.colour is not None:
        colours[list(PAINTED).index(prompt.kind)] = COLOURS.index(prompt.colour)
    present = tuple(_asked(prompt, kind) for kind in KINDS)
    return Labels(BIOMES.index(prompt.biome), TIMES.index(prompt.time), UNKNOWN, present, tuple(colours))


def _asked(prompt: Prompt, kind: str) -> int:
    if kind == prompt.kind:
        return 1
    biome = grammar.BIOMES[prompt.biome]
    may_hold = {rule.kind for rule in biome.heroes + biome.company} | ({"pine"} if prompt.biome == "forest" else set())
    return UNKNOWN if kind in may_hold else 0
