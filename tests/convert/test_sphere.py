"""Directions are kept: what a cylinder shows somewhere, its sphere shows in the same direction."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from jointnet_cli.convert.change import change, ray_lengths
from jointnet_cli.convert.content import Content, DepthMap, TargetOptions
from jointnet_cli.convert.sphere import to_cylinder, to_sphere
from jointnet_cli.errors import UserError
from jointnet_cli.projection import Projection, Sphere
from jointnet_cli.scene.cameras import rays

RING = Projection("cylindrical", 360.0, wrap=True)
HALF = Projection("cylindrical", 180.0)


def directions(view: Projection | Sphere, height: int, width: int) -> NDArray[np.float64]:
    """(H, W, 3) unit vectors, written down from the definitions alone."""
    if isinstance(view, Projection):
        towards = rays(view, height, width).astype(np.float64)
        return towards / np.linalg.norm(towards, axis=-1, keepdims=True)
    longitude = ((view.left + np.arange(width) + 0.5) / view.full_width - 0.5) * 2 * np.pi
    latitude = (0.5 - (view.top + np.arange(height) + 0.5) / view.full_height)[:, None] * np.pi
    parts = (np.sin(longitude) * np.cos(latitude), np.sin(latitude), -np.cos(longitude) * np.cos(latitude))
    return np.stack(np.broadcast_arrays(*parts), axis=-1)


@pytest.mark.parametrize(("view", "width"), [(RING, 256), (HALF, 128)])
@pytest.mark.parametrize("crop", [False, True])
def test_directions_survive_the_way_to_the_sphere_and_back(view: Projection, width: int, crop: bool) -> None:
    seen = directions(view, 64, width)
    grid = to_sphere(view, 64, width, None, crop)
    there = grid.smooth(np.asarray((seen + 1) / 2, np.float32)) * 2 - 1
    assert isinstance(grid.view, Sphere)
    assert grid.view.full_width == 256
    true = directions(grid.view, *there.shape[:2])
    inside = grid.covered
    if not crop:
        assert there.shape[:2] == (128, 256)
    assert crop == bool(inside.all())
    # The filter is as wide as two pixels; the azimuth's own seam is none, for directions are continuous there.
    inner = np.zeros_like(inside)
    rows, columns = np.flatnonzero(inside.any(1))[1:-1], np.flatnonzero(inside.any(0))[1:-1]
    inner[np.ix_(rows, columns)] = True
    assert np.abs(there - true)[inner].max() < 2e-3
    assert (there[~inside] == -1).all()

    back = to_cylinder(grid.view, *there.shape[:2], grid.coverage, None, None)
    assert back.view == view
    again = back.smooth(np.asarray((there + 1) / 2, np.float32)) * 2 - 1
    assert again.shape == seen.shape
    assert np.abs(again - seen)[2:-2, 2:-2].max() < 4e-3
    assert np.abs(again - seen).max() < 0.03


def test_the_seam_is_closed() -> None:
    random = np.random.default_rng(0).random((16, 64, 3), np.float32)
    turned = np.roll(random, 20, axis=1)
    plain, moved = (to_sphere(RING, 16, 64, None, False).smooth(picture) for picture in (random, turned))
    np.testing.assert_allclose(np.roll(plain, 20, axis=1), moved, atol=1e-6)


def test_a_smaller_sphere_averages() -> None:
    stripes = np.zeros((16, 64, 3), np.float32)
    stripes[:, ::2] = 1
    small = to_sphere(RING, 16, 64, 16, True).smooth(stripes)
    assert np.abs(small - 0.5).max() < 0.05


def test_a_round_wall_keeps_its_distance_from_the_axis() -> None:
    wall = np.full((32, 64), 3, np.float32)
    content = Content(
        RING, depth=DepthMap(wall, "distance", "planar"), normal=np.full((32, 64, 3), (0, 0, 1), np.float32)
    )
    sphere, _ = change(content, TargetOptions("exr", projection="equirectangular", crop=True))
    assert sphere.depth is not None and sphere.normal is not None and sphere.view is not None
    assert sphere.depth.axis == "radial"
    expected = 3 * ray_lengths(sphere.view, *sphere.size)
    np.testing.assert_allclose(sphere.depth.values, expected, rtol=1e-6)
    assert (sphere.normal == (0, 0, 1)).all()

    planar, _ = change(content, TargetOptions("exr", projection="equirectangular", crop=True, axis="planar"))
    assert planar.depth is not None
    assert (planar.depth.values == 3).all()

    back, _ = change(sphere, TargetOptions("exr", projection="cylindrical"))
    assert back.depth is not None and back.view == RING
    assert back.depth.axis == "planar"
    assert "--projection" in back.used and "--projection" not in content.used
    assert "--projection" not in change(content, TargetOptions("exr", projection="cylindrical"))[0].used
    np.testing.assert_allclose(back.depth.values, wall, rtol=1e-6)


def test_outside_of_the_cylinder_nothing_is_known() -> None:
    content = Content(
        HALF, np.ones((8, 32, 3), np.float32), DepthMap(np.full((8, 32), np.inf, np.float32), "distance", "planar")
    )
    sphere, _ = change(content, TargetOptions("exr", projection="equirectangular"))
    assert sphere.image is not None and sphere.depth is not None
    assert sphere.size == (32, 64)
    known = sphere.image[..., 0] > 0
    assert known[16].sum() == 32
    assert np.isinf(sphere.depth.values[known]).all()
    assert (sphere.depth.values[~known] == 0).all()


def test_views_between_which_there_is_no_way() -> None:
    flat = Content(Projection("perspective", 60.0), np.ones((4, 4, 3), np.float32))
    with pytest.raises(UserError, match="perspective"):
        change(flat, TargetOptions("png", projection="equirectangular"))
    with pytest.raises(UserError, match="does not state"):
        change(Content(None, np.ones((4, 4, 3), np.float32)), TargetOptions("png", projection="equirectangular"))
    with pytest.raises(UserError, match="half"):
        to_sphere(RING, 4, 16, 15, False)
    with pytest.raises(UserError, match="high"):
        to_cylinder(Sphere(16), 8, 16, None, 180.0, None)
