from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image

from jointnet_cli.errors import UserError
from jointnet_cli.files.images import write_grey_png, write_normal_png
from jointnet_cli.files.maps import depth_numbers, disparity_of_distance, read_map, read_mask, unit_normals
from jointnet_cli.tensors import inverse_depth
from jointnet_cli.tensors import relative_disparity as trained_disparity

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
    Image.fromarray(levels).save(folder / "grey.tiff")
    for name in ("grey.png", "as-colour.png", "grey.tiff"):
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
    assert read.meaning == "disparity (channel disparity.Y), near is bright; --channel takes Z instead"


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


MILLIMETRES = np.array([[2000, 4000], [8000, 0]])
"""0: nothing was measured."""


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<i4", ">i4", "<u4", ">i8", "<u8", "<i2", "<f4", ">f4", ">f8", "<f2"])
def test_the_meaning_of_an_array_does_not_depend_on_its_type(folder: Path, dtype: str) -> None:
    np.save(folder / "array.npy", MILLIMETRES.astype(dtype))
    numbers = depth_numbers(folder / "array.npy")
    assert (numbers.kind, numbers.whole) == ("distance", None if "f" in dtype else 1)
    assert np.array_equal(numbers.values, MILLIMETRES) and numbers.values.dtype == np.float32
    read = read_map(folder / "array.npy", "depth")
    assert read.meaning == "distance, turned into disparity"
    np.testing.assert_allclose(read.values, NEAR_TO_SKY, atol=0.03)


@pytest.mark.parametrize("dtype", ["u1", "i1"])
def test_small_integers_are_numbers_too(folder: Path, dtype: str) -> None:
    np.save(folder / "small.npy", np.array([[20, 40], [80, 0]], dtype))
    np.testing.assert_allclose(read_map(folder / "small.npy", "depth").values, NEAR_TO_SKY, atol=0.03)


@pytest.mark.parametrize("dtype", ["?", "c8", "U3"])
def test_what_is_no_number_is_no_depth(folder: Path, dtype: str) -> None:
    np.save(folder / "odd.npy", np.ones((2, 2)).astype(dtype))
    with pytest.raises(UserError, match="holds no depth: its array is"):
        read_map(folder / "odd.npy", "depth")


def test_whole_numbers_say_what_one_is_in_the_file(folder: Path) -> None:
    Image.fromarray(MILLIMETRES.astype(np.uint16)).save(folder / "deep.png")
    Image.fromarray(MILLIMETRES.astype(np.uint16)).save(folder / "deep.tiff")
    Image.fromarray(np.full((2, 2), 200, np.uint8)).save(folder / "grey.png")
    Image.fromarray(MILLIMETRES.astype(np.int32)).save(folder / "int.tiff")
    Image.fromarray(MILLIMETRES.astype(np.float32)).save(folder / "float.tiff")
    exr(folder / "uint.exr", Z=MILLIMETRES.astype(np.uint32))
    exr(folder / "half.exr", Z=MILLIMETRES.astype(np.float16))
    found = {path.name: depth_numbers(path) for path in map(folder.joinpath, FULL_SCALE)}
    assert {name: numbers.whole for name, numbers in found.items()} == FULL_SCALE
    for name in ("deep.png", "deep.tiff"):
        np.testing.assert_allclose(found[name].values * 65535, MILLIMETRES, rtol=1e-6)
        assert found[name].kind == "disparity"
    for name in ("int.tiff", "float.tiff", "uint.exr", "half.exr"):
        assert np.array_equal(found[name].values, MILLIMETRES) and found[name].kind == "distance"


