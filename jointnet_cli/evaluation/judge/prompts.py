"""Two hundred fixed prompts, each with what its image must show.

Every biome has twenty prompts, every time of day fifty. Each prompt names one kind of object that occurs in its biome,
as evenly as the biomes allow (ten to twenty of each kind), and the colours of a kind take turns. Words are those of the
training captions, and they take turns too: nothing is drawn at random.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

from jointnet_cli.data.worlds.vocabulary import DEEP_HOURS, HOURS, NAMES, PLACES, PlaceName, plural
from jointnet_cli.evaluation.judge.labels import PAINTED, TIMES

T = TypeVar("T")

OBJECTS = {
    "ocean": {"boat": 7, "lighthouse": 7, "palm": 6},
    "beach": {"palm": 4, "lighthouse": 6, "boat": 6, "rock": 4},
    "reef": {"fish": 10, "coral": 10},
    "desert": {"pyramid": 10, "cactus": 7, "balloon": 3},
    "snow": {"hut": 10, "pine": 6, "balloon": 4},
    "hills": {"windmill": 10, "sheep": 10},
    "canyon": {"cactus": 8, "rock": 8, "balloon": 4},
    "forest": {"tree": 12, "pine": 4, "hut": 4},
    "lake": {"boat": 6, "hut": 6, "pine": 8},
    "volcano": {"palm": 6, "tree": 4, "rock": 5, "balloon": 5},
}
"""How many of a biome's prompts name which kind."""

_PLACES = {"snow": "snowy mountains", "lake": "mountain lake", "hills": "hills"}
"""Key into `PLACES` where it is not the biome's name; `_place` adds what an object asks for."""

_MANY = {"fish": "three", "sheep": "two", "coral": "colorful", "tree": "several"}
"""Kinds that captions show in numbers."""


@dataclass(frozen=True)
class Prompt:
    """A prompt and what its image must show."""

    text: str
    biome: str
    time: str
    kind: str
    """The object that is named."""
    colour: str | None
    """Its colour, for the kinds whose colour is judged."""


@cache
def fixed_prompts() -> tuple[Prompt, ...]:
    """Return the prompts, biome after biome; the number of a prompt is its seed."""
    uses: Counter[str] = Counter()
    prompts = []
    for biome, kinds in OBJECTS.items():
        slots = [kind for kind, repeats in kinds.items() for _ in range(repeats)]
        for turn, kind in enumerate(slots):
            prompts.append(_compose(biome, kind, turn, uses[kind]))
            uses[kind] += 1
    return tuple(prompts)


def spread(items: Sequence[T], count: int) -> list[T]:
    """Return `count` items, or all if there are fewer, spread evenly from the first to the last."""
    count = min(count, len(items))
    return [items[round(i * (len(items) - 1) / max(1, count - 1))] for i in range(count)]


def _compose(biome: str, kind: str, turn: int, use: int) -> Prompt:
    """Return the prompt of a biome's turn; `use` counts the prompts of the kind so far."""
    time = TIMES[turn % len(TIMES)]
    colours = PAINTED.get(kind, ())
    # A step further every round: a colour must not always fall on the same time of day.
    colour = colours[(use + use // len(colours)) % len(colours)] if colours else None
    places = PLACES[_place(biome, kind)]
    place = places[turn % len(places)]
    hours = tuple(dict.fromkeys((DEEP_HOURS if biome == "reef" else HOURS)[time]))
    thing = _thing(kind, colour, NAMES[kind][use % len(NAMES[kind])])
    text = f"{thing} {_preposition(kind, place)} {place.name} {hours[turn // len(TIMES) % len(hours)]}"
    return Prompt(text, biome, time, kind, colour)


def _place(biome: str, kind: str) -> str:
    """Return the key into `PLACES`: palms need an island, and fir trees a wood of them."""
    if biome == "ocean" and kind in ("palm", "lighthouse"):
        return "island"
    if biome == "forest" and kind == "pine":
        return "pine"
    return _PLACES.get(biome, biome)


def _preposition(kind: str, place: PlaceName) -> str:
    if kind == "balloon":
        return "over"
    if kind in ("palm", "lighthouse") and "island" in place.name:
        return "on"
    return (place.afloat if kind == "boat" else None) or place.prepositions[0]


def _thing(kind: str, colour: str | None, name: str) -> str:
    words = f"{colour} {plural(name)}" if colour else plural(name)
    if kind in _MANY:
        return f"{_MANY[kind]} {words}"
    words = f"{colour} {name}" if colour else name
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def prompts_of_all_biomes() -> list[str]:
    """Return the texts of the fixed prompts in an order in which the first ones are of all biomes."""
    fixed = [prompt.text for prompt in fixed_prompts()]
    turns = len(fixed) // len(OBJECTS)
    return [text for turn in range(turns) for text in fixed[turn::turns]]
