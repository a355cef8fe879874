"""Ray casting against scenes whose depth is known in closed form."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from jointnet_cli.data.worlds.grammar import sample_world
from jointnet_cli.data.worlds.objects import (
    BALL,
    BOX,
    BUILDERS,
    CONE,
    GABLE,
    PYRAMID,
    Primitives,
    bounding_radii,
    build,
    primitives,
    turn_y,
)
from jointnet_cli.data.worlds.raycast import FAR, SurfaceKind, intersect, march, pairs, shadowed, trace
from jointnet_cli.data.worlds.terrain import SIDE, Terrain, ground
from jointnet_cli.data.worlds.world import SceneObject, World

ORIGIN = torch.tensor([0.0, 2.0, 0.0])


def solid(shape: int, centre: tuple[float, float, float], frame: np.ndarray, taper: float = 0.0) -> Primitives:
    shapes, frames, tapers = np.array([shape]), frame[None], np.array([taper])
    return Primitives(
        torch.tensor([shape]), torch.tensor([centre]), torch.tensor(np.linalg.inv(frames), dtype=torch.float32),
        torch.tensor([taper]), torch.ones(1, 3), torch.zeros(1),
        torch.tensor(bounding_radii(shapes, frames, tapers), dtype=torch.float32), torch.tensor([1]),
    )  # fmt: skip


def fan(side: int = 41, reach: float = 0.6) -> Tensor:
    steps = torch.linspace(-reach, reach, side)
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    return torch.stack([x.reshape(-1), y.reshape(-1), torch.ones(side * side)], 1)


def cast(shapes: Primitives, rays: Tensor) -> tuple[Tensor, Tensor]:
    """Depth and unit normal of every ray, tried against every shape."""
    ray = torch.arange(len(rays)).repeat_interleave(len(shapes))
    which = torch.arange(len(shapes)).repeat(len(rays))
    depth, normal = intersect(shapes, which, ORIGIN.expand(len(ray), 3), rays[ray])
    return depth, torch.nn.functional.normalize(normal, dim=1)


def test_sphere_depth_is_planar_and_exact() -> None:
    centre, radius = (0.5, 2.5, 10.0), 2.0
    rays = fan()
    depth, normal = cast(solid(BALL, centre, np.eye(3) * radius), rays)
    d, offset = rays.double().numpy(), np.array(centre) - ORIGIN.numpy()
    a, b, c = (d * d).sum(1), d @ offset, offset @ offset - radius**2
    square = b * b - a * c
    expected = (b - np.sqrt(np.maximum(square, 0))) / a
    hit = square > 1e-3
    assert hit.sum() > 100 and (~hit).sum() > 100
    np.testing.assert_allclose(depth[hit].numpy(), expected[hit], rtol=1e-4)
    assert (depth[square < -1e-3] == FAR).all()
    surface = ORIGIN + depth[hit][:, None] * rays[hit]
    torch.testing.assert_close(normal[hit], (surface - torch.tensor(centre)) / radius, atol=2e-3, rtol=0)


def test_box_faces_the_camera_at_its_front() -> None:
    depth, normal = cast(solid(BOX, (0.0, 2.0, 12.0), np.diag([3.0, 2.0, 1.5])), fan(41, 0.5))
    rays = fan(41, 0.5)
    front = (rays[:, 0].abs() < 3 / 10.5 - 0.01) & (rays[:, 1].abs() < 2 / 10.5 - 0.01)
    torch.testing.assert_close(depth[front], torch.full_like(depth[front], 10.5))
    assert (normal[front] == torch.tensor([0.0, 0.0, -1.0])).all()
    assert (depth[~front & ((rays[:, 0].abs() > 3 / 10.5 + 0.01) | (rays[:, 1].abs() > 2 / 10.5 + 0.01))] == FAR).all()


def test_cone_narrows_with_height() -> None:
    height, base, taper = 4.0, 2.0, 0.25
    shapes = solid(CONE, (0.0, 0.0, 10.0), np.diag([base, height, base]), taper)
    for y in (0.5, 1.5, 2.5, 3.9):
        ray = torch.tensor([[0.0, (y - 2.0) / 10, 1.0]])
        depth, _ = cast(shapes, ray)
        at = ORIGIN + depth[0] * ray[0]
        radius = base * (1 - (1 - taper) * float(at[1]) / height)
        assert float(at[2]) == pytest.approx(10 - radius, abs=1e-3)


@pytest.mark.parametrize("shape", [BALL, CONE, BOX, PYRAMID, GABLE])
def test_moved_solids_are_hit_on_their_surface_with_outward_normals(shape: int) -> None:
    frame = turn_y(0.6) @ np.diag([2.0, 2.5, 1.5])
    shapes = solid(shape, (0.4, 1.0, 9.0), frame, 0.4)
    rays = fan()
    depth, normal = cast(shapes, rays)
    hit = depth < FAR
    assert hit.sum() > 60
    x, y, z = ((ORIGIN + depth[hit][:, None] * rays[hit] - shapes.centre[0]) @ shapes.inverse[0].T).unbind(1)
    gap = {
        BALL: (x * x + y * y + z * z).sqrt() - 1,
        CONE: torch.maximum((x * x + z * z).sqrt() - (1 - 0.6 * y), torch.maximum(y - 1, -y)),
        BOX: torch.maximum(torch.maximum(x.abs(), y.abs()), z.abs()) - 1,
        PYRAMID: torch.maximum(torch.maximum(x.abs(), z.abs()) + y - 1, -y),
        GABLE: torch.maximum(torch.maximum(x.abs() + y, z.abs()) - 1, -y),
    }[shape]
    assert gap.abs().max() < 2e-3
    assert (normal[hit] * rays[hit]).sum(1).max() < 1e-3


def test_bounding_spheres_hold_every_part_of_every_object() -> None:
    world = sample_world(1)
    for kind in BUILDERS:
        thing = SceneObject(1, kind, "red", (0.0, 0.0, 12.0), 5.0, 0.4)
        alone = World(1, "hills", "noon", "clear", None, (0, 30), (0, 40), world.camera, (thing,))
        shapes = primitives(alone, [0.0])
        assert len(shapes) == len(build(thing, alone)) > 0
        rays = fan()
        depth, _ = cast(shapes, rays)
        hits = (depth.view(len(rays), len(shapes)) < FAR).nonzero()
        near = pairs(shapes, ORIGIN[None], torch.nn.functional.normalize(rays, dim=1))
        assert {tuple(pair) for pair in hits.tolist()} <= set(zip(near[0].tolist(), near[1].tolist(), strict=True))
        assert len(hits) > 0


def tilted(slope: float) -> Terrain:
    """A plane y = slope * z in place of a real world's ground."""
    terrain = Terrain(sample_world(next(s for s in range(99) if sample_world(s).biome == "hills")))
    rows = terrain._z.view(SIDE, SIDE) * slope
    terrain.height, terrain.top = rows[None, None].contiguous(), float(rows.max())
    return terrain


