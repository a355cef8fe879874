"""Distances and their conventions: exact where they can be, in place where they are not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from jointnet_cli.convert.change import change_depth, covering, distances, ray_lengths
from jointnet_cli.convert.content import Code, DepthMap, View
from jointnet_cli.errors import UserError
from jointnet_cli.projection import Projection, Sphere
from jointnet_cli.scene.scene import DepthScale

RANGES = st.tuples(st.floats(0.01, 100), st.floats(1.01, 1000)).map(
    lambda pair: DepthScale.from_range(pair[0], pair[0] * pair[1])
)
DISPARITY = arrays.arrays(np.float32, (3, 4), elements=st.floats(0, 1, width=32))
VIEWS = [
    Projection("perspective", 60.0),
    Projection("perspective", 120.0),
    Projection("cylindrical", 360.0, wrap=True),
    Sphere(8),
]


@settings(deadline=None)
@given(DISPARITY, RANGES)
def test_disparity_to_distance_and_back(disparity: NDArray[np.float32], scale: DepthScale) -> None:
    there = change_depth(DepthMap(disparity, "disparity", "planar", scale), "distance", "planar", None, None)
    assert there.values.min() >= scale.near * (1 - 1e-6)
    assert there.values.max() <= scale.far * (1 + 1e-6)
    back = change_depth(there, "disparity", "planar", None, scale)
    # float32 rounds a distance by 6e-8 of itself, which is most of the near end's inverse.
    np.testing.assert_allclose(back.values, disparity, rtol=0, atol=2e-7 * scale.far / (scale.far - scale.near))


@pytest.mark.parametrize("view", VIEWS)
@settings(deadline=None)
@given(arrays.arrays(np.float32, (4, 8), elements=st.floats(0.125, 1e4, width=32)))
def test_planar_to_radial_and_back(view: View, metres: NDArray[np.float32]) -> None:
    radial = change_depth(DepthMap(metres, "distance", "planar"), "distance", "radial", view, None)
    assert (radial.values >= metres * (1 - 1e-6)).all()
    back = change_depth(radial, "distance", "planar", view, None)
    np.testing.assert_allclose(back.values, metres, rtol=3e-7)


def test_a_wall_ahead_has_one_planar_distance_and_corners_at_its_radial_one() -> None:
    wall = DepthMap(np.full((101, 101), 2, np.float32), "distance", "planar")
    radial = change_depth(wall, "distance", "radial", Projection("perspective", 90.0), None).values
    assert radial[50, 50] == pytest.approx(2)
    assert radial[50, 0] == pytest.approx(2 * np.hypot(1, 100 / 101), rel=1e-6)
    assert radial[0, 0] == pytest.approx(2 * np.sqrt(1 + 2 * (100 / 101) ** 2), rel=1e-6)


def test_a_round_wall_is_farther_at_the_top_of_a_sphere() -> None:
    lengths = ray_lengths(Sphere(360), 180, 360)
    assert lengths[90, 0] == pytest.approx(1 / np.cos(np.radians(0.5)), rel=1e-6)
    assert lengths[30, 7] == pytest.approx(1 / np.cos(np.radians(59.5)), rel=1e-6)


def test_sky_stays_sky() -> None:
    distance = np.array([[1, 10, np.inf, np.nan, 0, -1, 1e10]], np.float32)
    sky = distances(DepthMap(distance, "distance", "planar"))
    assert np.array_equal(np.isinf(sky[0]), [False, False, True, True, True, True, True])
    disparity = change_depth(DepthMap(distance, "distance", "planar"), "disparity", "planar", None, None)
    assert disparity.scale == DepthScale.from_range(1.0, 10.0, "fitted")
    assert np.array_equal(disparity.values[0], [1, 0, 0, 0, 0, 0, 0])


def test_relative_disparity_has_no_metres() -> None:
    with pytest.raises(UserError, match="relative"):
        change_depth(DepthMap(np.ones((2, 2), np.float32), "disparity", "planar"), "distance", "planar", None, None)


@settings(deadline=None)
@given(arrays.arrays(np.float32, (2, 3), elements=st.floats(0.125, 1e4, width=32)), st.none() | RANGES)
def test_a_fitted_scale_covers_every_distance(metres: NDArray[np.float32], known: DepthScale | None) -> None:
    scale = covering(metres, known)
    disparity = (1 / metres.astype(np.float64) - scale.shift) / scale.scale
    assert disparity.min() >= -2e-6
    assert disparity.max() <= 1 + 2e-6


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 100), st.floats(0, 100), arrays.arrays(np.float32, (4,), elements=st.floats(0, 1, width=32)))
def test_black_and_white_are_what_they_stand_for(black: float, white: float, stored: NDArray[np.float32]) -> None:
    if abs(black - white) < 1e-3:
        return
    code = Code(black, white)
    ends = code.decode(np.array([0, 1], np.float32))
    np.testing.assert_allclose(ends, [black, white], rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(
        code.encode(code.decode(stored)), stored, atol=1e-6 * (1 + max(black, white) / abs(black - white))
    )
