from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jointnet_cli.errors import UserError
from jointnet_cli.projection import Projection
from jointnet_cli.scene.scene import DepthScale, read_known_distances, scene_of

RAMP = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
"""A disparity that differs at every pixel."""


def known(scale: DepthScale, *pixels: tuple[int, int]) -> np.ndarray:
    return np.array([(x, y, scale.distance(RAMP)[y, x]) for x, y in pixels])


def test_disparity_is_linear_in_inverse_distance() -> None:
    np.testing.assert_allclose(DepthScale.from_range().distance(np.array([0, 1])), [30, 1], rtol=1e-6)
    assert DepthScale.from_range(2.0, 6.0).distance(np.array([0.5]))[0] == pytest.approx(3.0)
    scale = DepthScale.from_scale(0.5, 0.1)
    assert (scale.near, scale.far, scale.origin) == (pytest.approx(1 / 0.6), pytest.approx(10), "given")
    np.testing.assert_allclose(scale.disparity(scale.distance(RAMP)), RAMP, atol=1e-6)


@given(st.floats(0.01, 1e4), st.floats(1.1, 100), st.sets(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=2))
def test_a_fit_finds_the_scale_in_any_unit(near: float, ratio: float, pixels: set[tuple[int, int]]) -> None:
    true = DepthScale.from_range(near, near * ratio)
    fitted = DepthScale.fit(RAMP, known(true, *sorted(pixels)))
    assert fitted.origin == "fitted"
    np.testing.assert_allclose(fitted.distance(RAMP), true.distance(RAMP), rtol=2e-3)


def test_a_fit_takes_the_mean_of_what_differs() -> None:
    points = known(DepthScale.from_range(2, 20), (0, 0), (3, 2), (1, 1), (2, 2))
    points[:, 2] *= [1.05, 0.95, 1.05, 0.95]
    fitted = DepthScale.fit(RAMP, points)
    assert fitted.near == pytest.approx(2, rel=0.1)
    assert fitted.far == pytest.approx(20, rel=0.4)


def test_distances_of_a_fit_are_never_negative() -> None:
    """As if disparity 0 lay beyond infinity."""
    fitted = DepthScale.fit(RAMP, np.array([(3, 2, 1.0), (1, 0, 50.0)]))
    assert fitted.shift > 0
    assert (fitted.distance(RAMP) > 0).all()
    assert fitted.far == pytest.approx(1000)


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ([(0, 0, 2.0)], "one disparity"),
        ([(1, 1, 2.0), (1, 1, 3.0)], "one disparity"),
        ([(0, 0, 2.0), (4, 1, 3.0)], "4, 1, outside"),
        ([(0, -1, 2.0), (3, 1, 3.0)], "outside"),
        ([(0, 0, 2.0), (3, 2, 20.0)], "grow where"),
        ([(3, 2, 1e7), (0, 0, 1e12)], "metres are not between"),
        ([(3, 2, 1e-321), (0, 0, 1e-320)], "nan to nan metres are not"),
    ],
)
def test_what_cannot_be_fitted(points: list[tuple[float, float, float]], words: str) -> None:
    with pytest.raises(UserError, match=words):
        DepthScale.fit(RAMP, np.array(points))


@pytest.mark.parametrize("given_", [(0, 1), (1, 0), (-1, 1), (float("nan"), 1), (1, float("inf"))])
def test_a_scale_is_above_zero(given_: tuple[float, float]) -> None:
    with pytest.raises(UserError, match="give no distances"):
        DepthScale.from_scale(*given_)


def test_known_distances_are_read(tmp_path: Path) -> None:
    file = tmp_path / "known.csv"
    file.write_text("\ufeffx,y,distance\n# door\n3, 4, 2.5\n\n10.5,0,1e2\n", encoding="utf-8")
    assert read_known_distances(file).tolist() == [[3, 4, 2.5], [10.5, 0, 100]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x,y,distance\n1,2\n", "line 2: '1,2' is not"),
        ("1,2,3\n1,2,far\n", "line 2"),
        ("1,2,3,4\n", "line 1"),
        ("1,2,0\n", "line 1: 0 is not a distance"),
        ("1,2,inf\n", "inf is not a distance"),
        ("1,2,3\n1,2,1e12\n", "line 2: 1e12 is not a distance"),
        ("1,nan,3\n", "line 1"),
        ("x,y,distance\n", "no known distances"),
    ],
)
def test_faults_in_known_distances_name_their_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "known.csv").write_text(text)
    with pytest.raises(UserError, match=words):
        read_known_distances(tmp_path / "known.csv")
    with pytest.raises(UserError, match="cannot be read"):
        read_known_distances(tmp_path / "missing.csv")


def test_the_sky_is_infinitely_far() -> None:
    scene = scene_of(np.zeros((3, 4, 3), np.float32), RAMP, Projection("perspective", 60), DepthScale.from_range())
    assert np.array_equal(np.isinf(scene.front.distance), RAMP <= 0.01)
    with pytest.raises(ValueError, match="disparity"):
        scene_of(np.zeros((3, 5, 3), np.float32), RAMP, Projection("perspective", 60), DepthScale.from_range())