@pytest.mark.parametrize("slope", [0.0, 0.05, -0.08])
def test_marching_meets_a_plane_where_algebra_says(slope: float) -> None:
    terrain, rays = tilted(slope), fan(61, 0.5)
    depth = march(terrain, ORIGIN, rays, torch.full((len(rays),), FAR))
    expected = ORIGIN[1] / (slope - rays[:, 1])
    expected = torch.where((rays[:, 1] < slope) & (expected > 1) & (expected < 350), expected, torch.nan)
    known = expected.isfinite()
    assert known.sum() > 1000
    torch.testing.assert_close(depth[known], expected[known], rtol=4e-3, atol=1e-3)
    assert (depth[rays[:, 1] > slope + 0.02] == FAR).all()


def test_marching_stops_at_its_limit() -> None:
    rays = fan(61, 0.5)
    limit = torch.full((len(rays),), 6.0)
    depth = march(tilted(0.0), ORIGIN, rays, limit)
    near = (rays[:, 1] < 0) & (2 / -rays[:, 1] < 5.9)
    assert (depth[near] < 6).all() and (depth[~near & (rays[:, 1] > -2 / 6.1)] == FAR).all()


def test_water_depth_and_normal() -> None:
    ocean = next(w for w in map(sample_world, range(200)) if w.biome == "ocean" and w.theme is None)
    world, rays = replace(ocean, objects=()), fan()
    hits = trace(Terrain(world), primitives(world, []), ORIGIN, rays)
    wet = rays[:, 1] < -1e-3
    torch.testing.assert_close(hits.depth[wet], 2 / -rays[wet, 1])
    assert (hits.surface[wet] == SurfaceKind.WATER).all() and (hits.surface[rays[:, 1] > 0] == SurfaceKind.SKY).all()
    assert hits.depth[rays[:, 1] > 0].isinf().all()


def test_real_ground_is_hit_where_the_height_field_is() -> None:
    misses, uphill = [], 0
    for seed in range(20, 32):
        world = sample_world(seed)
        terrain = Terrain(world)
        origin = torch.tensor([0.0, max(float(terrain.at(torch.zeros(1), torch.zeros(1))), 0) + 2.0, 0.0])
        rays = fan()
        hits = trace(terrain, primitives(world, [0.0] * len(world.objects)), origin, rays)
        land = hits.surface == SurfaceKind.TERRAIN
        at = origin + hits.depth[land][:, None] * rays[land]
        misses.append((terrain.at(at[:, 0], at[:, 2]) - at[:, 1]).abs() / hits.depth[land])
        uphill += int((rays[land, 1] > 0.02).sum())
    miss = torch.cat(misses)
    assert len(miss) > 3000 and uphill > 300
    assert miss.median() < 1e-5 and miss.quantile(0.95) < 3e-3


def test_the_grid_is_read_where_the_ground_was_made() -> None:
    world = next(w for w in map(sample_world, range(999)) if w.biome == "desert" and not w.objects)
    terrain = Terrain(world)
    x, z = terrain._x, terrain._z
    made = ground(world, x, z).height
    torch.testing.assert_close(terrain.at(x, z), made, atol=1e-2, rtol=0)
    torch.testing.assert_close(terrain.surface(x, z)[:, Terrain.HEIGHT], made, atol=1e-2, rtol=0)


def test_shadow_falls_away_from_the_sun() -> None:
    shapes = solid(BOX, (0.0, 2.0, 10.0), np.diag([1.0, 2.0, 1.0]))
    sun = torch.tensor([math.sqrt(0.5), math.sqrt(0.5), 0.0])
    points = torch.tensor([[-3.0, 0.0, 10.0], [3.0, 0.0, 10.0], [-3.0, 0.0, 13.0], [-6.0, 0.0, 10.0]])
    assert shadowed(shapes, points, sun).tolist() == [True, False, False, False]
