from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image

from jointnet_cli import modality
from jointnet_cli.errors import UserError
from jointnet_cli.output.image import write_grey_png, write_normal_png
from jointnet_cli.output.maps import disparity_of_distance, read_map, read_mask, unit_normals

SKY = 1e10
"""What Blender writes where a ray hits nothing."""
DISTANCE = np.array([[1.0, 2.0], [4.0, SKY]], np.float32)
NEAR_TO_SKY = np.array([[1, 0.5], [0.25, 0]])
"""What that distance is as disparity, but for the near quantile."""
DISTANCES = arrays.arrays(np.float32, (4, 4), elements=st.floats(0.5, 100, width=32))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("maps")


def exr(path: Path, **channels: NDArray[Any]) -> Path:
    """Write an EXR; two underscores stand for the dot of a layer."""
    planes = {name.replace("__", "."): np.ascontiguousarray(values) for name, values in channels.items()}
    with OpenEXR.File({"type": OpenEXR.scanlineimage}, planes) as file:
        file.write(str(path))
    return path


@settings(max_examples=20)
@given(arrays.arrays(np.uint16, (3, 4)))
def test_our_own_depth_comes_back_bit_for_bit(folder: Path, levels: NDArray[np.uint16]) -> None:
    disparity = levels.astype(np.float32) / np.float32(65535)
    write_grey_png(folder / "own.png", disparity)
    read = read_map(folder / "own.png", "depth")
    assert np.array_equal(read.values, disparity)
    assert read.meaning == "disparity, near is bright"


def test_disparity_is_never_stretched(folder: Path) -> None:
    levels = np.array([[100, 120]], np.uint8)
    Image.fromarray(levels).save(folder / "grey.png")
    Image.fromarray(np.repeat(levels[..., None], 3, axis=-1)).save(folder / "as-colour.png")
    np.save(folder / "grey.npy", levels)
    for name in ("grey.png", "as-colour.png", "grey.npy"):
        np.testing.assert_allclose(read_map(folder / name, "depth").values, levels / 255, rtol=1e-6)


@pytest.mark.parametrize(
    ("channels", "name"),
    [
        ({"Z": DISTANCE}, "Z"),
        ({"ViewLayer__Depth__Z": DISTANCE, "ViewLayer__Combined__R": DISTANCE}, "ViewLayer.Depth.Z"),
        ({"Scene.main__Depth__V": DISTANCE, "R": DISTANCE}, "Scene.main.Depth.V"),
        ({"Y": DISTANCE}, "Y"),
        ({"V": DISTANCE}, "V"),
    ],
)
def test_distance_of_other_programs_is_turned_into_disparity(
    folder: Path, channels: dict[str, NDArray[np.float32]], name: str
) -> None:
    read = read_map(exr(folder / "distance.exr", **channels), "depth")
    assert read.meaning == f"distance (channel {name}), turned into disparity"
    np.testing.assert_allclose(read.values, NEAR_TO_SKY, atol=0.03)
    assert read.values[1, 1] == 0


def test_our_own_exr_is_disparity_even_beside_a_distance(folder: Path) -> None:
    disparity = np.array([[0.1, 0.9], [0.3, 0.123456789]], np.float32)
    path = exr(folder / "own.exr", disparity__Y=disparity, R=disparity, Z=DISTANCE)
    read = read_map(path, "depth")
    assert np.array_equal(read.values, disparity)
    assert read.meaning == "disparity (channel disparity.Y), near is bright"


def test_numbers_without_a_name_are_disparity_up_to_one_and_distance_beyond(folder: Path) -> None:
    np.save(folder / "near.npy", np.array([[0.2, 1.0]]))
    np.save(folder / "far.npy", np.array([[1.5, 3.0], [6.0, np.inf]]))
    Image.fromarray(DISTANCE).save(folder / "far.tiff")
    assert read_map(folder / "near.npy", "depth").meaning.startswith("disparity")
    assert read_map(folder / "far.npy", "depth").meaning.startswith("distance")
    np.testing.assert_allclose(read_map(folder / "far.npy", "depth").values, NEAR_TO_SKY, atol=0.03)
    np.testing.assert_allclose(read_map(folder / "far.tiff", "depth").values, NEAR_TO_SKY, atol=0.03)


def test_the_kind_can_be_said(folder: Path) -> None:
    levels = np.array([[10000, 20000], [40000, 0]], np.uint16)  # 0: nothing was measured
    Image.fromarray(levels).save(folder / "millimetres.png")
    read = read_map(folder / "millimetres.png", "depth", "distance")
    np.testing.assert_allclose(read.values, NEAR_TO_SKY, atol=0.03)

    np.save(folder / "midas.npy", np.array([[30.0, 10.0], [np.nan, 20.0]]))
    read = read_map(folder / "midas.npy", "depth", "disparity")
    assert read.meaning == "disparity, brought to the range 0 to 1"
    np.testing.assert_allclose(read.values, [[1, 0], [0, 0.5]], atol=0.03)


@given(DISTANCES, st.floats(1e-3, 1e3))
def test_the_unit_of_a_distance_does_not_matter(distance: NDArray[np.float32], unit: float) -> None:
    disparity = disparity_of_distance(distance)
    assert disparity.min() >= 0
    assert disparity.max() <= 1
    if np.ptp(1 / distance) > 0.01:
        np.testing.assert_allclose(disparity_of_distance(np.float32(unit) * distance), disparity, atol=1e-3)