def test_full_scale_is_that_of_the_file(folder: Path) -> None:
    """Pillow scales pixel values from the full scale that the file states to 8 or 16 bits."""
    levels = np.array([[0, 7], [50, 99]])
    for maximum, dtype in ((100, "u1"), (99, "u1"), (5000, ">u2"), (1023, ">u2"), (65535, ">u2"), (255, "u1")):
        (folder / "grey.pgm").write_bytes(b"P5\n2 2\n%d\n" % maximum + levels.astype(dtype).tobytes())
        numbers = depth_numbers(folder / "grey.pgm")
        assert numbers.whole == maximum
        np.testing.assert_allclose(numbers.values, levels / maximum, rtol=1e-6)
    Image.fromarray(np.array([[True, False]])).save(folder / "bits.png")
    assert depth_numbers(folder / "bits.png").whole == 1


def test_transparency_of_depth_is_ignored_and_said(folder: Path) -> None:
    pairs = np.array([[[100, 255], [50, 255]]], np.uint8)
    Image.fromarray(pairs, "LA").save(folder / "pairs.png")
    assert depth_numbers(folder / "pairs.png").notes == ()
    pairs[0, 1, 1] = 0
    Image.fromarray(pairs, "LA").save(folder / "pairs.png")
    read = read_map(folder / "pairs.png", "depth")
    assert read.meaning == "disparity, near is bright; its transparency is ignored"
    np.testing.assert_allclose(read.values, [[100 / 255, 50 / 255]])


@pytest.mark.parametrize("shape", [(2, 2), (1, 2, 2), (2, 2, 1), (1, 1, 2, 2), (1, 2, 2, 1)])
def test_axes_of_length_one_are_dropped(folder: Path, shape: tuple[int, ...]) -> None:
    np.save(folder / "batch.npy", DISTANCE.reshape(shape))
    assert np.array_equal(depth_numbers(folder / "batch.npy").values, DISTANCE)


def test_an_archive_gives_its_only_array_or_the_one_with_a_name(folder: Path) -> None:
    np.savez(folder / "one.npz", DISTANCE / 1e11)
    np.savez_compressed(folder / "named.npz", Image=np.zeros((2, 2, 3)), Depth=DISTANCE, other=DISTANCE * 2)
    np.savez(folder / "unnamed.npz", DISTANCE, DISTANCE)
    assert depth_numbers(folder / "one.npz").kind == "disparity"
    named = depth_numbers(folder / "named.npz")
    assert np.array_equal(named.values, DISTANCE) and (named.channel, named.kind) == ("Depth", "distance")
    assert np.array_equal(depth_numbers(folder / "named.npz", "other").values, DISTANCE * 2)
    with pytest.raises(UserError, match="holds several arrays, and none is named depth") as caught:
        depth_numbers(folder / "unnamed.npz")
    assert caught.value.hint == "pass --channel NAME; its arrays are arr_0, arr_1"
    with pytest.raises(UserError, match=r"named\.npz has no array Z"):
        depth_numbers(folder / "named.npz", "Z")


VECTORS = np.array([[[0, 0, 1], [0.6, 0.8, 0]], [[0, 0, 0], [-1, 0, 0]]], np.float32)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_normals_in_floating_point(folder: Path, dtype: str) -> None:
    values = VECTORS.astype(dtype)
    tifffile.imwrite(folder / "n.tiff", values, photometric="rgb")
    np.save(folder / "n.npy", np.moveaxis(values, -1, 0)[None])
    np.savez(folder / "n.npz", depth=DISTANCE, normals=values)
    for name in ("n.tiff", "n.npy", "n.npz"):
        np.testing.assert_allclose(read_map(folder / name, "normal").values, VECTORS, atol=1e-3)


def test_normals_turn_with_their_image(folder: Path) -> None:
    image = Image.fromarray(np.array([[[255, 128, 128], [128, 255, 128]]], np.uint8))  # right, then up
    exif = Image.Exif()
    exif[274] = 6  # turned by 90 degrees clockwise to be upright
    image.save(folder / "turned.png", exif=exif)
    turned = read_map(folder / "turned.png", "normal").values
    assert turned.round().tolist() == [[[0, -1, 0]], [[1, 0, 0]]]  # down, then right


