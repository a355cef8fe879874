from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from jointnet_cli.data.worlds.grammar import sample_world
from jointnet_cli.data.worlds.renderer import render
from jointnet_cli.projection import Projection
from jointnet_cli.scene.cameras import Camera, SphereCamera, Viewpoint, focal_length
from jointnet_cli.scene.render import Renderer, farther_neighbour
from jointnet_cli.scene.scene import DepthScale, Layer, Scene

FLAT = Projection("perspective", 60.0)
ARC = Projection("cylindrical", 140.0)
RING = Projection("cylindrical", 360.0, wrap=True)
SCALE = DepthScale.from_range()


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random((height, width, 3), np.float32)


def scene(distance: NDArray[np.float32], projection: Projection, behind: Layer | None = None, seed: int = 0) -> Scene:
    return Scene(Layer(noise(*distance.shape, seed), distance.astype(np.float32)), behind, projection, SCALE)


def plane(distance: float, projection: Projection, height: int = 32, width: int = 48) -> Scene:
    return scene(np.full((height, width), distance, np.float32), projection)


def steps(seed: int, height: int, width: int) -> NDArray[np.float32]:
    """Random boxes before a slope below a sky."""
    random = np.random.default_rng(seed)
    distance = np.repeat(np.geomspace(25, 2, height)[:, None], width, 1)
    distance[: height // 4] = np.inf
    for _ in range(4):
        top, left = random.integers(0, height - 4), random.integers(0, width - 4)
        distance[top : top + 4, left : left + 4] = random.uniform(1, 10)
    return distance.astype(np.float32)


def agreement(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """PSNR in dB."""
    return float(-10 * np.log10(max(float(np.mean((first - second) ** 2)), 1e-12)))


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([FLAT, ARC, RING]), st.integers(0, 1000))
def test_the_picture_comes_back_where_it_was_taken(projection: Projection, seed: int) -> None:
    place = scene(steps(seed, 20, 36), projection, seed=seed)
    seen = Renderer(place).see(Camera(projection, 20, 36))
    assert agreement(seen.image, place.front.image) > 80
    np.testing.assert_allclose(seen.distance, place.front.distance, rtol=1e-4)
    assert (seen.filled, seen.outside.any()) == (0, False)


@pytest.mark.parametrize("projection", [FLAT, ARC, RING])
def test_finer_samples_lose_nothing_where_colours_are_smooth(projection: Projection) -> None:
    y, x = np.mgrid[:24, :36] / 36
    place = plane(3.0, projection, 24, 36)
    place.front.image[:] = np.stack([0.5 + 0.4 * np.sin(2 * np.pi * x), y, 1 - y], -1)
    seen = Renderer(place).see(Camera(projection, 24, 36), samples=2)
    assert agreement(seen.image, place.front.image) > 40
    assert (seen.filled, seen.outside.any()) == (0, False)


def test_no_cracks_when_looking_closer() -> None:
    place = scene(np.geomspace(1, 3, 40 * 40).reshape(40, 40), FLAT)
    seen = Renderer(place).see(Camera(FLAT, 90, 90, (0.05, 0.02, -0.5)))
    assert (seen.filled, seen.outside.any()) == (0, False)


@settings(max_examples=10, deadline=None)
@given(st.floats(1, 20), st.integers(-4, 4))
def test_a_plane_moves_by_baseline_times_focal_length_over_distance(distance: float, pixels: int) -> None:
    place = plane(distance, FLAT)
    baseline = pixels * distance / focal_length(FLAT, 48)
    seen = Renderer(place).see(Camera(FLAT, 32, 48, (baseline, 0, 0)))
    kept = slice(max(0, pixels), 48 + min(0, pixels))
    there = slice(max(0, -pixels), 48 + min(0, -pixels))
    np.testing.assert_allclose(seen.image[:, there], place.front.image[:, kept], atol=2e-3)
    np.testing.assert_allclose(seen.distance[:, there], distance, rtol=1e-3)


@pytest.mark.parametrize("eye", [-0.5, 0.0, 0.5])
def test_the_sphere_around_a_ring_is_whole_and_its_distances_are_right(eye: float) -> None:
    place = plane(4.0, RING, 24, 96)
    viewpoint = SphereCamera(64, 128, eye=eye)
    seen = Renderer(place).see(viewpoint)
    row, column = np.mgrid[:64, :128].astype(np.float32)
    directions = viewpoint.directions(column, row)
    level = np.hypot(directions[..., 0], directions[..., 2])
    expected = np.sqrt(16 - eye**2) / level
    inner = (64 - 2) // 2 - 8, (64 + 2) // 2 + 8
    np.testing.assert_allclose(seen.distance[slice(*inner)], expected[slice(*inner)], rtol=2e-3)
    assert seen.filled == 0
    assert 0.5 < seen.outside.mean() < 0.8  # above and below the cylinder


def test_a_ring_is_closed_wherever_it_is_seen_from() -> None:
    place = plane(4.0, RING, 24, 96)
    place.front.image[:] = 0.25
    place.front.image[:, [0, -1]] = 0.75  # a stripe on the seam
    turned = Renderer(place).see(Camera(RING, 24, 96, yaw=180.0))
    assert agreement(turned.image, np.roll(place.front.image, 48, 1)) > 40
    assert (turned.filled, turned.outside.any()) == (0, False)
    ahead = Renderer(place).see(Camera(Projection("perspective", 30.0), 12, 24, (0.2, 0, 0.3), yaw=180.0))
    assert ahead.filled == 0
    assert ahead.image[:, 10:14].max() > 0.7


@settings(max_examples=15, deadline=None)
@given(st.floats(1, 3), st.floats(-0.2, 0.2), st.floats(-0.1, 0.1))
def test_nearer_hides_farther(near: float, x: float, y: float) -> None:
    distance = np.full((32, 48), 10, np.float32)
    distance[10:20, 15:30] = near
    place = scene(distance, FLAT)
    place.front.image[:] = [0, 0, 1]
    place.front.image[10:20, 15:30] = [1, 0, 0]
    seen = Renderer(place).see(Camera(FLAT, 32, 48, (x, y, 0)))
    red = seen.image[..., 0] > 0.5
    np.testing.assert_allclose(seen.distance[red], near, rtol=1e-3)
    assert abs(int(red.sum()) - 150) <= 2 * 25  # as large as before, but for its rim
    focal = focal_length(FLAT, 48)
    rows, columns = np.nonzero(red)
    assert columns.mean() == pytest.approx(22 - x * focal / near, abs=0.6)
    assert rows.mean() == pytest.approx(14.5 + y * focal / near, abs=0.6)


def test_the_second_layer_shows_in_the_hole() -> None:
    distance = np.full((32, 48), 10, np.float32)
    distance[10:20, 15:30] = 1
    shown = np.zeros((32, 48), bool)
    shown[10:20, 15:30] = True
    green = np.full((32, 48, 3), [0, 1, 0], np.float32)
    behind = Layer(green, np.full((32, 48), 10, np.float32), shown)
    camera = Camera(FLAT, 32, 48, (0.15, 0, 0))
    one = Renderer(scene(distance, FLAT)).see(camera)
    two = Renderer(scene(distance, FLAT, behind)).see(camera)
    edge = 1 / 48  # the camera looks past the last column
    assert one.filled > edge + 0.03
    assert two.filled == pytest.approx(edge)
    hole = np.abs(two.image - [0, 1, 0]).max(-1) < 0.01
    assert 10 * 5 <= hole.sum() <= 10 * 7  # rows times 0.15 * focal * (1 - 1 / 10)
    np.testing.assert_allclose(two.distance[hole], 10, rtol=0.03)
    still = Renderer(scene(distance, FLAT, behind)).see(Camera(FLAT, 32, 48))
    assert agreement(still.image, noise(32, 48)) > 80  # the first layer wins where the second lies in the same place


def test_the_sky_never_shifts_and_goes_on_behind_things() -> None:
    distance = np.full((32, 48), np.inf, np.float32)
    distance[10:20, 15:30] = 1
    place = scene(distance, FLAT)
    place.front.image[:] = [0, 0, 1]
    place.front.image[:8] = noise(8, 48)
    place.front.image[10:20, 15:30] = [1, 0, 0]
    seen = Renderer(place).see(Camera(FLAT, 32, 48, (0.15, 0, 0)))
    np.testing.assert_allclose(seen.image[:8], place.front.image[:8], atol=1e-5)
    assert np.isinf(seen.distance[:8]).all()
    uncovered = seen.image[12:18, 26:29]
    np.testing.assert_allclose(uncovered, np.broadcast_to([0, 0, 1], uncovered.shape), atol=0.05)
    assert seen.filled > 0


def test_no_sheet_spans_a_jump() -> None:
    distance = np.where(np.arange(48) < 24, 1, 10) * np.ones((32, 1))
    place = scene(distance.astype(np.float32), FLAT)
    seen = Renderer(place).see(Camera(FLAT, 32, 48, (0.2, 0, 0)))
    assert ((seen.distance < 1.01) | (seen.distance > 9.9)).all()
    assert seen.filled == pytest.approx(0.2 * focal_length(FLAT, 48) * 0.9 / 48, abs=0.02)


@pytest.mark.parametrize(
    "viewpoint",
    [
        Camera(FLAT, 20, 30, (0.3, 0.1, -0.2), yaw=20, pitch=-10),
        Camera(ARC, 20, 30, (0.3, 0.1, -0.2), yaw=20),
        SphereCamera(20, 40, position=(0.3, 0.1, -0.2)),
        SphereCamera(20, 20, span=180.0),
    ],
)
def test_directions_and_pixels_are_inverse(viewpoint: Viewpoint) -> None:
    row, column = np.mgrid[: viewpoint.height, : viewpoint.width].astype(np.float32)
    points = viewpoint.directions(column, row) * 5 + np.asarray(getattr(viewpoint, "position"), np.float32)  # noqa: B009
    found = viewpoint.pixels_of(points.reshape(-1, 3))
    np.testing.assert_allclose(found[0], column.ravel(), atol=2e-3)
    np.testing.assert_allclose(found[1], row.ravel(), atol=2e-3)


@pytest.mark.parametrize("eye", [-0.3, 0.3])
def test_an_eye_of_omnidirectional_stereo_lies_on_a_tangent(eye: float) -> None:
    viewpoint = SphereCamera(20, 40, eye=eye)
    row, column = np.mgrid[:20, :40].astype(np.float32)
    directions = viewpoint.directions(column, row).reshape(-1, 3)
    level = directions[:, [0, 2]] / np.hypot(directions[:, :1], directions[:, 2:])
    right = np.stack([-level[:, 1], np.zeros(len(level)), level[:, 0]], axis=-1)
    points = (eye * right + 3 * directions).astype(np.float32)
    found = viewpoint.pixels_of(points)
    np.testing.assert_allclose(found[0], column.ravel(), atol=2e-3)
    np.testing.assert_allclose(found[1], row.ravel(), atol=2e-3)
    np.testing.assert_allclose(found[2], 3, rtol=1e-4)


@pytest.mark.parametrize("seed", [3, 11])
def test_a_moved_camera_sees_what_it_would_have_seen_there(seed: int) -> None:
    """Against a true picture of a procedural world from 30 cm higher."""
    world = sample_world(seed)
    rise = 0.3
    higher = replace(world, camera=replace(world.camera, height=world.camera.height + rise))
    here, there = (render([each], 128) for each in (world, higher))
    pictures = [rendering.rgb[0].permute(1, 2, 0).numpy() for rendering in (here, there)]
    distances = [rendering.depth[0].numpy() for rendering in (here, there)]
    projection = Projection("perspective", world.camera.fov)
    pitch = np.radians(world.camera.pitch)
    place = Scene(Layer(pictures[0], distances[0]), None, projection, SCALE)
    camera = Camera(projection, 128, 128, (0, float(rise * np.cos(pitch)), float(-rise * np.sin(pitch))))
    seen = Renderer(place).see(camera)
    both = np.isfinite(seen.distance) & np.isfinite(distances[1])
    away = np.abs(seen.distance[both] / distances[1][both] - 1)
    assert np.median(away) < 2e-3
    assert np.mean(away < 0.02) > 0.9
    assert agreement(seen.image, pictures[1]) > agreement(pictures[0], pictures[1]) + 3
    assert seen.filled < 0.05


def test_the_farther_neighbour_of_a_row() -> None:
    distance = np.array([[0, 2, 0, 0, 5, 0], [0, 0, 0, 0, 0, 0], [np.inf, 0, 1, 0, 0, 9]], np.float32)
    holes = np.flatnonzero(distance == 0)
    assert farther_neighbour(distance, holes).tolist() == [1, 4, 4, 4, *[-1] * 6, 12, 17, 17]
    assert farther_neighbour(distance, holes, wrap=True).tolist() == [4, 4, 4, 4, *[-1] * 6, 12, 17, 17]
