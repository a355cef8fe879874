"""The closed vocabulary of captions, kept small for a small text encoder."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from jointnet_cli.data.worlds.grammar import PALETTE, kinds_in_groups

NAMES = {
    "hut": ("hut", "house", "cabin", "cottage"),
    "tree": ("tree",),
    "pine": ("pine tree", "fir tree", "pine"),
    "palm": ("palm tree", "palm"),
    "cactus": ("cactus",),
    "rock": ("rock", "boulder", "stone"),
    "coral": ("coral",),
    "fish": ("fish",),
    "boat": ("boat", "sailboat", "sailing boat"),
    "lighthouse": ("lighthouse",),
    "pyramid": ("pyramid",),
    "sheep": ("sheep",),
    "balloon": ("hot air balloon", "balloon"),
    "windmill": ("windmill",),
}  # fmt: skip

PLURALS = {"cactus": "cacti", "fish": "fish", "sheep": "sheep"}

COUNTS = {
    2: ("two", "two", "a pair of"),
    3: ("three", "three", "a few"),
    4: ("four", "several", "some"),
}  # fmt: skip

MANY = ("many", "several", "a group of", "")

MIXED = ("colorful", "colourful", "bright", "")

LONE = ("lonely", "lone", "single")

# What a place is called, the prepositions that put an object there, and the one for a boat where it is another.
_PLACES = {
    "ocean": ("the ocean | on", "the sea | on in", "the open ocean | on", "the water | on", "the open sea | on"),
    "island": ("an island in the ocean | near by", "a small island | near by", "an island in the sea | near by",
        "a tropical island | near by", "the sea with an island | on"),
    "beach": ("a beach | on at by | by", "a sandy beach | on | by", "the seaside | at by | by",
        "the shore | on by | by", "a tropical beach | on | by", "the beach | on at | by", "the coast | on by | by",
        "the sea and a beach | by | near"),
    "reef": ("a coral reef | in on at", "an ocean reef | in on at", "a tropical reef | in on", "a reef | in on",
        "an underwater reef | in on", "a coral reef under the ocean | in on", "the ocean reef | in on",
        "a colorful reef | in on", "the sea floor | on", "the bottom of the sea | on at", "the ocean floor | on"),
    "sea floor": ("the sea floor | on", "the ocean floor | on", "the bottom of the sea | on at"),
    "desert": ("a desert | in", "sand dunes | in on", "a sandy desert | in", "the dunes | in", "the desert | in"),
    "snow": ("snow | in", "a snowy landscape | in", "a winter landscape | in", "a snowy field | in on",
        "the snow | in", "a snow covered valley | in"),
    "snowy mountains": ("snowy mountains | in", "the snowy mountains | in", "snow and mountains | in", "snow | in",
        "a snow covered valley | in", "a winter landscape | in", "the snow | in", "winter mountains | in"),
    "hills": ("green hills | on in", "a green hill | on", "a meadow | in on", "rolling hills | on in",
        "a grassy field | in on", "a green meadow | in on", "a hill | on", "the countryside | in"),
    "wheat": ("a wheat field | in", "golden hills | on in", "a yellow field | in on", "a golden field | in on"),
    "flowers": ("a field of {} flowers | in", "a meadow with {} flowers | in on", "hills with {} flowers | on",
        "{} flowers on a hill | and"),
    "canyon": ("a canyon | in", "a red rock canyon | in", "a rocky canyon | in", "red cliffs | by near",
        "the canyon | in"),
    "river": ("a canyon with a river | in | and", "a river in a canyon | by on | on",
        "a red rock canyon with a river | in | and", "a river between cliffs | by on | on"),
    "forest": ("a forest | in", "the woods | in", "a green forest | in", "the forest | in"),
    "pine": ("a pine forest | in", "a forest | in", "the woods | in", "a forest of fir trees | in"),
    "autumn": ("an autumn forest | in", "a forest in autumn | in", "an orange forest | in", "the autumn woods | in"),
    "lake": ("a lake | by at near | on", "the lake | by at | on", "a calm lake | by at near | on",
        "the shore of a lake | at on | and"),
    "mountain lake": ("a mountain lake | by at near | on", "a lake in the mountains | by at near | on",
        "a lake | by at near | on", "mountains and a lake | by near | and", "the lake | by at | on"),
    "valley": ("a green valley | in", "a meadow in the mountains | in", "a mountain meadow | in on"),
    "volcano": ("a volcano | near by", "an erupting volcano | near by", "a volcano with lava | near by",
        "a fiery volcano | near by", "the volcano | near by"),
    "ash": ("a volcanic landscape | in", "volcanic rock | on"),
    # What a tilted camera may be left with: ground alone, or air alone.
    "sand": ("the sand | on", "sand | on", "sandy ground | on"),
    "snowy ground": ("the snow | in on", "snow | in on", "snowy ground | on"),
    "grassy ground": ("a meadow | in on", "a grassy field | in on", "grassy ground | on"),
    "wheat ground": ("a wheat field | in", "a golden field | in", "a yellow field | in"),
    "red rock": ("red rock | on", "rocky ground | on", "the ground | on"),
    "forest floor": ("the forest floor | on", "the ground | on"),
    "ground": ("the ground | on",),
    "open water": ("the water | by near | on", "water | by near | on"),
    "blue sky": ("a blue sky | in", "the sky | in", "a clear sky | in"),
    "starry sky": ("a starry sky | in", "the stars | under", "the sky | in", "a clear sky | in"),
    "clear sky": ("the sky | in", "a clear sky | in"),
    "cloudy sky": ("a cloudy sky | in", "the clouds | under", "the sky | in"),
    "foggy sky": ("the fog | in", "the mist | in"),
    "bright water": ("the water | in", "bright water | in"),
    "dark water": ("the water | in", "dark water | in"),
}  # fmt: skip

HOURS = {
    "noon": ("at noon", "during the day", "in daylight", "by day"),
    "dawn": ("at dawn", "at sunrise", "in the early morning"),
    "sunset": ("at sunset", "in the evening", "at dusk", "at sunset"),
    "night": ("at night", "at midnight", "at night", "in the dark"),
}  # fmt: skip

# Said only under a clear sky that shows.
CLEAR_HOURS = {
    "noon": ("on a sunny day", "under a blue sky", "in the sun"),
    "dawn": ("under a pink sky", "under a morning sky"),
    "sunset": ("with an orange sky", "under a sunset sky"),
    "night": ("under the stars", "on a starry night", "under a starry sky"),
}  # fmt: skip

MOON = ("under the moon", "by moonlight", "with a full moon")

WEATHER = {
    "clear": ("with a clear sky", "in clear weather"),
    "cloudy": ("with clouds", "under a cloudy sky", "on a cloudy {}"),
    "foggy": ("in fog", "in the mist", "on a foggy {}", "in the fog"),
}  # fmt: skip

SPANS = {"noon": "day", "sunset": "evening", "night": "night", "dawn": "morning"}

BENEATH = ("under the sea", "underwater", "under water", "under the ocean", "in the sea")

DEEP_HOURS = {
    "noon": ("by day", "in bright water"),
    "dawn": ("in the morning",),
    "sunset": ("in the evening",),
    "night": ("at night", "in the dark"),
}  # fmt: skip

OPENINGS = ("a photo of", "a view of", "a picture of", "a scene of", "a landscape with")

AIRBORNE = ("over", "above")

UPWARD, DOWNWARD, FROM_ABOVE, WIDE = "looking up at", "looking down at", "from above", "a wide view of"

STEEP = 15
"""Degrees of pitch, up or down, from which it is worth a word: cameras that are not tilted never reach them."""


class PlaceName(NamedTuple):
    """A name for a place, with the prepositions that put objects, and boats, there."""

    name: str
    prepositions: tuple[str, ...]
    afloat: str | None


def _place(row: str) -> PlaceName:
    name, prepositions, *afloat = row.split(" | ")
    return PlaceName(name, tuple(prepositions.split()), afloat[0] if afloat else None)


PLACES = {scene: tuple(_place(row) for row in rows) for scene, rows in _PLACES.items()}


def plural(name: str) -> str:
    """Return the plural of an object's name."""
    return PLURALS.get(name, name + "s")


def caption_words() -> list[str]:
    """Return every word that captions may use, sorted."""
    phrases = [
        "a an the and with",
        *PALETTE,
        *MANY,
        *MIXED,
        *LONE,
        *MOON,
        *BENEATH,
        *OPENINGS,
        *AIRBORNE,
        *(UPWARD, DOWNWARD, FROM_ABOVE, WIDE),
        *SPANS.values(),
    ]
    tables: tuple[Iterable[tuple[str, ...]], ...] = (
        NAMES.values(), COUNTS.values(), HOURS.values(), CLEAR_HOURS.values(), WEATHER.values(), DEEP_HOURS.values(),
        _PLACES.values(),
    )  # fmt: skip
    phrases += [phrase for table in tables for group in table for phrase in group]
    phrases += [plural(name) for kind in kinds_in_groups() for name in NAMES[kind]]
    return sorted({word for phrase in phrases for word in re.findall(r"[a-z]+", phrase)})
