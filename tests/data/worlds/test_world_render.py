"""Renderings: geometry that agrees with itself, and bytes that depend on the seed alone."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from jointnet_cli.data.worlds.grammar import BIOMES, sample_world
from jointnet_cli.data.worlds.noise import texture
from jointnet_cli.data.worlds.raycast import SurfaceKind
from jointnet_cli.data.worlds.renderer import Rendering, render
from jointnet_cli.data.worlds.terrain import Terrain
from jointnet_cli.data.worlds.world import World

SIZE = 96


def some_worlds(per_biome: int, start: int = 300) -> list[World]:
    picked: dict[str, list[World]] = {biome: [] for biome in BIOMES}
    for seed in range(start, start + 400):
        world = sample_world(seed)
        if len(picked[world.biome]) < per_biome:
            picked[world.biome].append(world)
    return [world for worlds in picked.values() for world in worlds]


@pytest.fixture(scope="module")
def worlds() -> list[World]:
    return some_worlds(2)


@pytest.fixture(scope="module")
def rendering(worlds: list[World]) -> Rendering:
    return render(worlds, SIZE)


def test_shapes_ranges_and_the_sky(worlds: list[World], rendering: Rendering) -> None:
    b = len(worlds)
    assert rendering.rgb.shape == rendering.normals.shape == (b, 3, SIZE, SIZE)
    assert rendering.depth.shape == rendering.object_ids.shape == rendering.surface.shape == (b, SIZE, SIZE)
    assert rendering.intrinsics.shape == (b, 3, 3)
    assert rendering.rgb.dtype == rendering.depth.dtype == rendering.normals.dtype == torch.float32
    assert rendering.rgb.min() >= 0 and rendering.rgb.max() <= 1
    sky = rendering.surface == SurfaceKind.SKY
    assert torch.equal(sky, rendering.depth.isinf())
    assert rendering.depth.min() > 0 and not rendering.depth.isnan().any()
    length = rendering.normals.norm(dim=1)
    assert (length[sky] == 0).all()
    torch.testing.assert_close(length[~sky], torch.ones_like(length[~sky]), atol=1e-4, rtol=0)
    assert torch.equal(rendering.object_ids > 0, rendering.surface == SurfaceKind.OBJECT)


def points(rendering: Rendering) -> torch.Tensor:
    """Back-projected points (B, 3, H, W): x right, y up, z towards the viewer."""
    h, w = rendering.depth.shape[1:]
    y, x = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
    k = rendering.intrinsics[:, :, :, None, None]
    right, up = (x - k[:, 0, 2]) / k[:, 0, 0], (k[:, 1, 2] - y) / k[:, 1, 1]
    return torch.stack([right, up, -torch.ones_like(right)], 1) * rendering.depth[:, None]


def test_normals_agree_with_the_gradient_of_depth(rendering: Rendering) -> None:
    p = points(rendering)
    across, down = p[:, :, 1:-1, 2:] - p[:, :, 1:-1, :-2], p[:, :, 2:, 1:-1] - p[:, :, :-2, 1:-1]
    measured = F.normalize(torch.linalg.cross(across, -down, dim=1), dim=1)
    given = rendering.normals[:, :, 1:-1, 1:-1]
    # Away from edges: one object and surface in the neighbourhood, and no jump of depth.
    part = (rendering.object_ids * 8 + rendering.surface).float()[:, None]
    same = (F.max_pool2d(part, 3, 1) == -F.max_pool2d(-part, 3, 1))[:, 0]
    depth = rendering.depth.clamp(max=1e6)[:, None]
    smooth = (F.max_pool2d(depth, 3, 1) < 1.06 * -F.max_pool2d(-depth, 3, 1))[:, 0]
    inside = rendering.surface[:, 1:-1, 1:-1]
    for surface, median, tail in (
        (SurfaceKind.TERRAIN, 2.0, 15.0),
        (SurfaceKind.OBJECT, 2.0, 15.0),
        (SurfaceKind.WATER, 0.5, 1.0),
    ):
        chosen = same & smooth & (inside == surface)
        cosine = (measured * given).sum(1)[chosen].clamp(-1, 1)
        angle = torch.rad2deg(torch.acos(cosine))
        assert len(angle) > 500
        assert angle.median() < median, (surface, angle.median())
        assert angle.quantile(0.9) < tail, (surface, angle.quantile(0.9))


def test_open_water_has_the_depth_of_a_plane(worlds: list[World], rendering: Rendering) -> None:
    checked = 0
    for i, world in enumerate(worlds):
        wet = rendering.surface[i] == SurfaceKind.WATER
        if world.biome != "ocean" or not wet.any():
            continue
        pitch = math.radians(world.camera.pitch)
        rows = (torch.arange(SIZE) + 0.5)[:, None].expand(SIZE, SIZE)
        up = (rendering.intrinsics[i, 1, 2] - rows) / rendering.intrinsics[i, 1, 1]
        expected = world.camera.height / -(up * math.cos(pitch) + math.sin(pitch))
        torch.testing.assert_close(rendering.depth[i][wet], expected[wet], rtol=2e-3, atol=1e-3)
        level = torch.tensor([0.0, math.cos(pitch), -math.sin(pitch)])
        torch.testing.assert_close(rendering.normals[i][:, wet].T, level.expand(int(wet.sum()), 3))
        checked += 1
    assert checked


def test_a_world_looks_the_same_alone_and_in_any_batch(worlds: list[World], rendering: Rendering) -> None:
    for i in (0, 7, 13):
        alone = render([worlds[i]], SIZE)
        for name, value in vars(alone).items():
            assert torch.equal(value[0], getattr(rendering, name)[i]), name


def test_a_smaller_rendering_samples_the_same_points(worlds: list[World], rendering: Rendering) -> None:
    small = render(worlds, SIZE // 3)  # its pixel centres are every third centre of the larger one
    depth, ids = rendering.depth[:, 1::3, 1::3], rendering.object_ids[:, 1::3, 1::3]
    assert (small.object_ids == ids).float().mean() > 0.999
    both = small.depth.isfinite() & depth.isfinite()
    assert torch.equal(small.depth.isfinite(), depth.isfinite())
    assert ((small.depth - depth).abs()[both] / depth[both]).quantile(0.999) < 1e-3


def test_colour_and_depth_sample_the_same_point(worlds: list[World], rendering: Rendering) -> None:
    """Colour averaged over a pixel is centred where depth is taken: shifting it either way is worse."""
    small = render(worlds, SIZE // 3).rgb
    for axis in (2, 3):
        errors = []
        for shift in (-1, 0, 1):
            moved = F.avg_pool2d(rendering.rgb.roll(shift, axis), 3)
            errors.append(float((moved - small)[:, :, 1:-1, 1:-1].square().mean()))
        assert errors[1] < 0.8 * min(errors[0], errors[2])
        assert errors[0] == pytest.approx(errors[2], rel=0.35)


def test_a_wide_image_holds_the_square_one(worlds: list[World]) -> None:
    square, wide = render(worlds[:1], 32), render(worlds[:1], (32, 64))
    torch.testing.assert_close(wide.depth[:, :, 16:48], square.depth, rtol=1e-3, atol=1e-3)
    assert float(wide.intrinsics[0, 0, 2]) == 32 and float(wide.intrinsics[0, 1, 2]) == 16


def test_blocks_of_rays_join_without_a_seam(worlds: list[World], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = render(worlds[:2], 48)
    monkeypatch.setattr("jointnet_cli.data.worlds.renderer._BLOCK", 1000)
    parts = render(worlds[:2], 48)
    torch.testing.assert_close(parts.depth, whole.depth, rtol=1e-4, atol=1e-4)
    assert (parts.rgb - whole.rgb).abs().mean() < 1e-4


def test_night_is_dark_and_readable_and_noon_is_bright() -> None:
    by_time: dict[str, list[World]] = {}
    for seed in range(150):
        world = sample_world(seed)
        if world.biome != "reef" and world.weather == "clear":
            by_time.setdefault(world.time, []).append(world)
    means = {time: float(render(worlds[:8], 32).rgb.mean()) for time, worlds in by_time.items()}
    assert 0.06 < means["night"] < 0.3
    assert means["noon"] > 2 * means["night"] and means["dawn"] > 1.5 * means["night"]


def numpy_state() -> bytes:
    return bytes(np.random.get_state(legacy=False)["state"]["key"].tobytes())  # noqa: NPY002


def test_rendering_leaves_global_random_state_alone(worlds: list[World]) -> None:
    texture.cache_clear()
    torch.rand(1)  # away from any state that making the textures could leave behind
    before = torch.get_rng_state(), random.getstate(), numpy_state()
    render(worlds[:1], 16)
    after = torch.get_rng_state(), random.getstate(), numpy_state()
    assert torch.equal(before[0], after[0]) and before[1:] == after[1:]


def test_no_worlds_is_refused() -> None:
    with pytest.raises(ValueError, match="no worlds"):
        render([], 16)


def looking(world: World, pitch: float, fov: float) -> World:
    return replace(world, camera=replace(world.camera, pitch=pitch, fov=fov))


@pytest.fixture(scope="module")
def empty_sea() -> World:
    """Water to the horizon and nothing on it."""
    sea = next(w for w in map(sample_world, range(200)) if w.biome == "ocean" and w.theme is None)
    return replace(sea, objects=(), weather="clear")


@pytest.mark.parametrize("fov", [40.0, 100.0])
@pytest.mark.parametrize("pitch", [-90.0, -89.0, -45.0, -10.0, 20.0, 60.0, 90.0])
def test_a_plane_seen_at_any_pitch(empty_sea: World, pitch: float, fov: float) -> None:
    """Planar depth and normals of the level sea, worked out in camera space: x right, y up, z towards the viewer."""
    made = render([looking(empty_sea, pitch, fov)], 33)
    angle, focal = math.radians(pitch), 16.5 / math.tan(math.radians(fov) / 2)
    up = (16.5 - (np.arange(33) + 0.5))[:, None].repeat(33, 1) / focal
    fall = -(math.sin(angle) + up * math.cos(angle))  # metres down for a metre along the camera's axis
    sea = fall > 1e-5
    expected = np.where(sea, empty_sea.camera.height / np.where(sea, fall, 1), np.inf)
    near = expected < 2000  # beyond, the sea ends
    np.testing.assert_allclose(made.depth[0].numpy()[near], expected[near], rtol=2e-5)
    assert np.isinf(made.depth[0].numpy()[~sea]).all()
    level = [0.0, math.cos(angle), -math.sin(angle)]
    normals = made.normals[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(normals[near], np.broadcast_to(level, normals.shape)[near], atol=1e-6)
    assert (normals[~sea] == 0).all()


def test_straight_down_depth_is_the_height_and_normals_face_the_viewer(empty_sea: World) -> None:
    made = render([looking(empty_sea, -90, 60)], 16)
    assert torch.equal(made.depth, torch.full((1, 16, 16), empty_sea.camera.height))
    torch.testing.assert_close(made.normals[0].permute(1, 2, 0), torch.tensor([0.0, 0, 1]).expand(16, 16, 3))
    up = render([looking(empty_sea, 90, 60)], 16)
    assert up.depth.isinf().all() and not up.normals.any() and not up.surface.any()


@pytest.mark.parametrize("pitch", [-90.0, -70.0, -40.0, 25.0])
def test_hills_are_hit_where_they_are_at_any_pitch(pitch: float) -> None:
    hills = next(w for w in map(sample_world, range(200)) if w.biome == "hills" and w.theme is None)
    world = looking(replace(hills, objects=()), pitch, 90)
    made, terrain = render([world], 48), Terrain(world)
    x, y, toward = points(made)[0]
    c, s = math.cos(math.radians(pitch)), math.sin(math.radians(pitch))
    ahead, high = -toward * c - y * s, -toward * s + y * c
    land = made.surface[0] == SurfaceKind.TERRAIN
    assert land.float().mean() > (0.1 if pitch > 0 else 0.5)
    eye = float(terrain.at(torch.zeros(1), torch.zeros(1))) + world.camera.height
    miss = (terrain.at(x[land], ahead[land]) - eye - high[land]).abs() / made.depth[0][land]
    assert miss.median() < 1e-4 and miss.quantile(0.95) < 5e-3
    assert (made.normals[0][:, land].norm(dim=0) - 1).abs().max() < 1e-4


def test_stars_at_the_zenith_are_points(empty_sea: World) -> None:
    """Where elevation hardly changes, cells cut along it would be lines."""
    night = looking(replace(empty_sea, time="night", sun=(180.0, 20.0)), 90, 60)
    bright = render([night], 128).rgb[0].mean(0)
    stars = bright > bright.median() + 0.2
    rows, columns = (stars[1:] & stars[:-1]).sum(), (stars[:, 1:] & stars[:, :-1]).sum()
    assert stars.sum() > 30
    assert rows < 2 * columns + 10 and columns < 2 * rows + 10


def test_light_under_water_has_no_seam_behind_the_camera() -> None:
    reef = looking(next(w for w in map(sample_world, range(200)) if w.biome == "reef"), 90, 60)
    rgb = render([replace(reef, objects=())], 64).rgb[0]
    across = (rgb[:, :, 32] - rgb[:, :, 31]).abs()  # the upper half of the picture is behind
    assert across[:, :30].max() < 0.02
