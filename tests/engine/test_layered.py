"""What the foreground of a scene hides, as a second layer."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from jointnet_cli.projection import PERSPECTIVE, Projection
from jointnet_cli.scene.scene import DepthScale, Scene, scene_of

from .conftest import QUICK, Engines, facing, photo

RING = Projection("cylindrical", 360, wrap=True)
SCALE = DepthScale.from_range()


def posts(height: int, width: int) -> NDArray[np.float32]:
    """Near things before a wall: one in the middle, one over the seam."""
    disparity = np.full((height, width), 0.1, np.float32)
    disparity[4:-4, width // 2 - 5 : width // 2 + 5] = 0.9
    disparity[4:-4, :4] = disparity[4:-4, -4:] = 0.9
    return disparity


def scene(projection: Projection = PERSPECTIVE, turn: int = 0) -> Scene:
    """Posts before a wall, turned by some columns."""
    image, disparity = (np.roll(values, turn, axis=1) for values in (photo(32, 64), posts(32, 64)))
    return scene_of(image, disparity, projection, SCALE)


@pytest.mark.parametrize("projection", [PERSPECTIVE, RING])
@pytest.mark.parametrize("variant", ["depth", "depth-normal"])
def test_the_second_layer_lies_behind_the_foreground(engines: Engines, variant: str, projection: Projection) -> None:
    maps = {"normal": facing(32, 64)} if variant == "depth-normal" else None
    made = engines(variant).add_layer(scene(projection), seed=2, maps=maps, sampling=QUICK)
    front, behind = made.front, made.behind
    assert np.array_equal(front.image, photo(32, 64))
    assert behind is not None and behind.shown is not None
    near = posts(32, 64) > 0.5
    assert 0.1 < (behind.shown & near).sum() / near.sum() <= 1
    assert (behind.distance >= front.distance).all()
    assert (behind.distance[behind.shown & near] > 3 * front.distance[behind.shown & near]).all()
    assert np.array_equal(behind.image[~near & ~behind.shown], front.image[~near & ~behind.shown])
    assert not np.allclose(behind.image[behind.shown & near], front.image[behind.shown & near], atol=0.05)


def test_on_a_ring_what_stands_over_the_seam_hides_no_less(engines: Engines) -> None:
    """Turned by half, the same is hidden: the seam is no edge."""
    ring, turned = (engines("depth").add_layer(scene(RING, turn), seed=2, sampling=QUICK).behind for turn in (0, 32))
    assert ring is not None and ring.shown is not None
    assert turned is not None and turned.shown is not None
    assert np.array_equal(np.roll(turned.shown, 32, axis=1), ring.shown)


def test_where_nothing_hides_anything_there_is_one_layer(engines: Engines) -> None:
    flat = scene_of(photo(32, 64), np.full((32, 64), 0.5, np.float32), PERSPECTIVE, SCALE)
    assert engines("depth").add_layer(flat, seed=2, sampling=QUICK).behind is None


def test_the_same_scene_gives_the_same_layers(engines: Engines) -> None:
    first, second = (engines("depth").add_layer(scene(RING), seed=2, sampling=QUICK).behind for _ in range(2))
    assert first is not None and second is not None
    assert np.array_equal(first.image, second.image) and np.array_equal(first.distance, second.distance)
