"""Blender imports our GLB in the right place and reads picture, depth and normals of our EXR at the right values."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.proof_scene import HEIGHT, SCALE, WIDTH
from helpers.scenes import mesh_of

from jointnet_cli.files.color import srgb_to_linear
from jointnet_cli.projection import Projection
from jointnet_cli.scene.mesh_files import write_glb
from jointnet_cli.scene.scene import scene_of

SCRIPT = Path(__file__).with_name("blender_reads.py")


@pytest.fixture
def blender(program, tmp_path):
    def found(task, path, *arguments):
        flags = ["-b", "--factory-startup", "--python-exit-code", "1", "--python", SCRIPT]
        words = program("blender", *flags, "--", task, path, *arguments, HOME=str(tmp_path))
        (line,) = [line for line in words.splitlines() if line.startswith("FOUND ")]
        return json.loads(line.removeprefix("FOUND "))

    return found


def test_a_mesh_is_where_the_picture_shows_it(blender, picture, tmp_path):
    # A wall at 4 metres, seen through a square angle: x from -4 to 4, y half of that, towards -z.
    wall = np.full((HEIGHT, WIDTH), (1 / 4 - SCALE.shift) / SCALE.scale, np.float32)
    scene = scene_of(picture, wall, Projection("perspective", 90.0), SCALE)
    write_glb(tmp_path / "wall.glb", mesh_of(scene))
    front = blender("mesh", tmp_path / "wall.glb")["front"]
    # Blender's up is z, so forward is y. Vertices are the centres of pixels.
    half = 4 * (1 - 1 / WIDTH)
    np.testing.assert_allclose(front["low"], [-half, 4, -half / 2 + 1 / WIDTH], atol=0.04)
    np.testing.assert_allclose(front["high"], [half, 4, half / 2 - 1 / WIDTH], atol=0.04)
    np.testing.assert_allclose(front["normals"], [0, -1, 0], atol=1e-3)  # to the viewer
    assert front["texture"] == [WIDTH, HEIGHT]
    assert front["colours"]["left"][0] < 0.05
    assert front["colours"]["right"][0] > 0.95
    assert front["colours"]["top"][1] < 0.05
    assert front["colours"]["bottom"][1] > 0.95


def test_a_panorama_surrounds_the_viewer(blender, panorama, disparity, tmp_path):
    write_glb(tmp_path / "reef.glb", mesh_of(panorama))
    found = blender("mesh", tmp_path / "reef.glb")
    front, sky = found["front"], found["sky"]
    distances = panorama.front.distance[np.isfinite(panorama.front.distance)]
    nearest, farthest = distances.min(), distances.max()
    # The nearest is in the middle of the picture, ahead, which is y here; the seam, the farthest, is behind.
    assert front["high"][1] == pytest.approx(panorama.front.distance[HEIGHT // 4, WIDTH // 2], rel=0.05)
    assert front["low"][1] == pytest.approx(-farthest, rel=0.05)
    assert front["low"][0] < -nearest < nearest < front["high"][0]
    assert front["high"][2] > 0 > front["low"][2]
    assert max(sky["high"][:2]) > farthest
    assert sky["high"][2] > front["high"][2]
    # Left of the viewer is the left half of the picture, right the right one.
    assert front["colours"]["left"][0] < 0.5 < front["colours"]["right"][0]


def test_layers_of_an_exr_are_read_at_their_values(blender, exr, picture, disparity, normal, tmp_path):
    found = blender("picture", exr, tmp_path / "out", "Combined", "disparity", "normal")
    assert found["layers"] == ["Combined", "Alpha", "disparity", "normal"]
    rows = {name: np.array(values)[::-1] for name, values in found["pixels"].items()}
    np.testing.assert_allclose(rows["Combined"], srgb_to_linear(picture), rtol=2**-10, atol=1e-6)
    np.testing.assert_allclose(rows["disparity"][..., 0], disparity, atol=1e-6)
    np.testing.assert_allclose(rows["normal"], normal, atol=1e-6)


def test_z_of_an_exr_is_blenders_depth(blender, converted, picture, disparity, tmp_path):
    path = converted("blender", "--to", "exr", "--as", "distance", "--near", "1", "--far", "20")
    found = blender("picture", path, tmp_path / "out", "Depth")
    assert "Depth" in found["layers"]
    metres = np.array(found["pixels"]["Depth"])[::-1, :, 0]
    np.testing.assert_allclose(metres, SCALE.distance(disparity), rtol=1e-6)