@settings(max_examples=20)
@given(DISTANCES)
def test_distance_is_treated_as_in_training(distance: NDArray[np.float32]) -> None:
    distance[0] = np.inf
    trained = modality.relative_disparity(modality.inverse_depth(torch.from_numpy(distance))[None])[0]
    np.testing.assert_allclose(disparity_of_distance(distance), trained.numpy(), atol=1e-5)


def test_no_hit_at_all_is_all_sky() -> None:
    assert not disparity_of_distance(np.array([[SKY, np.inf], [np.nan, -1]], np.float32)).any()


@settings(max_examples=20)
@given(arrays.arrays(np.float32, (2, 3, 3), elements=st.floats(-1, 1, width=32)))
def test_our_own_normals_come_back(folder: Path, vectors: NDArray[np.float32]) -> None:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    normals = np.where(length > 0.3, vectors / np.maximum(length, 0.3), 0)
    write_normal_png(folder / "normal.png", normals)
    read = read_map(folder / "normal.png", "normal")
    np.testing.assert_allclose(read.values, normals, atol=1.01 / 255)
    write_normal_png(folder / "again.png", read.values)
    assert (folder / "again.png").read_bytes() == (folder / "normal.png").read_bytes()


@given(arrays.arrays(np.float32, (2, 3, 3), elements=st.floats(-5, 5, width=32)))
def test_normals_are_unit_vectors_or_nothing(vectors: NDArray[np.float32]) -> None:
    length = np.linalg.norm(unit_normals(vectors), axis=-1)
    assert ((length == 0) | (abs(length - 1) < 0.011)).all()


@pytest.mark.parametrize("layer", ["normal", "ViewLayer__Normal", "N"])
def test_normals_of_any_layer(folder: Path, layer: str) -> None:
    normals = np.array([[[0, 0, 1], [0.6, 0.8, 0]], [[0, 0, 0], [-1, 0, 0]]], np.float32)
    channels = {f"{layer}__{axis}": normals[..., index] for index, axis in enumerate("XYZ")}
    read = read_map(exr(folder / "normal.exr", R=DISTANCE, **channels), "normal")
    np.testing.assert_allclose(read.values, normals, atol=1e-6)
    assert layer.replace("__", ".") + ".X" in read.meaning


def test_where_a_normal_map_is_transparent_there_is_none(folder: Path) -> None:
    pixels = np.array([[[128, 128, 255, 255], [128, 128, 255, 0], [128, 128, 128, 255]]], np.uint8)
    Image.fromarray(pixels).save(folder / "cut.png")
    assert read_map(folder / "cut.png", "normal").values[0, :, 2].round(2).tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("name", "modality", "words"),
    [
        ("colour.png", "depth", "is a colour picture, not a depth map"),
        ("grey.png", "normal", "is grey, not a normal map"),
        ("colour.exr", "depth", "holds no depth"),
        ("colour.exr", "normal", "holds no normals"),
        ("words.png", "depth", "is not an image"),
        ("missing.exr", "depth", "does not exist"),
        ("words.npy", "depth", "cannot be read"),
        ("volume.npy", "depth", r"shape \(2, 2, 3\)"),
        ("nothing.npy", "depth", "no finite numbers"),
    ],
)
def test_what_is_no_map_is_a_users_mistake(folder: Path, name: str, modality: str, words: str) -> None:
    Image.new("RGB", (2, 2), (200, 100, 50)).save(folder / "colour.png")
    Image.new("L", (2, 2)).save(folder / "grey.png")
    exr(folder / "colour.exr", R=DISTANCE, G=DISTANCE, B=DISTANCE)
    (folder / "words.png").write_text("words")
    (folder / "words.npy").write_text("words")
    np.save(folder / "volume.npy", np.zeros((2, 2, 3)))
    np.save(folder / "nothing.npy", np.full((2, 2), np.nan))
    with pytest.raises(UserError, match=words):
        read_map(folder / name, modality)


def test_an_array_with_code_in_it_is_not_run(folder: Path) -> None:
    np.save(folder / "objects.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="cannot be read"):
        read_map(folder / "objects.npy", "depth")


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "LA", "P"])
def test_a_mask_is_white_where_it_is_repainted(folder: Path, mode: str) -> None:
    black_and_white = Image.fromarray(np.array([[0, 255, 0]], np.uint8))
    black_and_white.convert(mode).save(folder / "mask.png")
    assert read_mask(folder / "mask.png").tolist() == [[0, 1, 0]]


def test_a_mask_of_sixteen_bits(folder: Path) -> None:
    Image.fromarray(np.array([[0, 65535, 32768]], np.uint16)).save(folder / "mask16.png")
    np.testing.assert_allclose(read_mask(folder / "mask16.png"), [[0, 1, 0.5]], atol=1e-4)


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (255, 0, 0)])
def test_a_drawing_on_a_transparent_ground_is_the_mask(folder: Path, colour: tuple[int, int, int]) -> None:
    pixels = np.array([[[*colour, 255], [9, 9, 9, 0], [*colour, 51]]], np.uint8)
    Image.fromarray(pixels).save(folder / "drawn.png")
    np.testing.assert_allclose(read_mask(folder / "drawn.png"), [[1, 0, 0.2]], atol=1e-6)


def test_a_picture_with_a_hole_may_be_meant_either_way(folder: Path) -> None:
    Image.fromarray(np.array([[[200, 0, 0, 255], [0, 90, 0, 255], [0, 0, 0, 0]]], np.uint8)).save(folder / "hole.png")
    with pytest.raises(UserError, match="not a mask"):
        read_mask(folder / "hole.png")
