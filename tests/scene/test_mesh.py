from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from helpers.scenes import mesh_of, reef
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from jointnet_cli.projection import Projection
from jointnet_cli.scene.cameras import pixels_of
from jointnet_cli.scene.mesh import sky_dome
from jointnet_cli.scene.scene import DepthScale, Layer, Scene, scene_of

RING = Projection("cylindrical", 360.0, wrap=True)
ARC = Projection("cylindrical", 180.0)
FLAT = Projection("perspective", 90.0)
HEIGHT, WIDTH = 16, 64


def picture(height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.float32]:
    levels = np.random.default_rng(0).integers(0, 256, (height, width, 3))
    return levels.astype(np.float32) / np.float32(255)


def noise(low: float, high: float, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.float32]:
    return np.random.default_rng(1).uniform(low, high, (height, width)).astype(np.float32)


def hills(height: int = 48, width: int = 128) -> NDArray[np.float32]:
    """Smooth ground with an edge, under a sky."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    ground = (rows - height / 3) / height + 0.02 * np.sin(columns * 4 * np.pi / width)
    ground[10:40, 50:70] = 0.8
    return ground.clip(0, 1)


def scene(disparity: NDArray[np.float32], projection: Projection, near: float = 1, far: float = 30) -> Scene:
    """Without a sky."""
    return scene_of(picture(*disparity.shape), disparity, projection, DepthScale.from_range(near, far), sky=-1)


def front(disparity: NDArray[np.float32], projection: Projection, cut: float = 1.3) -> trimesh.Trimesh:
    return mesh_of(scene(disparity, projection), cut=cut).geometry["front"]


def distances(mesh: trimesh.Trimesh, projection: Projection) -> NDArray[np.float64]:
    vertices = np.asarray(mesh.vertices)
    return -vertices[:, 2] if projection.kind == "perspective" else np.hypot(vertices[:, 0], vertices[:, 2])


def welded(*meshes: trimesh.Trimesh) -> trimesh.Trimesh:
    """Their surfaces as one, vertices of one place made one."""
    whole = trimesh.util.concatenate([trimesh.Trimesh(mesh.vertices, mesh.faces, process=False) for mesh in meshes])
    whole.merge_vertices()
    return whole


@pytest.mark.parametrize("projection", [RING, ARC])
def test_constant_disparity_is_a_cylinder(projection: Projection) -> None:
    disparity = np.full((HEIGHT, WIDTH), 0.5, np.float32)
    mesh = mesh_of(scene(disparity, projection, near=2.0, far=6.0)).geometry["front"]
    assert len(mesh.faces) == 2 * (HEIGHT - 1) * (WIDTH - 1 + projection.wrap)
    np.testing.assert_allclose(distances(mesh, projection), 3.0, rtol=1e-6)
    column, row, _ = pixels_of(np.asarray(mesh.vertices), projection, HEIGHT, WIDTH)
    np.testing.assert_allclose(column, np.rint(column), atol=1e-4)
    np.testing.assert_allclose(row, np.rint(row), atol=1e-4)


def test_constant_disparity_is_a_plane_in_perspective() -> None:
    mesh = front(np.ones((HEIGHT, WIDTH), np.float32), FLAT)
    np.testing.assert_allclose(mesh.vertices[:, 2], -1.0, rtol=1e-6)
    right_edge = (WIDTH / 2 - 0.5) / (WIDTH / 2)  # tan(45 degrees) less half a pixel
    np.testing.assert_allclose(mesh.vertices[:, 0].max(), right_edge, rtol=1e-6)
    np.testing.assert_allclose(mesh.vertices[:, 1].max(), (HEIGHT / 2 - 0.5) / (WIDTH / 2), rtol=1e-6)


@pytest.mark.parametrize("projection", [RING, ARC, FLAT])
def test_distances_keep_their_precision(projection: Projection) -> None:
    """Steps of a sixteen-bit file, and far below, are still there."""
    disparity = (0.5 + np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) / 65535 / 64).astype(np.float32)
    mesh = front(disparity, projection)
    column, row, distance = pixels_of(np.asarray(mesh.vertices), projection, HEIGHT, WIDTH)
    pixels = np.rint(row).astype(int), np.rint(column).astype(int) % WIDTH
    np.testing.assert_allclose(distance, DepthScale.from_range().distance(disparity[pixels]), rtol=3e-7)


@pytest.mark.parametrize("limit", [10**6, 400])
@pytest.mark.parametrize("projection", [RING, ARC, FLAT])
def test_every_triangle_faces_the_viewer(projection: Projection, limit: int) -> None:
    made = mesh_of(scene(noise(0.4, 0.6), projection), cut=10.0, max_triangles=limit)
    for mesh in made.geometry.values():
        towards_viewer = -mesh.triangles_center
        assert (np.einsum("fi,fi->f", np.asarray(mesh.face_normals), towards_viewer) >= -1e-9).all()


@pytest.mark.parametrize("limit", [10**6, 2000])
def test_the_seam_is_closed(limit: int) -> None:
    waves = 0.5 + 0.1 * np.sin(np.arange(90) * 4 * np.pi / 90) * np.ones((40, 1))
    mesh = mesh_of(scene(waves.astype(np.float32), RING), max_triangles=limit).geometry["front"]
    # No triangle runs back across the texture.
    u = np.asarray(mesh.visual.uv)[:, 0]
    assert np.ptp(u[mesh.faces], axis=1).max() < 0.3
    assert 1 < u.max() < 1.3
    whole = welded(mesh)
    outline = whole.edges_sorted[trimesh.grouping.group_rows(whole.edges_sorted, require_count=1)]
    _, row, _ = pixels_of(whole.vertices[np.unique(outline)], RING, 40, 90)
    assert np.all((row < 1) | (row > 38))  # edges are above and below, none runs down the seam


@pytest.mark.parametrize("projection", [RING, ARC, FLAT])
def test_each_vertex_shows_its_own_pixel(projection: Projection) -> None:
    mesh = front(noise(0.4, 0.6), projection)
    texture = np.asarray(mesh.visual.material.baseColorTexture)
    assert texture.shape == (HEIGHT, WIDTH, 3)
    u, v = np.asarray(mesh.visual.uv).T
    shown = texture[((1 - v) * HEIGHT).astype(int), (u * WIDTH).astype(int) % WIDTH]
    column, row, _ = pixels_of(np.asarray(mesh.vertices), projection, HEIGHT, WIDTH)
    seen = np.rint(picture() * 255)[np.rint(row).astype(int), np.rint(column).astype(int) % WIDTH]
    assert np.array_equal(shown, seen)


@settings(max_examples=40, deadline=None)
@given(
    arrays.arrays(np.float32, st.tuples(st.integers(2, 6), st.integers(4, 8)), elements=st.floats(0, 1, width=32)),
    st.sampled_from([RING, ARC, FLAT]),
    st.floats(1.05, 4),
)
def test_no_triangle_spans_a_jump(disparity: NDArray[np.float32], projection: Projection, cut: float) -> None:
    made = mesh_of(scene(disparity, projection), cut=cut)
    if "front" not in made.geometry:
        return
    mesh = made.geometry["front"]
    corners = distances(mesh, projection)[np.asarray(mesh.faces)]
    assert (corners.max(axis=1) <= cut * corners.min(axis=1) * (1 + 2e-6)).all()


@settings(max_examples=40, deadline=None)
@given(
    arrays.arrays(
        np.float32, st.tuples(st.integers(3, 9), st.integers(4, 9)), elements=st.sampled_from([0.0, 0.5, 1.0])
    ),
    st.sampled_from([RING, ARC, FLAT]),
    st.sampled_from([10**6, 60]),
)
def test_front_and_skirt_are_watertight(disparity: NDArray[np.float32], projection: Projection, limit: int) -> None:
    made = mesh_of(scene(disparity, projection), watertight=True, max_triangles=limit)
    if "front" not in made.geometry:
        return
    solid = welded(made.geometry["front"], made.geometry["skirt"])
    assert solid.is_watertight
    assert solid.is_winding_consistent
    assert solid.volume > 0


@pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_a_quad_with_one_near_corner_keeps_its_far_triangle(corner: tuple[int, int]) -> None:
    disparity = np.zeros((2, 2), np.float32)
    disparity[corner] = 1.0
    mesh = front(disparity, FLAT)
    assert len(mesh.faces) == 1
    np.testing.assert_allclose(mesh.vertices[:, 2], -30, rtol=1e-6)


def test_an_object_stands_free_of_what_is_behind() -> None:
    disparity = np.zeros((HEIGHT, WIDTH), np.float32)
    disparity[4:12, 20:40] = 1.0
    pieces = front(disparity, ARC).split(only_watertight=False)
    assert sorted(float(distances(piece, ARC).mean()) for piece in pieces) == pytest.approx([1.0, 30.0])


@pytest.mark.parametrize("projection", [RING, ARC, FLAT])
@pytest.mark.parametrize("skirt", [False, True])
def test_triangles_stay_within_their_limit(projection: Projection, skirt: bool) -> None:
    disparity = hills()
    whole = scene_of(picture(*disparity.shape), disparity, projection, DepthScale.from_range())
    for limit in (300, 2000):
        made = mesh_of(whole, watertight=skirt, max_triangles=limit)
        assert limit / 3 < sum(len(mesh.faces) for mesh in made.geometry.values()) <= limit


@pytest.mark.parametrize("projection", [RING, ARC, FLAT])
def test_simplification_keeps_surfaces_and_texture(projection: Projection) -> None:
    disparity = hills()
    whole = scene_of(picture(*disparity.shape), disparity, projection, DepthScale.from_range())
    mesh = mesh_of(whole, max_triangles=2500).geometry["front"]
    column, row, distance = pixels_of(np.asarray(mesh.vertices), projection, *disparity.shape)
    u, v = np.asarray(mesh.visual.uv).T
    across = u * disparity.shape[1] - 0.5 - column
    np.testing.assert_allclose(across - np.rint(across / 128) * 128, 0, atol=1e-3)
    np.testing.assert_allclose((1 - v) * disparity.shape[0] - 0.5, row, atol=1e-3)
    true = whole.front.distance[np.rint(row).astype(int), np.rint(column).astype(int) % 128]
    seen = np.isfinite(true)
    assert np.median(np.abs(distance[seen] / true[seen] - 1)) < 0.02


def test_the_sky_is_a_dome_beyond_everything() -> None:
    disparity = hills()
    for projection in (RING, ARC, FLAT):
        whole = scene_of(picture(*disparity.shape), disparity, projection, DepthScale.from_range())
        made = mesh_of(whole)
        sky = distances(made.geometry["sky"], projection)
        assert sky.max() == pytest.approx(33, rel=1e-5)
        assert distances(made.geometry["front"], projection).max() < 30
        # Where the picture shows sky, the dome shows the picture.
        texture = np.asarray(made.geometry["sky"].visual.material.baseColorTexture)
        margin = (len(texture) - len(disparity)) // 2
        clear = np.isinf(whole.front.distance)
        assert np.array_equal(texture[margin : margin + len(disparity)][clear], np.rint(whole.front.image * 255)[clear])
    assert "sky" not in mesh_of(scene(noise(0.4, 0.6), FLAT)).geometry


@pytest.mark.parametrize(("projection", "margin"), [(RING, 16), (FLAT, 0)])
def test_the_dome_shows_each_pixel_of_the_sky_where_it_is(projection: Projection, margin: int) -> None:
    height, width = 24, 64
    disparity = np.full((height, width), 0.5, np.float32)
    disparity[:10] = 0
    dome = sky_dome(scene_of(picture(height, width), disparity, projection, DepthScale.from_range()), 50, 10_000)
    assert dome is not None and dome.image.shape == (height + 2 * margin, width, 3)
    x, y, z = dome.points.T.astype(np.float64)
    open_end = np.hypot(x, z) > 1  # the poles of a ring have no column
    assert np.isclose(np.hypot(x, z)[open_end] if margin else -z, 50, rtol=1e-6).all()
    focal = width / (2 * np.pi) if margin else width / 2 / np.tan(np.radians(projection.span / 2))
    row = height / 2 - y / 50 * focal - 0.5
    column = width / 2 + (np.arctan2(x, -z) if margin else x / 50) * focal - 0.5
    texture_row = (1 - dome.uv[:, 1]) * len(dome.image) - 0.5
    np.testing.assert_allclose(texture_row[open_end], (row + margin)[open_end], atol=1e-3)
    turned = (dome.uv[:, 0] * width - 0.5 - column + width / 2) % width - width / 2
    np.testing.assert_allclose(turned[open_end], 0, atol=1e-3)
    assert len(np.unique(np.round(row[open_end], 3))) > 5


def test_the_dome_of_a_ring_is_closed_at_its_poles() -> None:
    dome = welded(mesh_of(scene(noise(0.4, 0.6), RING)).geometry["sky"])
    assert dome.is_watertight
    assert dome.volume < 0  # seen from within
    assert dome.bounds[1][1] > 0 > dome.bounds[0][1]


def two_layers(projection: Projection) -> Scene:
    """A near square before a wall, which goes on behind its edge."""
    disparity = np.full((HEIGHT, WIDTH), 0.2, np.float32)
    disparity[4:12, 20:40] = 1.0
    whole = scene(disparity, projection)
    shown = np.zeros((HEIGHT, WIDTH), bool)
    shown[4:12, 36:40] = True
    wall = np.full((HEIGHT, WIDTH), whole.front.distance[0, 0])
    image = np.where(shown[..., None], np.float32(1), whole.front.image)
    return replace(whole, behind=Layer(image, wall, shown))


@pytest.mark.parametrize("projection", [RING, ARC, FLAT])
def test_the_second_layer_joins_the_first_without_a_crack(projection: Projection) -> None:
    whole = two_layers(projection)
    mesh = mesh_of(whole).geometry["behind"]
    column, row, _ = pixels_of(np.asarray(mesh.vertices), projection, HEIGHT, WIDTH)
    pixels = {(int(y), int(x)) for y, x in zip(np.rint(row), np.rint(column), strict=True)}
    assert {(y, x) for y in range(4, 12) for x in range(36, 40)} <= pixels
    assert {(y, 40) for y in range(4, 12)} <= pixels  # the wall beside it
    assert not {(y, 30) for y in range(HEIGHT)} & pixels  # nothing deep inside of the square
    # No triangle of the square itself: what is near is the front's alone.
    np.testing.assert_allclose(distances(mesh, projection), whole.front.distance[0, 0], rtol=1e-5)
    texture = np.asarray(mesh.visual.material.baseColorTexture)
    assert (texture[4:12, 36:40] == 255).all()


def test_a_scene_of_sky_alone_has_no_front() -> None:
    whole = scene_of(picture(), np.zeros((HEIGHT, WIDTH), np.float32), RING, DepthScale.from_range())
    assert list(mesh_of(whole).geometry) == ["sky"]


def test_ctrl_c_is_not_lost_while_trimesh_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    careless = "import signal\ntry:\n    signal.raise_signal(signal.SIGINT)\nexcept BaseException:\n    pass\n"
    (tmp_path / "trimesh.py").write_text(careless)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "trimesh")
    with pytest.raises(KeyboardInterrupt):
        mesh_of(reef())
