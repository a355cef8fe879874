from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jointnet_cli.files.images import read_image, read_text
from jointnet_cli.projection import Projection
from jointnet_cli.scene.cameras import focal_length
from jointnet_cli.scene.scene import DepthScale, Layer, Scene
from jointnet_cli.scene.stereo import eye_camera, write_stereo

FLAT = Projection("perspective", 60.0)
RING = Projection("cylindrical", 360.0, wrap=True)


def stripe(projection: Projection, height: int, width: int, near: float = 2.0) -> Scene:
    """A red upright stripe in the middle, before a grey wall ten times as far."""
    image = np.full((height, width, 3), 0.5, np.float32)
    distance = np.full((height, width), 10 * near, np.float32)
    middle = slice(width // 2 - 3, width // 2 + 3)
    image[:, middle], distance[:, middle] = [1, 0, 0], near
    return Scene(Layer(image, distance), None, projection, DepthScale.from_range())


def red(picture: np.ndarray, row: int) -> float:
    """The column around which a row is red."""
    weight = np.clip(picture[row, :, 0] - picture[row, :, 1] - 0.2, 0, 1)
    return float((weight * np.arange(len(weight))).sum() / weight.sum())


def test_side_by_side_shifts_by_baseline_times_focal_length_over_distance(tmp_path: Path) -> None:
    path = tmp_path / "pair.png"
    scene = stripe(FLAT, 32, 96)
    made = write_stereo(path, scene, "sbs", baseline=0.2, record={"seed": 7})
    picture = read_image(path)
    assert picture.shape == (32, 192, 3)
    left, right = picture[:, :96], picture[:, 96:]
    assert red(left, 16) - red(right, 16) == pytest.approx(0.2 * focal_length(FLAT, 96) / 2, abs=0.5)
    assert json.loads(read_text(path)["jointnet"]) == {"seed": 7}
    assert (made["width"], made["height"], made["layout"]) == (96, 32, "sbs")
    assert 0.02 < made["filled"] < 0.2
    assert made["outside"] == 0


def test_half_spheres_have_the_eyes_beside_each_other(tmp_path: Path) -> None:
    path = tmp_path / "pair_180_LR.jpg"
    made = write_stereo(path, stripe(FLAT, 48, 128), "vr180", baseline=0.2, record={"seed": 7})
    with Image.open(path) as file:
        assert json.loads(file.info["comment"]) == {"seed": 7}
    picture = read_image(path)
    side = made["width"]
    assert (made["height"], picture.shape) == (side, (side, 2 * side, 3))
    assert side == round(np.pi * focal_length(FLAT, 128))
    left, right = picture[:, :side], picture[:, side:]
    angle = 2 * np.degrees(np.arctan(0.1 / 2))
    assert (red(left, side // 2) - red(right, side // 2)) * 180 / side == pytest.approx(angle, abs=0.6)
    assert 0.7 < made["outside"] < 0.98
    np.testing.assert_allclose(left[: side // 8], right[: side // 8], atol=0.02)  # what is made up is alike


def test_spheres_lie_above_each_other_and_shift_alike_all_around(tmp_path: Path) -> None:
    scene = stripe(RING, 24, 128)
    for turn in (0, 40):
        image, distance = (np.roll(part, turn, 1) for part in (scene.front.image, scene.front.distance))
        turned = Scene(Layer(image, distance), None, RING, scene.scale)
        path = tmp_path / f"{turn}.png"
        made = write_stereo(path, turned, "tb360", baseline=0.4)
        picture = read_image(path)
        assert (made["width"], made["height"], picture.shape) == (128, 64, (128, 128, 3))
        left, right = picture[:64], picture[64:]
        angle = 2 * np.degrees(np.arcsin(0.2 / 2))
        assert (red(left, 32) - red(right, 32)) * 360 / 128 == pytest.approx(angle, abs=0.6)
        assert np.abs(picture[:, 0] - picture[:, -1]).max() < 0.1  # the seam


def test_a_panorama_side_by_side_shows_its_middle() -> None:
    scene = stripe(RING, 24, 128)
    camera = eye_camera(scene, "sbs", 0.0, 4096)
    assert (camera.height, camera.width) == (24, round(2 * focal_length(RING, 128)))
    assert camera.turn is None


@pytest.mark.parametrize("layout", ["sbs", "vr180", "tb360"])
def test_views_are_not_wider_than_asked(layout: str) -> None:
    camera = eye_camera(stripe(RING, 24, 1024), layout, 0.03, 100)
    assert camera.width <= 100
    assert camera.width >= 98


def test_a_layout_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no layout anaglyph"):
        write_stereo(tmp_path / "x.png", stripe(FLAT, 8, 16), "anaglyph")
