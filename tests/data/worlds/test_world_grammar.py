"""What worlds contain: reproducible, balanced, near enough to be learnt, and fit for JSON."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jointnet_cli.data.worlds.grammar import BIOMES, COLOURS, KINDS, PALETTE, TIMES, WEATHERS, sample_world
from jointnet_cli.data.worlds.world import EVALUATION_SEEDS, World

COUNT = 4000


@pytest.fixture(scope="module")
def worlds() -> list[World]:
    return [sample_world(seed) for seed in range(COUNT)]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2 * EVALUATION_SEEDS))
def test_a_world_is_a_function_of_its_seed_and_fits_json(seed: int) -> None:
    world = sample_world(seed)
    assert world == sample_world(seed)
    facts = json.loads(json.dumps(world.to_json((96, 160)), allow_nan=False))
    assert facts["seed"] == seed
    assert facts["biome"] in BIOMES and facts["time"] in TIMES and facts["weather"] in WEATHERS
    assert [thing["id"] for thing in facts["objects"]] == list(range(1, len(world.objects) + 1))
    for thing in world.objects:
        assert thing.kind in KINDS
        assert (thing.colour in PALETTE) if thing.kind in COLOURS else thing.colour is None
        assert thing.position[2] > 0
    (fx, _, cx), (_, fy, cy), last = facts["camera"]["intrinsics"]
    assert (cx, cy, last) == (80, 48, [0, 0, 1]) and fx == fy
    assert 2 * math.degrees(math.atan(48 / fy)) == pytest.approx(world.camera.fov)


def test_sampling_leaves_global_random_state_alone() -> None:
    before = random.getstate()
    sample_world(3)
    assert random.getstate() == before


def test_another_process_samples_the_same_without_loading_torch() -> None:
    code = (
        "import json, sys; from jointnet_cli.data.worlds.grammar import sample_world; "
        "print(json.dumps([sample_world(11).to_json(128), 'torch' in sys.modules]))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(printed) == [json.loads(json.dumps(sample_world(11).to_json(128))), False]


def test_biomes_times_and_weather_are_balanced(worlds: list[World]) -> None:
    biomes = Counter(world.biome for world in worlds)
    assert set(biomes) == set(BIOMES)
    assert all(0.075 * COUNT < n < 0.135 * COUNT for n in biomes.values()), biomes
    times = Counter(world.time for world in worlds)
    assert all(abs(times[time] / COUNT - share) < 0.03 for time, share in TIMES.items()), times
    dry = [world for world in worlds if world.biome != "reef"]
    weathers = Counter(world.weather for world in dry)
    assert all(abs(weathers[name] / len(dry) - share) < 0.03 for name, share in WEATHERS.items()), weathers


def test_every_kind_and_colour_occurs_often_enough_to_be_learnt(worlds: list[World]) -> None:
    kinds = Counter(kind for world in worlds for kind in {thing.kind for thing in world.objects})
    assert set(kinds) == set(KINDS)
    assert min(kinds.values()) > 0.02 * COUNT, kinds
    pairs = Counter((thing.kind, thing.colour) for world in worlds for thing in world.objects if thing.colour)
    assert set(pairs) == {(kind, colour) for kind, colours in COLOURS.items() for colour in colours}
    places = Counter((world.biome, thing.kind, thing.colour) for world in worlds for thing in world.objects)
    assert places["hills", "hut", "red"] > 0.006 * COUNT
    for biome in ("ocean", "beach", "hills"):
        assert sum(places[biome, "lighthouse", colour] for colour in COLOURS["lighthouse"]) > 0.01 * COUNT


def test_named_objects_are_near_and_central(worlds: list[World]) -> None:
    shares, offsets = [], []
    for world in worlds:
        half = math.tan(math.radians(world.camera.fov) / 2)
        for thing in world.objects:
            if thing.kind in ("hut", "lighthouse", "windmill", "pyramid"):
                x, _, z = thing.position
                shares.append(thing.size / (2 * half * z))
                offsets.append(abs(x) / (half * z))
    assert min(shares) > 0.2 and max(shares) < 0.65
    assert sum(shares) / len(shares) > 0.33
    assert max(offsets) <= 0.5


def test_cameras_look_nearly_level_except_under_water(worlds: list[World]) -> None:
    for world in worlds:
        assert (-12 <= world.camera.pitch <= 0) if world.biome == "reef" else abs(world.camera.pitch) <= 6


def test_a_tilted_share_turns_the_camera_of_some_worlds_alone(worlds: list[World]) -> None:
    tilted = [sample_world(seed, 0.25) for seed in range(COUNT)]
    turned = [pair for pair in zip(worlds, tilted, strict=True) if pair[0] != pair[1]]
    assert len(turned) == pytest.approx(0.25 * COUNT, abs=0.02 * COUNT)
    for level, other in turned:
        assert replace(other, camera=level.camera) == level
        assert other.camera.height == level.camera.height
        assert -90 <= other.camera.pitch <= 90 and 40 <= other.camera.fov <= 100
    pitches = sorted(other.camera.pitch for _, other in turned)
    assert pitches[0] < -85 and pitches[-1] > 85 and abs(pitches[len(pitches) // 2]) < 8
    more = [sample_world(seed, 0.5) for seed in range(200)]
    assert all(one == other or world == one for world, one, other in zip(worlds, tilted, more, strict=False))