FULL_SCALE = {
    "deep.png": 65535,
    "deep.tiff": 65535,
    "grey.png": 255,
    "int.tiff": 1,
    "float.tiff": None,
    "uint.exr": 1,
    "half.exr": None,
}


def test_unknown_disparity_is_far_and_the_rest_is_not_stretched(folder: Path) -> None:
    path = exr(folder / "hole.exr", disparity__Y=np.array([[0.2, np.nan, 0.6]], np.float32))
    np.testing.assert_allclose(read_map(path, "depth").values, [[0.2, 0, 0.6]], rtol=1e-6)


VECTOR = {f"{layer}__{axis}": DISTANCE for layer in ("N", "P", "Position", "Vector", "Normal") for axis in "XYZ"}


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (["Z", *VECTOR], "Z"),
        (["Z", "ViewLayer__Depth__Z", "depth__Z", *VECTOR], "Z"),
        (["ViewLayer__Depth__Z", "depth__V", *VECTOR], "depth.V"),
        (["A__Mist__Z", "B__Depth__Z", "A__Vector__Z", *VECTOR], "B.Depth.Z"),
        (["A__Depth__Z", "B__Depth__Z"], "A.Depth.Z"),
        (["depth__V", "depth__Y", "Z__Z"], "depth.V"),
        (["depth", *VECTOR], "depth"),
        (["Z", "depth"], "Z"),
        (["disparity", "Z"], "disparity"),
        (["disparity__Y", "uncertainty__disparity", "Z", *VECTOR], "disparity.Y"),
        (["Scene__disparity__Z", "depth__Z"], "Scene.disparity.Z"),
        (["N__Z", "N__X", "N__Y", "Depth__Z"], "Depth.Z"),
    ],
)
def test_only_names_that_mean_depth_are_depth(folder: Path, names: list[str], taken: str) -> None:
    path = exr(folder / "named.exr", **dict.fromkeys(names, DISTANCE), R=DISTANCE)
    assert depth_numbers(path).channel == taken


@pytest.mark.parametrize(
    "names",
    [
        *([f"{layer}__Z"] for layer in ("N", "P", "Normal", "normal", "Position", "Vector", "Mist", "ViewLayer__Mist")),
        [*VECTOR],
        ["X", "Y", "Z"],
        ["x", "y", "z"],
        ["depth__X", "depth__Y", "depth__Z"],
        ["A"],
        ["X"],
        ["depth__R", "depth__G"],
        ["R", "G", "B", "uncertainty__disparity"],
        ["DenoisingDepth__Z", "R"],
    ],
)
def test_a_part_of_a_vector_is_never_depth(folder: Path, names: list[str]) -> None:
    path = exr(folder / "vector.exr", **dict.fromkeys(names, DISTANCE))
    with pytest.raises(UserError, match="holds no depth") as raised:
        read_map(path, "depth")
    assert raised.value.hint is not None and "--channel NAME" in raised.value.hint


def test_the_channel_can_be_named(folder: Path) -> None:
    path = exr(folder / "choice.exr", Z=DISTANCE, depth__Z=2 * DISTANCE, P__X=DISTANCE, P__Z=3 * DISTANCE)
    assert depth_numbers(path).notes == ("--channel takes depth.Z instead",)
    for name, times in (("Z", 1), ("depth.Z", 2), ("P.Z", 3)):
        numbers = depth_numbers(path, name)
        assert (numbers.channel, numbers.notes, numbers.kind) == (name, (), "distance")
        assert np.array_equal(numbers.values, times * DISTANCE)
    with pytest.raises(UserError, match=r"choice\.exr has no channel depht\.Z") as raised:
        read_map(path, "depth", channel="depht.Z")
    assert raised.value.hint == "did you mean depth.Z? it has P.X, P.Z, Z, depth.Z"
    np.save(folder / "plain.npy", DISTANCE)
    with pytest.raises(UserError, match="only OpenEXR and npz files have named channels"):
        read_map(folder / "plain.npy", "depth", channel="Z")


