from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jointnet_cli.projection import Projection
from jointnet_cli.scene.cameras import pixels_of, points_of, rays

RING = Projection("cylindrical", 360.0, wrap=True)
ARC = Projection("cylindrical", 120.0)
FLAT = Projection("perspective", 90.0)


@pytest.mark.parametrize("projection", [RING, ARC, FLAT])
def test_rays_are_where_points_are_seen(projection: Projection) -> None:
    directions = rays(projection, 6, 10)
    column, row, distance = pixels_of(3 * directions, projection, 6, 10)
    rows, columns = np.mgrid[:6, :10]
    np.testing.assert_allclose(column, columns, atol=1e-5)
    np.testing.assert_allclose(row, rows, atol=1e-5)
    np.testing.assert_allclose(distance, 3, rtol=1e-6)
    np.testing.assert_allclose(points_of(columns, rows, np.ones((6, 10)), projection, (6, 10)), directions, atol=1e-6)


def test_the_middle_is_ahead_and_the_right_half_to_the_right() -> None:
    for projection in (RING, ARC, FLAT):
        ahead = points_of(np.array(4.5), np.array(2.5), np.array(2.0), projection, (6, 10))
        np.testing.assert_allclose(ahead, [0, 0, -2], atol=1e-12)
        assert points_of(np.array(6.0), np.array(1.0), np.array(2.0), projection, (6, 10))[:2].min() > 0
    azimuth = np.degrees(np.arctan2(rays(ARC, 6, 10)[0, :, 0], -rays(ARC, 6, 10)[0, :, 2]))
    np.testing.assert_allclose(azimuth, (np.arange(10) + 0.5) / 10 * 120 - 60, atol=1e-4)


@given(st.floats(-0.4, 9.4), st.floats(-0.4, 5.4), st.floats(0.1, 100), st.sampled_from([RING, ARC, FLAT]))
def test_points_and_pixels_are_inverse(column: float, row: float, distance: float, projection: Projection) -> None:
    point = points_of(np.array(column), np.array(row), np.array(distance), projection, (6, 10))
    np.testing.assert_allclose(pixels_of(point, projection, 6, 10), [column, row, distance], rtol=1e-6, atol=1e-6)
