"""Labels against what renderings show."""

from __future__ import annotations

import pytest

from jointnet_cli.data.worlds.captions import caption, visible_objects
from jointnet_cli.data.worlds.grammar import sample_world
from jointnet_cli.data.worlds.renderer import render
from jointnet_cli.data.worlds.vocabulary import STEEP
from jointnet_cli.evaluation.judge.labels import (
    BIOMES,
    COLOURS,
    KINDS,
    PAINTED,
    TIMES,
    UNKNOWN,
    VIEWS,
    label,
    labels_of_caption,
    labels_of_prompt,
    named_objects,
)
from jointnet_cli.evaluation.judge.prompts import Prompt


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a red hut and two fir trees on a hill", {"hut": {"red"}, "pine": set()}),
        ("a photo of a lonely blue sailing boat by a tropical island", {"boat": {"blue"}}),
        ("a yellow sailboat and a red boat on the sea", {"boat": {"yellow", "red"}}),
        ("colourful corals and three orange fish in an ocean reef", {"coral": set(), "fish": {"orange"}}),
        ("a cactus in a red rock canyon", {"cactus": set()}),
        ("a cabin in a forest of fir trees", {"hut": set()}),
        ("field of red flowers", {}),
        ("volcanic rock at night", {}),
        ("two stones by day", {"rock": set()}),
    ],
)
def test_named_objects(text: str, expected: dict[str, set[str]]) -> None:
    assert named_objects(text) == expected


def test_labels_say_only_what_shows() -> None:
    worlds = [sample_world(seed) for seed in range(90_000, 90_024)]
    rendering = render(worlds, 48)
    named = painted = 0
    for index, world in enumerate(worlds):
        seen = visible_objects(world, rendering, index)
        labels = label(world.to_json(48), caption(world, rendering, index))
        assert (BIOMES[labels.biome], TIMES[labels.time], VIEWS[labels.view]) == (world.biome, world.time, "level")
        for kind, present in zip(KINDS, labels.present, strict=True):
            shows = kind in {group.kind for group in seen}
            assert present == UNKNOWN or bool(present) == shows
            named += present == 1
        for kind, colour in zip(PAINTED, labels.colour, strict=True):
            if colour != UNKNOWN:
                assert COLOURS[colour] in {group.colour for group in seen if group.kind == kind}
                painted += 1
    assert named > 10
    assert painted > 3


def test_the_view_is_asked_for_where_the_caption_says_it() -> None:
    worlds = [sample_world(seed, 1.0) for seed in range(90_000, 90_040)]
    rendering, asked = render(worlds, 48), 0
    for index, world in enumerate(worlds):
        text, pitch = caption(world, rendering, index), world.camera.pitch
        labels = label(world.to_json(48), text)
        assert VIEWS[labels.view] == ("up" if pitch >= STEEP else "down" if pitch <= -STEEP else "level")
        assert (labels.biome == UNKNOWN) == (abs(pitch) >= STEEP)
        told = labels_of_caption(text, labels).view
        assert told in (labels.view, UNKNOWN)
        assert (told != UNKNOWN) == any(words in text for words in ("looking up at", "looking down at", "from above"))
        asked += told != UNKNOWN
    assert 15 < asked < 40


def scene(*objects: tuple[str, str | None]) -> dict[str, object]:
    standing = [{"kind": kind, "colour": colour} for kind, colour in objects]
    return {"biome": "ocean", "time": "dawn", "camera": {"pitch": 0.0}, "objects": standing}


def test_what_is_not_said_is_unknown() -> None:
    boats = scene(("boat", "red"), ("boat", "blue"), ("palm", None))
    silent = label(boats, "the open sea at dawn")
    assert silent.present[KINDS.index("boat")] == silent.present[KINDS.index("palm")] == UNKNOWN
    assert silent.present[KINDS.index("hut")] == 0
    vague, exact = label(boats, "a boat on the sea"), label(boats, "a blue boat on the sea")
    boat = list(PAINTED).index("boat")
    assert vague.present[KINDS.index("boat")] == exact.present[KINDS.index("boat")] == 1
    assert vague.colour[boat] == UNKNOWN
    assert exact.colour[boat] == COLOURS.index("blue")
    assert label(scene(("boat", "red")), "a boat on the sea").colour[boat] == COLOURS.index("red")


def test_what_the_image_of_a_prompt_must_show() -> None:
    asked = labels_of_prompt(Prompt("a red hut on a hill", "hills", "noon", "hut", "red"))
    present = dict(zip(KINDS, asked.present, strict=True))
    assert present["hut"] == 1
    assert present["sheep"] == UNKNOWN, "it may well stand there, unasked"
    assert present["coral"] == 0
    colour = dict(zip(PAINTED, asked.colour, strict=True))
    assert COLOURS[colour.pop("hut")] == "red"
    assert set(colour.values()) == {UNKNOWN}