def test_the_layer_of_normals_can_be_named(folder: Path) -> None:
    one, zero = np.ones((2, 2), np.float32), np.zeros((2, 2), np.float32)
    axes = {"ViewLayer.Normal": "X", "N": "Y", "Other": "Z", "Denoising Normal": "X"}
    planes = {f"{layer}.{axis}": one if axis == along else zero for layer, along in axes.items() for axis in "XYZ"}
    path = exr(folder / "normals.exr", **planes)
    for layer, vector in ((None, [0, 1, 0]), ("ViewLayer.Normal", [1, 0, 0]), ("Other", [0, 0, 1])):
        assert read_map(path, "normal", channel=layer).values[0, 0].tolist() == vector
    assert "--normal-layer takes ViewLayer.Normal instead" in read_map(path, "normal").meaning
    with pytest.raises(UserError, match="no layer Othr with channels X, Y and Z") as raised:
        read_map(path, "normal", channel="Othr")
    assert raised.value.hint is not None and raised.value.hint.startswith("did you mean Other? it has ")
    with pytest.raises(UserError, match="no channel Q") as raised:
        read_map(path, "depth", channel="Q")
    assert raised.value.hint is not None and raised.value.hint.startswith("it has Denoising Normal.X, ")


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
    trained = trained_disparity(inverse_depth(torch.from_numpy(distance))[None])[0]
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
        ("colour.png", "depth", "is a colour image, not a depth map"),
        ("grey.png", "normal", "is grey, not a normal map"),
        ("colour.exr", "depth", "holds no depth"),
        ("colour.exr", "normal", "holds no normals"),
        ("words.png", "depth", "is not an image"),
        ("missing.exr", "depth", "does not exist"),
        ("words.npy", "depth", "is not a NumPy file of numbers"),
        ("volume.npy", "depth", r"shape \(2, 2, 3\)"),
        ("nothing.npy", "depth", "no finite numbers"),
        ("empty.npz", "depth", r"holds no numbers: its array has the shape \(0, 3\)"),
        ("text.npz", "depth", "holds words.txt, which is no array"),
        ("none.npz", "depth", "holds no arrays"),
        ("complex.npy", "depth", r"its array is complex64 of shape \(2, 2\)"),
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
    np.savez(folder / "empty.npz", depth=np.zeros((0, 3)))
    np.savez(folder / "none.npz")
    np.save(folder / "complex.npy", np.zeros((2, 2), np.complex64))
    with zipfile.ZipFile(folder / "text.npz", "w") as archive:
        archive.writestr("words.txt", "words")
    with pytest.raises(UserError, match=words):
        read_map(folder / name, modality)


def test_an_array_with_code_in_it_is_not_run(folder: Path) -> None:
    np.save(folder / "objects.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="is not a NumPy file of numbers"):
        read_map(folder / "objects.npy", "depth")


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "LA", "P"])
def test_a_mask_is_white_where_it_is_repainted(folder: Path, mode: str) -> None:
    black_and_white = Image.fromarray(np.array([[0, 255, 0]], np.uint8))
    black_and_white.convert(mode).save(folder / "mask.png")
    assert read_mask(folder / "mask.png").tolist() == [[0, 1, 0]]


@pytest.mark.parametrize("number", [np.nan, -0.5, 1.5, np.inf])
def test_a_mask_has_numbers_from_zero_to_one(folder: Path, number: float) -> None:
    Image.fromarray(np.array([[0, number], [1, 0.25]], np.float32)).save(folder / "mask.tiff")
    with pytest.raises(UserError, match="holds numbers that are not from 0 to 1"):
        read_mask(folder / "mask.tiff")
    Image.fromarray(np.array([[0, 0.5], [1, 0.25]], np.float32)).save(folder / "mask.tiff")
    assert read_mask(folder / "mask.tiff").tolist() == [[0, 0.5], [1, 0.25]]


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
