"""Captions against what the images show."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from jointnet_cli.data.worlds.captions import caption, visible_objects
from jointnet_cli.data.worlds.grammar import PALETTE, sample_world
from jointnet_cli.data.worlds.raycast import SurfaceKind
from jointnet_cli.data.worlds.renderer import Rendering, render
from jointnet_cli.data.worlds.vocabulary import NAMES, PLACES, caption_words, plural
from jointnet_cli.data.worlds.world import World

SIZE, WORLDS, WORDINGS = 64, 110, 6
NUMBERS = {"a pair of": 2, "two": 2, "three": 3, "a few": 3, "four": 4, "several": 4, "some": 4, "many": 5}
# What may be said only of one time of day, or of one kind of weather.
TIME_WORDS = {
    "noon": "noon|day|daylight|sunny|blue sky|in the sun",
    "sunset": "sunset|evening|dusk|orange sky",
    "night": "night|midnight|dark|stars|starry|moon|moonlight",
    "dawn": "dawn|sunrise|morning|pink sky",
}
WEATHER_WORDS = {
    "clear": "clear|sunny|blue sky|in the sun|orange sky|pink sky|morning sky|sunset sky|stars|starry|moon|moonlight",
    "cloudy": "cloudy|clouds",
    "foggy": "fog|foggy|mist",
}
PINNED = [
    "a picture of a green cabin and a palm tree on the beach in the dark",
    "a red house and three rocks near the volcano at night",
    "a blue hot air balloon over the coast at dawn in clear weather",
]
SKY_WORDS = "stars|starry|blue sky|orange sky|pink sky|clear sky|cloudy sky|morning sky|sunset sky|clouds"


@pytest.fixture(scope="module")
def scenes() -> tuple[list[World], Rendering]:
    worlds = [sample_world(seed) for seed in range(40_000, 40_000 + WORLDS)]
    return worlds, render(worlds, SIZE)


@pytest.fixture(scope="module")
def captions(scenes: tuple[list[World], Rendering]) -> list[tuple[int, str]]:
    worlds, rendering = scenes
    return [(i, caption(w, rendering, i, seed)) for i, w in enumerate(worlds) for seed in (None, *range(WORDINGS - 1))]


def says(text: str, words: str) -> bool:
    return re.search(rf"\b({words})\b", text) is not None


def without_place(text: str) -> str:
    """The caption less the name of its place: `a red rock canyon` is no rock, `a forest of fir trees` no tree."""
    names = {place.name.format(colour) for places in PLACES.values() for place in places for colour in ("", *PALETTE)}
    names |= {re.sub(r"^(an?|the) ", "", name) for name in names}
    for name in sorted(names, key=len, reverse=True):
        text = re.sub(rf"\b{name}\b", "@", text)
    return text


def mentions(text: str) -> list[tuple[str, str | None, str, bool]]:
    """(kind, colour, count words, plural) of each object that a caption names."""
    by_name = {
        form: (kind, form != name) for kind, names in NAMES.items() for name in names for form in (name, plural(name))
    }
    names = "|".join(sorted(by_name, key=len, reverse=True))
    counts, colours = "|".join((*NUMBERS, "a group of", "an", "a")), "|".join(PALETTE)
    pattern = rf"(?:\b({counts}) )?(?:(?:lonely|lone|single) )?(?:\b({colours}) )?\b({names})\b"
    return [(by_name[m[3]][0], m[2], m[1] or "", by_name[m[3]][1]) for m in re.finditer(pattern, without_place(text))]


def test_captions_name_only_what_shows(scenes: tuple[list[World], Rendering], captions: list[tuple[int, str]]) -> None:
    worlds, rendering = scenes
    named = 0
    for i, text in captions:
        groups = visible_objects(worlds[i], rendering, i)
        for kind, colour, count, many in mentions(text):
            found = [g.count for g in groups if g.kind == kind and colour in (None, g.colour)]
            assert found, (text, groups)
            if count in ("a", "an") and kind not in ("fish", "sheep"):
                assert 1 in found and not many, (text, groups)
            elif count in NUMBERS and kind != "coral":
                exact = count in ("two", "three", "four", "a pair of", "a few")
                assert any(n == NUMBERS[count] if exact else n >= NUMBERS[count] for n in found), (text, groups)
            named += 1
    assert named > 300


def test_visible_objects_are_those_of_the_id_map(scenes: tuple[list[World], Rendering]) -> None:
    worlds, rendering = scenes
    for i, world in enumerate(worlds):
        ids = rendering.object_ids[i]
        for group in visible_objects(world, rendering, i):
            members = [t.id for t in world.objects if (t.kind, t.colour) == (group.kind, group.colour)]
            pixels = [int((ids == member).sum()) for member in members]
            assert group.count <= len(members) and 0 < group.pixels <= sum(pixels)
            assert group.pixels / group.count >= 0.0016 * SIZE * SIZE


def test_captions_do_not_contradict_the_time_or_weather(
    scenes: tuple[list[World], Rendering], captions: list[tuple[int, str]]
) -> None:
    worlds, rendering = scenes
    said = {"time": 0, "weather": 0}
    for i, text in captions:
        world = worlds[i]
        for time, words in TIME_WORDS.items():
            clean = re.sub("cloudy day|foggy day", "", text) if world.time == "noon" else text
            assert time == world.time or not says(clean, words), (world, text)
            said["time"] += time == world.time and says(text, words)
        for weather, words in WEATHER_WORDS.items():
            assert weather == world.weather or not says(text, words), (world, text)
            said["weather"] += weather == world.weather and says(text, words)
        if says(text, SKY_WORDS):
            assert (rendering.surface[i] == SurfaceKind.SKY).float().mean() > 0.1, text
    assert said["time"] > 0.6 * len(captions) and said["weather"] > 0.2 * len(captions)


def test_water_and_islands_are_named_only_where_they_show(
    scenes: tuple[list[World], Rendering], captions: list[tuple[int, str]]
) -> None:
    worlds, rendering = scenes
    for i, text in captions:
        share = {s: float((rendering.surface[i] == s).float().mean()) for s in SurfaceKind}
        if says(text, "lake|river|ocean|sea|water|island") and worlds[i].biome != "reef":
            assert share[SurfaceKind.WATER] > 0.005, text
        if says(text, "island"):
            assert share[SurfaceKind.TERRAIN] > 0.005, text
        if says(text, "reef"):
            assert worlds[i].biome == "reef"


def test_a_lake_out_of_sight_is_not_named(scenes: tuple[list[World], Rendering]) -> None:
    worlds, rendering = scenes
    dry = torch.where(rendering.surface == SurfaceKind.WATER, int(SurfaceKind.TERRAIN), rendering.surface)
    drained = replace(rendering, surface=dry)
    lakes = [i for i, world in enumerate(worlds) if world.biome == "lake"]
    texts = [caption(worlds[i], drained, i, seed) for i in lakes for seed in range(WORDINGS)]
    assert texts and not any(says(text, "lake|water") for text in texts)


def test_the_moon_is_named_only_where_it_shines() -> None:
    nights = [w for w in map(sample_world, range(900)) if w.time == "night" and w.weather == "clear"]
    nights = [world for world in nights if world.biome in ("ocean", "desert", "beach")][:36]
    rendering = render(nights, SIZE)
    # Stars are points: only the moon fills 3 x 3 pixels.
    disc = F.avg_pool2d(rendering.rgb, 3, 1).amin(1).flatten(1).amax(1) > 0.8
    said = [any(says(caption(w, rendering, i, s), "moon|moonlight") for s in range(12)) for i, w in enumerate(nights)]
    assert any(said) and not all(said)
    assert all(shines for shines, named in zip(disc.tolist(), said, strict=True) if named)


def test_words_come_from_the_vocabulary(captions: list[tuple[int, str]]) -> None:
    words = caption_words()
    assert words == sorted(set(words)) and 120 < len(words) < 250
    used = {word for _, text in captions for word in re.findall(r"[^\s,]+", text)}
    assert used <= set(words), used - set(words)
    assert {"palms", "boats"} <= set(words) and not {"huts", "windmills"} & set(words)  # a world has one hut at most


def test_captions_vary_and_repeat_with_their_seed(
    scenes: tuple[list[World], Rendering], captions: list[tuple[int, str]]
) -> None:
    worlds, rendering = scenes
    assert caption(worlds[3], rendering, 3) == caption(worlds[3], rendering, 3)
    assert len({text for _, text in captions}) > 0.8 * len(captions)
    lengths = [len(text.split()) for _, text in captions]
    assert min(lengths) <= 3 and max(lengths) <= 30
    assert all("  " not in text and text == text.strip() and "{" not in text for _, text in captions)


@pytest.fixture(scope="module")
def tilted() -> tuple[list[World], Rendering]:
    worlds = [sample_world(seed, 1.0) for seed in range(41_000, 41_048)]
    return worlds, render(worlds, SIZE // 2)


@pytest.fixture(scope="module")
def tilted_captions(tilted: tuple[list[World], Rendering]) -> list[tuple[int, str]]:
    worlds, rendering = tilted
    return [(i, caption(w, rendering, i, seed)) for i, w in enumerate(worlds) for seed in (None, *range(WORDINGS - 1))]


def test_how_a_camera_looks_is_said_as_it_is(
    tilted: tuple[list[World], Rendering], tilted_captions: list[tuple[int, str]]
) -> None:
    said = dict.fromkeys(("looking up at", "looking down at", "from above", "a wide view of"), 0)
    for i, text in tilted_captions:
        camera = tilted[0][i].camera
        for words, true in {
            "looking up at": camera.pitch >= 15,
            "looking down at|from above": camera.pitch <= -15,
            "a wide view of": camera.fov >= 80 and abs(camera.pitch) < 15,
        }.items():
            assert true or not says(text, words), (camera, text)
        for words in said:
            said[words] += says(text, words)
    assert min(said.values()) > 4, said
    assert said["looking up at"] > 0.25 * len(tilted_captions)


def test_tilted_captions_name_only_what_shows(
    tilted: tuple[list[World], Rendering], tilted_captions: list[tuple[int, str]]
) -> None:
    worlds, rendering = tilted
    known, skies, grounds = set(caption_words()), 0, 0
    for i, text in tilted_captions:
        assert set(re.findall(r"[^\s,]+", text)) <= known, text
        assert "  " not in text and text == text.strip() and "{" not in text
        share = {s: float((rendering.surface[i] == s).float().mean()) for s in SurfaceKind}
        groups = visible_objects(worlds[i], rendering, i)
        for kind, colour, _, _ in mentions(text):
            assert any(g.kind == kind and colour in (None, g.colour) for g in groups), (text, groups)
        if share[SurfaceKind.SKY] > 0.999:  # nothing tells where this is
            skies += 1
            place = "ocean|desert|snow|snowy|hill|hills|forest|woods|lake|canyon|volcano|beach|shore|meadow|ground|sand"
            assert worlds[i].biome == "reef" or not says(text, place), text
            assert worlds[i].biome == "reef" or says(text, "sky|stars|clouds|fog|mist"), text
        if share[SurfaceKind.SKY] == 0:
            grounds += 1
            assert not says(text, "sky|stars|starry|clouds|moon"), text
            assert (
                worlds[i].biome == "snow"
                or not says(text, "mountains|mountain|hills|dunes")
                or ((rendering.depth[i] > 40).float().mean() > 0.02)
            ), text
        if says(text, "lake|river|ocean|sea|water|island") and worlds[i].biome != "reef":
            assert share[SurfaceKind.WATER] > 0.005, text
    assert skies > 40 and grounds > 40


def test_level_worlds_keep_their_captions(scenes: tuple[list[World], Rendering]) -> None:
    worlds, rendering = scenes
    assert [caption(worlds[i], rendering, i) for i in (0, 1, 2)] == PINNED
