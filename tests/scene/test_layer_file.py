"""The second layer of a scene in a file of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.scenes import HEIGHT, RING, WIDTH, reef

from jointnet_cli.errors import UserError
from jointnet_cli.files.exr import read_exr, write_channels
from jointnet_cli.scene.layer_file import layer_path, read_layer, write_layer
from jointnet_cli.scene.layers import add_layer
from jointnet_cli.scene.scene import SKY, DepthScale, Layer, Scene

RANDOM = np.random.default_rng(2)


def layered(scene: Scene) -> Scene:
    """A scene whose second layer is noise: sky, ground, and disparities hardly above the sky's."""

    def paint(image: np.ndarray, disparity: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        levels = RANDOM.choice(np.array([0, np.nextafter(np.float32(SKY), np.float32(1)), 0.1], np.float32), mask.shape)
        return RANDOM.random(image.shape, np.float32), levels

    made = add_layer(scene, paint)
    assert made.behind is not None and np.isinf(made.behind.distance).any()
    return made


def test_a_layer_is_read_as_it_was_written(tmp_path: Path) -> None:
    scene, path = layered(reef()), tmp_path / "a.layer.exr"
    write_layer(path, scene, {"jointnet": "{}"})
    behind, again = scene.behind, read_layer(path, reef()).behind
    assert behind is not None and again is not None
    assert np.array_equal(again.shown, behind.shown) and 0 < behind.shown.sum() < behind.shown.size
    np.testing.assert_allclose(again.distance, behind.distance, rtol=1e-6)
    np.testing.assert_allclose(again.image, behind.image, atol=0.51 / 1024)
    assert np.array_equal(np.isinf(again.distance), np.isinf(behind.distance))
    exr = read_exr(path)
    assert exr.attributes["jointnet"] == "{}" and exr.attributes["wrapmodes"] == "periodic,clamp"
    assert exr.depths() == ["disparity.Y"]
    outside = exr.channels["A"] == 0
    assert outside.any() and not any(exr.channels[name][outside].any() for name in ("R", "disparity.Y", "shown.Y"))


def test_the_layer_follows_another_scale(tmp_path: Path) -> None:
    path, wide = tmp_path / "a.layer.exr", DepthScale.from_range(2, 80)
    scene = layered(reef())
    write_layer(path, scene, {})
    front = replace(scene.front, distance=wide.distance(np.full((HEIGHT, WIDTH), 0.9)))
    behind = read_layer(path, Scene(front, None, RING, wide)).behind
    assert behind is not None and scene.behind is not None
    there = behind.shown & np.isfinite(behind.distance)
    expected = np.maximum(wide.distance(scene.scale.disparity(scene.behind.distance)), front.distance)
    np.testing.assert_allclose(behind.distance[there], expected[there], rtol=1e-4)


def test_a_scene_of_one_layer_stays_one(tmp_path: Path) -> None:
    path = tmp_path / "a.layer.exr"
    write_layer(path, reef(), {})
    assert not read_exr(path).channels["A"].any()
    assert read_layer(path, reef()).behind is None


def test_a_layer_that_is_all_shown(tmp_path: Path) -> None:
    scene, path = reef(), tmp_path / "a.layer.exr"
    whole = Layer(scene.front.image, np.full((HEIGHT, WIDTH), 20, np.float32))
    write_layer(path, replace(scene, behind=whole), {})
    behind = read_layer(path, scene).behind
    assert behind is not None and behind.shown is not None and behind.shown.all()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.b.depth.png", "a.b.layer.exr"),
        ("a.rgbdn.exr", "a.layer.exr"),
        ("a.exr", None),
        ("depth.png", None),
        ("a.rgb.png", None),
    ],
)
def test_the_layer_lies_beside_the_depth(name: str, expected: str | None) -> None:
    assert layer_path(Path("x") / name) == (expected and Path("x") / expected)


def test_what_is_no_layer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.layer.exr"
    write_channels(path, {"R": np.zeros((HEIGHT, WIDTH), np.float32)}, {})
    with pytest.raises(UserError, match="no channel G"):
        read_layer(path, reef())
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError) as fault:
        read_layer(path, reef())
    assert fault.value.hint == "--no-layers leaves the second layer out"
