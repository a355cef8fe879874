from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from jointnet_cli.output.mesh import distance_from_disparity, rgbd_mesh, write_glb
from jointnet_cli.tasks import Projection

RING = Projection("cylindrical", 360.0, wrap=True)
ARC = Projection("cylindrical", 180.0)
FLAT = Projection("perspective", 90.0)
HEIGHT, WIDTH = 16, 64


def picture(height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.float32]:
    levels = np.random.default_rng(0).integers(0, 256, (height, width, 3))
    return levels.astype(np.float32) / np.float32(255)


def constant(value: float) -> NDArray[np.float32]:
    return np.full((HEIGHT, WIDTH), value, np.float32)


def gltf_header(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    (length,) = struct.unpack_from("<I", data, 12)
    header: dict[str, Any] = json.loads(data[20 : 20 + length])
    return header


def test_disparity_is_linear_in_inverse_distance() -> None:
    np.testing.assert_allclose(distance_from_disparity(np.array([0, 1], np.float32), 1.0, 30.0), [30, 1], rtol=1e-6)
    assert distance_from_disparity(np.array([0.5], np.float32), 2.0, 6.0)[0] == pytest.approx(3.0)


@pytest.mark.parametrize("projection", [RING, ARC])
def test_constant_disparity_is_a_cylinder(projection: Projection) -> None:
    mesh = rgbd_mesh(picture(), constant(0.5), projection, near=2.0, far=6.0)
    columns = WIDTH + projection.wrap
    assert len(mesh.vertices) == HEIGHT * columns
    assert len(mesh.faces) == 2 * (HEIGHT - 1) * (columns - 1)
    np.testing.assert_allclose(np.hypot(mesh.vertices[:, 0], mesh.vertices[:, 2]), 3.0, rtol=1e-6)

    grid = np.asarray(mesh.vertices).reshape(HEIGHT, columns, 3)
    step = np.radians(projection.span) / WIDTH
    np.testing.assert_allclose(grid[:-1, :, 1] - grid[1:, :, 1], 3.0 * step, rtol=1e-6)  # square pixels, y up
    azimuth = np.arctan2(grid[0, :WIDTH, 0], -grid[0, :WIDTH, 2])  # -z is ahead, x to the right
    x = np.arange(WIDTH) + 0.5
    np.testing.assert_allclose(np.degrees(azimuth), x / WIDTH * projection.span - projection.span / 2, atol=1e-5)


def test_constant_disparity_is_a_plane_in_perspective() -> None:
    mesh = rgbd_mesh(picture(), constant(1.0), FLAT)
    np.testing.assert_allclose(mesh.vertices[:, 2], -1.0, rtol=1e-6)
    right_edge = (WIDTH / 2 - 0.5) / (WIDTH / 2)  # tan(45 degrees) less half a pixel
    np.testing.assert_allclose(mesh.vertices[:, 0].max(), right_edge, rtol=1e-6)
    np.testing.assert_allclose(mesh.vertices[0, 1], (HEIGHT / 2 - 0.5) / (WIDTH / 2), rtol=1e-6)


@pytest.mark.parametrize("projection", [RING, ARC, FLAT])
def test_every_triangle_faces_the_viewer(projection: Projection) -> None:
    disparity = np.random.default_rng(1).random((HEIGHT, WIDTH), np.float32) * 0.2 + 0.4
    mesh = rgbd_mesh(picture(), disparity, projection, cut=10.0)
    towards_viewer = -mesh.triangles_center
    assert (np.einsum("fi,fi->f", np.asarray(mesh.face_normals), towards_viewer) > 0).all()


def test_the_seam_is_closed() -> None:
    disparity = np.random.default_rng(2).random((HEIGHT, WIDTH), np.float32)
    mesh = rgbd_mesh(picture(), disparity, RING, cut=100.0)
    grid = np.asarray(mesh.vertices).reshape(HEIGHT, WIDTH + 1, 3)
    assert np.array_equal(grid[:, 0], grid[:, -1])
    # No triangle runs back across the texture.
    u = np.asarray(mesh.visual.uv)[:, 0]
    np.testing.assert_allclose(np.ptp(u[mesh.faces], axis=1), 1 / (WIDTH + 1), rtol=1e-6)
    welded = trimesh.Trimesh(mesh.vertices, mesh.faces).faces_unique_edges
    assert len(welded) == 2 * (HEIGHT - 1) * WIDTH


@pytest.mark.parametrize("projection", [RING, ARC, FLAT])
def test_each_vertex_shows_its_own_pixel(projection: Projection) -> None:
    image = picture()
    mesh = rgbd_mesh(image, constant(0.5), projection)
    texture = np.asarray(mesh.visual.material.baseColorTexture)
    uv = np.asarray(mesh.visual.uv)
    assert uv.min() >= 0
    assert uv.max() <= 1
    shown = texture[((1 - uv[:, 1]) * texture.shape[0]).astype(int), (uv[:, 0] * texture.shape[1]).astype(int)].reshape(
        HEIGHT, -1, 3
    )
    assert np.array_equal(shown[:, :WIDTH], np.rint(image * 255))
    if projection.wrap:
        assert np.array_equal(shown[:, -1], shown[:, 0])


@settings(max_examples=50)
@given(
    arrays.arrays(np.float32, st.tuples(st.integers(2, 6), st.integers(4, 8)), elements=st.floats(0, 1, width=32)),
    st.sampled_from([RING, ARC, FLAT]),
    st.floats(1.05, 4),
)
def test_no_triangle_spans_a_jump(disparity: NDArray[np.float32], projection: Projection, cut: float) -> None:
    mesh = rgbd_mesh(picture(*disparity.shape), disparity, projection, cut=cut)
    vertices = np.asarray(mesh.vertices)
    distance = -vertices[:, 2] if projection.kind == "perspective" else np.hypot(vertices[:, 0], vertices[:, 2])
    corners = distance[np.asarray(mesh.faces)]
    assert (corners.max(axis=1) <= cut * corners.min(axis=1) * (1 + 1e-6)).all()


@pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_a_quad_with_one_near_corner_keeps_its_far_triangle(corner: tuple[int, int]) -> None:
    disparity = np.zeros((2, 2), np.float32)
    disparity[corner] = 1.0
    mesh = rgbd_mesh(picture(2, 2), disparity, FLAT)
    assert len(mesh.faces) == 1
    assert 2 * corner[0] + corner[1] not in mesh.faces


def test_an_object_stands_free_of_the_dome() -> None:
    disparity = constant(0.0)
    disparity[4:12, 20:40] = 1.0
    mesh = rgbd_mesh(picture(), disparity, ARC)
    mesh.remove_unreferenced_vertices()
    pieces = mesh.split(only_watertight=False)
    radii = sorted(float(np.hypot(piece.vertices[:, 0], piece.vertices[:, 2]).mean()) for piece in pieces)
    assert radii == pytest.approx([1.0, 30.0])


@pytest.mark.parametrize("projection", [RING, ARC])
def test_large_images_are_thinned_evenly_to_the_edges(projection: Projection) -> None:
    mesh = rgbd_mesh(picture(60, 250), np.full((60, 250), 0.5, np.float32), projection, max_vertices=1000)
    assert 800 < len(mesh.vertices) < 1100
    v = 1 - np.asarray(mesh.visual.uv)[:, 1]
    assert v.min() == pytest.approx(0.5 / 60)
    assert v.max() == pytest.approx(59.5 / 60)
    columns = len(np.unique(mesh.visual.uv[:, 0]))
    grid = np.asarray(mesh.vertices).reshape(-1, columns, 3)
    assert len(mesh.faces) == 2 * (grid.shape[0] - 1) * (columns - 1)
    if projection.wrap:
        assert np.array_equal(grid[:, 0], grid[:, -1])


def test_a_written_mesh_reads_back(tmp_path: Path) -> None:
    disparity = np.random.default_rng(3).random((HEIGHT, WIDTH), np.float32)
    mesh = rgbd_mesh(picture(), disparity, RING, cut=2.0)
    write_glb(tmp_path / "ring.glb", mesh, {"prompt": "café 海"})
    again = trimesh.load(tmp_path / "ring.glb", process=False, force="mesh")
    np.testing.assert_allclose(again.vertices, mesh.vertices, rtol=1e-6)
    assert np.array_equal(again.faces, mesh.faces)
    np.testing.assert_allclose(again.visual.uv, mesh.visual.uv, atol=1e-6)
    texture = np.asarray(again.visual.material.baseColorTexture.convert("RGB"))
    assert np.array_equal(texture[:, :WIDTH], np.rint(picture() * 255))
    assert "jointnet" not in mesh.metadata

    header = gltf_header(tmp_path / "ring.glb")
    extras = header["meshes"][0]["extras"]
    assert extras["jointnet"] == {"prompt": "café 海"}
    assert (extras["near"], extras["far"], extras["units"]) == (1.0, 30.0, "metres")
    assert header["extensionsUsed"] == ["KHR_materials_unlit"]
    assert "KHR_materials_unlit" in header["materials"][0]["extensions"]
    assert header["samplers"][header["textures"][0]["sampler"]]["wrapS"] == 33071


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match="disparity"):
        rgbd_mesh(picture(), np.zeros((HEIGHT, WIDTH + 1), np.float32), ARC)
