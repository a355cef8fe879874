"""Blurred edges become steps; slopes and steps stay."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from jointnet_cli.projection import Projection
from jointnet_cli.scene.edges import sharpen_edges
from jointnet_cli.scene.scene import DepthScale, scene_of

HEIGHT, WIDTH = 24, 48


def nearness(disparity: NDArray[np.float32]) -> NDArray[np.float32]:
    return disparity * np.float32(29 / 30) + np.float32(1 / 30)


def post(left: int, right: int, blur: int) -> NDArray[np.float32]:
    """Something near before something far, blurred along x."""
    row = np.full(WIDTH, 0.05, np.float32)
    row[left:right] = 0.8
    padded = np.pad(row, blur, mode="edge")
    row = np.mean([padded[start : start + WIDTH] for start in range(2 * blur + 1)], axis=0, dtype=np.float32)
    return np.tile(row, (HEIGHT, 1))


@pytest.mark.parametrize("blur", [1, 2, 3])
def test_a_blurred_edge_becomes_a_step_in_its_place(blur: int) -> None:
    sharp = sharpen_edges(post(16, 32, blur), nearness)
    between = (sharp > 0.1) & (sharp < 0.75)
    assert ((post(16, 32, blur) > 0.1) & (post(16, 32, blur) < 0.75)).any()
    assert not between.any()
    assert np.abs(np.flatnonzero(sharp[12] > 0.4)[[0, -1]] - [16, 31]).max() <= 1


@settings(deadline=None, max_examples=30)
@given(st.integers(4, 20), st.integers(26, 44))
def test_steps_stay(left: int, right: int) -> None:
    step = post(left, right, 0)
    assert np.array_equal(sharpen_edges(step, nearness), step)


def test_slopes_stay() -> None:
    ground = np.tile(np.linspace(0.1, 0.9, HEIGHT, dtype=np.float32)[:, None], (1, WIDTH))
    inner = sharpen_edges(ground, nearness)[6:-6]
    np.testing.assert_allclose(inner, ground[6:-6], atol=1e-6)


def test_a_ring_has_no_edge_at_its_seam() -> None:
    blurred = post(16, 32, 2)
    turned = np.roll(sharpen_edges(blurred, nearness, wrap=True), 24, axis=1)
    assert np.array_equal(sharpen_edges(np.roll(blurred, 24, axis=1), nearness, wrap=True), turned)


def test_a_scene_is_sharpened_if_asked() -> None:
    image, view = np.zeros((HEIGHT, WIDTH, 3), np.float32), Projection("perspective", 60.0)
    scale = DepthScale.from_range()
    soft, sharp = (scene_of(image, post(16, 32, 2), view, scale, sharpen=sharpen).front for sharpen in (False, True))
    between = [((layer.distance > 1.5) & (layer.distance < 8)).sum() for layer in (soft, sharp)]
    assert between[0] > 0 == between[1]
