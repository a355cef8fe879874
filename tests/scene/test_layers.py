from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from jointnet_cli.projection import Projection
from jointnet_cli.scene.layers import background_layer, dilate, extend_background, fill_smoothly, grow_ring, occluders
from jointnet_cli.scene.scene import DepthScale, Scene, scene_of

FLAT = Projection("perspective", 60.0)
RING = Projection("cylindrical", 360.0, wrap=True)


def post(left: int = 20, right: int = 40, far: float = 30.0) -> NDArray[np.float32]:
    """Distances: a post at 1 m before a wall; `left` may lie beyond the seam."""
    distance = np.full((24, 64), far, np.float32)
    distance[:, np.arange(left, right) % 64] = 1
    return distance


def test_the_nearer_side_of_a_jump_is_hidden_as_deep_as_asked() -> None:
    mask = occluders(post(far=np.inf), 1.3, 6)
    assert mask[:, 20:26].all() and mask[:, 34:40].all()
    assert mask.sum() == 24 * 12
    assert not occluders(post(far=1.2), 1.3, 6).any()


def test_what_shifts_less_hides_less() -> None:
    """The parallax of a post before a wall is the difference of their inverse distances."""
    assert occluders(post(far=2.0), 1.3, 8).sum() == 24 * 2 * 4
    distant = post(far=np.inf) * 10
    distant[0, 0] = 1
    distant[-1] = 1  # the nearest is elsewhere
    assert occluders(distant, 1.3, 30)[10].sum() == 2 * 3


def test_edges_that_run_over_some_pixels_are_seen_through() -> None:
    distance = post(far=np.inf)
    distance[:, 38:41] = [2, 4, 8]
    mask = occluders(distance, 1.3, 8)
    assert mask[:, 33:41].all()


def test_a_ring_has_no_edge_at_its_seam() -> None:
    distance = post(-10, 10, np.inf)
    expected = np.roll(occluders(post(22, 42, np.inf), 1.3, 6, wrap=True), 32, axis=1)
    assert np.array_equal(occluders(distance, 1.3, 6, wrap=True), expected)
    distance[:, 32:] = np.inf
    assert occluders(distance, 1.3, 6, wrap=True)[:, :5].all()
    assert not occluders(distance, 1.3, 4)[:, :4].any()


@settings(max_examples=50, deadline=None)
@given(
    arrays.arrays(np.float32, (5, 7), elements=st.sampled_from([1.0, 1.2, 2.0, 5.0, np.inf])),
    st.integers(1, 8),
    st.booleans(),
)
def test_hidden_is_never_the_farthest(distance: NDArray[np.float32], reach: int, wrap: bool) -> None:
    mask = occluders(distance, 1.3, reach, wrap=wrap)
    assert not mask[distance == distance.max()].any()
    assert not (mask & ~dilate(mask, 1, wrap=wrap)).any()


def test_hidden_grows_with_reach() -> None:
    masks = [occluders(post(far=np.inf), 1.3, reach) for reach in range(1, 9)]
    for narrow, wide in pairwise(masks):
        assert narrow.sum() < wide.sum() and not (narrow & ~wide).any()


def test_a_ring_of_pixels_leaves_nearer_ones_out() -> None:
    distance = np.full((5, 9), 10, np.float32)
    distance[:, :4] = 1
    shown = np.zeros((5, 9), bool)
    shown[2, 4] = True
    assert grow_ring(distance, shown, 1.3, 2).sum() == 9
    assert not grow_ring(distance, shown, 1.3, 5)[:, :4].any()


def scene(distance: NDArray[np.float32], projection: Projection = FLAT) -> Scene:
    scale = DepthScale.from_range()
    disparity = np.where(np.isinf(distance), 0, scale.disparity(distance)).astype(np.float32)
    image = np.where(distance[..., None] == 1, np.float32([1, 0, 0]), np.float32([0, 0.5, 0.2]))
    return scene_of(image.astype(np.float32), disparity, projection, scale)


@pytest.mark.parametrize("projection", [FLAT, RING])
def test_what_is_beside_goes_on_behind_the_foreground(projection: Projection) -> None:
    whole = scene(post(far=5.0), projection)
    mask = dilate(occluders(whole.front.distance, 1.3, 8), 2)
    image, disparity = extend_background(whole, mask)
    np.testing.assert_allclose(image[mask], np.broadcast_to([0, 0.5, 0.2], image[mask].shape), atol=1e-5)
    np.testing.assert_allclose(whole.scale.distance(disparity[mask]), 5, rtol=1e-3)
    assert np.array_equal(image[~mask], whole.front.image[~mask])


@pytest.mark.parametrize("far", [5.0, np.inf])
@pytest.mark.parametrize("painted", [0.0, 0.3, 0.9, 1.0])
def test_what_was_painted_lies_behind(far: float, painted: float) -> None:
    whole = scene(post(far=far))
    band = occluders(whole.front.distance, 1.3, 8)
    mask = dilate(band, 2)
    image = np.full((24, 64, 3), 0.7, np.float32)
    surface = background_layer(whole, mask, image, np.full((24, 64), painted, np.float32), shown=band)
    assert np.array_equal(surface.shown, band)
    assert (surface.distance[band] > 1.3).all()
    assert (surface.distance[mask] >= np.minimum(far, 30) * 0.999).all()
    assert np.array_equal(surface.distance[~mask], whole.front.distance[~mask])
    assert np.array_equal(surface.image[~mask], whole.front.image[~mask])


def test_what_was_painted_joins_what_is_beside() -> None:
    """At the border it has the colour and distance of the far side, farther in its own."""
    whole = scene(post(10, 50, far=5.0))
    mask = occluders(whole.front.distance, 1.3, 24)
    image, disparity = np.full((24, 64, 3), 0.7, np.float32), np.full((24, 64), 0.1, np.float32)
    surface = background_layer(whole, mask, image, disparity)
    np.testing.assert_allclose(surface.image[:, 10], whole.front.image[:, 9], atol=0.05)
    np.testing.assert_allclose(surface.distance[:, 10], 5, rtol=0.05)
    np.testing.assert_allclose(surface.image[:, 24], 0.7, atol=1e-5)
    np.testing.assert_allclose(surface.distance[:, 24], whole.scale.distance(np.float32(0.1)), rtol=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.booleans(), st.randoms(use_true_random=False))
def test_filling_keeps_what_is_known_and_invents_no_extremes(
    height: int, width: int, wrap: bool, random: object
) -> None:
    generator = np.random.default_rng(random.getrandbits(32))  # type: ignore[attr-defined]
    values = generator.random((height, width, 2), np.float32)
    known = generator.random((height, width)) < 0.4
    filled = fill_smoothly(values, known, wrap=wrap)
    assert np.array_equal(filled[known], values[known])
    if known.any():
        assert (filled >= values[known].min(axis=0) - 1e-5).all()
        assert (filled <= values[known].max(axis=0) + 1e-5).all()


def test_filling_goes_on_across_the_seam() -> None:
    values = np.zeros((4, 32, 1), np.float32)
    values[:, 31] = 1
    known = np.zeros((4, 32), bool)
    known[:, [16, 31]] = True
    assert fill_smoothly(values, known, wrap=True)[:, 0].min() > 0.7 > 0.6 > fill_smoothly(values, known)[:, 0].max()
