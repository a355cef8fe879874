from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from helpers.scenes import mesh_of
from PIL import Image

from jointnet_cli.files.paths import OUTPUT_ENDINGS
from jointnet_cli.projection import Projection
from jointnet_cli.scene.exports import with_companions
from jointnet_cli.scene.mesh_files import write_glb, write_obj, write_ply, write_points
from jointnet_cli.scene.scene import DepthScale, Layer, Scene, scene_of

RING = Projection("cylindrical", 360.0, wrap=True)
FLAT = Projection("perspective", 90.0)
HEIGHT, WIDTH = 16, 64


def scene(projection: Projection = RING) -> Scene:
    """Two layers under a sky."""
    random = np.random.default_rng(3)
    image = (random.integers(0, 256, (HEIGHT, WIDTH, 3)) / 255).astype(np.float32)
    disparity = random.uniform(0.4, 0.5, (HEIGHT, WIDTH)).astype(np.float32)
    disparity[:4] = 0
    made = scene_of(image, disparity, projection, DepthScale.from_range())
    shown = np.zeros((HEIGHT, WIDTH), bool)
    shown[6:10, 20:30] = True
    return replace(made, behind=Layer(1 - image, made.front.distance * 2, shown))


def header(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    (length,) = struct.unpack_from("<I", data, 12)
    parsed: dict[str, Any] = json.loads(data[20 : 20 + length])
    return parsed


@pytest.mark.parametrize("projection", [RING, FLAT])
def test_a_glb_reads_back(projection: Projection, tmp_path: Path) -> None:
    made = mesh_of(scene(projection), watertight=True)
    path = tmp_path / "place.glb"
    write_glb(path, made, {"prompt": "café 海"})
    again = trimesh.load(path, process=False)
    assert list(again.geometry) == ["front", "behind", "sky", "skirt"]
    for name, mesh in made.geometry.items():
        read = again.geometry[name]
        assert np.array_equal(read.vertices, mesh.vertices)  # float32 on both sides
        assert np.array_equal(read.faces, mesh.faces)
        np.testing.assert_allclose(read.visual.uv, mesh.visual.uv, atol=1e-6)
        texture, written = (part.visual.material.baseColorTexture.convert("RGB") for part in (read, mesh))
        assert np.array_equal(np.asarray(texture), np.asarray(written))
    tree = header(path)
    assert len(tree["images"]) == 3  # the skirt shows the front's
    assert tree["scenes"][0]["extras"]["jointnet"] == {"prompt": "café 海"}
    assert tree["scenes"][0]["extras"]["units"] == "metres"
    assert (tree["scenes"][0]["extras"]["near"], tree["scenes"][0]["extras"]["far"]) == (1, pytest.approx(30))
    assert tree["extensionsUsed"] == ["KHR_materials_unlit"]
    assert all("KHR_materials_unlit" in material["extensions"] for material in tree["materials"])
    sampler = tree["samplers"][tree["textures"][0]["sampler"]]
    assert sampler == {"wrapS": 10497 if projection.wrap else 33071, "wrapT": 33071}
    assert "jointnet" not in made.metadata


def test_a_ply_holds_all_surfaces_with_their_colours(tmp_path: Path) -> None:
    made = mesh_of(scene())
    write_ply(tmp_path / "place.ply", made)
    again = trimesh.load(tmp_path / "place.ply", process=False)
    parts = list(made.geometry.values())
    assert len(again.faces) == sum(len(part.faces) for part in parts)
    assert np.array_equal(again.vertices, np.concatenate([part.vertices for part in parts]))
    assert np.array_equal(again.faces[: len(parts[0].faces)], parts[0].faces)
    front = parts[0]
    columns = np.rint(np.asarray(front.visual.uv)[:, 0] * WIDTH - 0.5).astype(int) % WIDTH
    rows = np.rint((1 - np.asarray(front.visual.uv)[:, 1]) * HEIGHT - 0.5).astype(int)
    expected = np.rint(scene().front.image * 255)[rows, columns]
    assert np.array_equal(again.visual.vertex_colors[: len(expected), :3], expected)


def test_points_are_the_pixels_of_both_layers_without_the_sky(tmp_path: Path) -> None:
    whole = scene()
    write_points(tmp_path / "points.ply", whole)
    again = trimesh.load(tmp_path / "points.ply")
    assert len(again.vertices) == 12 * WIDTH + 40
    radii = np.hypot(again.vertices[:, 0], again.vertices[:, 2])
    np.testing.assert_allclose(radii[: 12 * WIDTH], whole.front.distance[4:].ravel(), rtol=1e-6)
    assert whole.behind is not None
    np.testing.assert_allclose(radii[12 * WIDTH :], whole.behind.distance[6:10, 20:30].ravel(), rtol=1e-6)
    assert np.array_equal(again.colors[: 12 * WIDTH, :3], np.rint(whole.front.image[4:].reshape(-1, 3) * 255))


def test_an_obj_reads_back_with_its_textures(tmp_path: Path) -> None:
    made = mesh_of(scene(), watertight=True)
    files = write_obj(tmp_path / "place.mesh.obj", made)
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert set(files) == set(with_companions({"mesh_obj": tmp_path / "place.mesh.obj"}))
    assert all(path.name.endswith(OUTPUT_ENDINGS) for path in files if path.suffix == ".png")
    assert [path.name for path in files[:3]] == [f"place.mesh.{name}.png" for name in ("front", "behind", "sky")]
    again = trimesh.load(tmp_path / "place.mesh.obj", process=False, group_material=False, split_object=True)
    assert sum(len(mesh.faces) for mesh in again.geometry.values()) == sum(len(m.faces) for m in made.geometry.values())
    text = (tmp_path / "place.mesh.obj").read_text()
    assert [line.split()[1] for line in text.splitlines() if line.startswith("o ")] == list(made.geometry)
    corners = np.array([line.split()[1:] for line in text.splitlines() if line.startswith("v ")], float)
    np.testing.assert_allclose(
        corners, np.concatenate([mesh.vertices for mesh in made.geometry.values()]), rtol=1e-6, atol=1e-6
    )
    turns = np.array([line.split()[1:] for line in text.splitlines() if line.startswith("vt ")], float)
    np.testing.assert_allclose(turns, np.concatenate([mesh.visual.uv for mesh in made.geometry.values()]), atol=1e-6)
    words = [line.split()[1:] for line in text.splitlines() if line.startswith("f ")]
    assert all(corner.split("/")[0] == corner.split("/")[1] for face in words for corner in face)
    faces = np.array([[int(corner.split("/")[0]) for corner in face] for face in words])
    parts = list(made.geometry.values())
    starts = np.cumsum([1, *(len(part.vertices) for part in parts[:-1])])
    assert np.array_equal(
        faces, np.concatenate([part.faces + start for part, start in zip(parts, starts, strict=True)])
    )
    front = np.asarray(Image.open(tmp_path / "place.mesh.front.png"))
    assert np.array_equal(front, np.rint(scene().front.image * 255))


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    made = mesh_of(scene())
    made.geometry["front"].visual.material.baseColorTexture = None
    with pytest.raises(AttributeError, match="no attribute 'convert'"):
        write_ply(tmp_path / "place.ply", made)
    with pytest.raises(AttributeError, match="no attribute"):
        write_obj(tmp_path / "place.obj", made)
    assert not list(tmp_path.iterdir())


def test_numbers_that_are_not_finite_are_null_in_the_record_of_a_glb(tmp_path: Path) -> None:
    write_glb(tmp_path / "scene.glb", mesh_of(scene()), {"seconds": float("nan"), "far": [float("inf"), 2.5]})
    data = (tmp_path / "scene.glb").read_bytes()
    (length,) = struct.unpack_from("<I", data, 12)
    tree = json.loads(data[20 : 20 + length], parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))
    assert tree["scenes"][0]["extras"]["jointnet"] == {"seconds": None, "far": [None, 2.5]}
