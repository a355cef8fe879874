from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import OpenEXR
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image, ImageCms, JpegImagePlugin

from jointnet_cli.errors import UserError
from jointnet_cli.files.color_space import png_chunks
from jointnet_cli.files.images import (
    read_disparity_png,
    read_image,
    read_text,
    write_deep_png,
    write_grey_png,
    write_jpeg,
    write_normal_png,
    write_png,
)
from jointnet_cli.files.text import PNG_KEY

EIGHT_BIT = arrays.arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 5), st.just(3)))
SIXTEEN_BIT = arrays.arrays(np.uint16, st.tuples(st.integers(1, 5), st.integers(1, 5)))
# Neither a lone surrogate nor NUL can stand in a text chunk.
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
RED_BLUE = np.array([[[255, 0, 0], [0, 0, 255], [0, 0, 255]]], np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("image")


@given(EIGHT_BIT, st.dictionaries(st.sampled_from(["jointnet", "parameters"]), WORDS))
def test_png_keeps_eight_bits_and_text(folder: Path, pixels: NDArray[np.uint8], text: dict[str, str]) -> None:
    path = folder / "picture.png"
    write_png(path, pixels.astype(np.float32) / np.float32(255), text)
    assert np.array_equal(np.rint(read_image(path) * 255), pixels)
    assert read_text(path) == text


@given(SIXTEEN_BIT)
def test_disparity_keeps_sixteen_bits(folder: Path, pixels: NDArray[np.uint16]) -> None:
    path = folder / "disparity.png"
    write_grey_png(path, pixels.astype(np.float32) / np.float32(65535), {"jointnet": "{}"})
    assert np.array_equal(np.asarray(Image.open(path)), pixels)
    assert np.array_equal(np.rint(read_disparity_png(path) * 65535), pixels)
    assert read_text(path) == {"jointnet": "{}"}


def test_disparity_is_never_stretched(folder: Path) -> None:
    path = folder / "range.png"
    write_grey_png(path, np.array([[-0.1, 0.25, 0.5, 1.2]], np.float32))
    assert np.asarray(Image.open(path)).tolist() == [[0, 16384, 32768, 65535]]


def test_normals_are_shifted_into_range(folder: Path) -> None:
    path = folder / "normal.png"
    write_normal_png(path, np.array([[[0, 0, 1], [-1, 0, 0], [0, 1, 0]]], np.float32))
    assert np.asarray(Image.open(path)).tolist() == [[[128, 128, 255], [0, 128, 128], [128, 255, 128]]]


def test_a_png_says_that_it_is_srgb(folder: Path) -> None:
    write_png(folder / "srgb.png", np.zeros((1, 1, 3), np.float32))
    assert Image.open(folder / "srgb.png").info["srgb"] == 0


def test_a_jpeg_keeps_full_colour_resolution_at_quality_95(folder: Path) -> None:
    path = folder / "written.jpg"
    write_jpeg(path, np.zeros((16, 16, 3), np.float32))
    with Image.open(path) as picture:
        assert [(horizontal, vertical) for _, horizontal, vertical, _ in picture.layer] == [(1, 1)] * 3
        # The first entry of libjpeg's luminance table, 16, scaled for quality 95 as 200 - 2 * 95 percent.
        assert picture.quantization[0][0] == 2 and picture.quantization[1][0] == 2
    lines = np.zeros((16, 16, 3), np.float32)
    lines[:, ::2, 0] = 1  # red columns one pixel wide, which 4:2:0 would blend
    write_jpeg(path, lines)
    with Image.open(path) as picture:
        red = np.asarray(picture, float)[..., 0]
    assert red[:, ::2].min() > 240 and red[:, 1::2].max() < 15


def test_pictures_state_srgb_and_carry_no_profile_while_maps_state_nothing(folder: Path) -> None:
    values = np.zeros((2, 2, 3), np.float32)
    write_png(folder / "picture.png", values)
    write_normal_png(folder / "normal.png", values)
    write_deep_png(folder / "deep.png", values)
    write_grey_png(folder / "depth.png", values[..., 0])
    chunks = {
        name: set(png_chunks((folder / f"{name}.png").read_bytes())) for name in ("picture", "normal", "deep", "depth")
    }
    assert chunks == {"picture": {b"IHDR", b"sRGB"}, "normal": {b"IHDR"}, "deep": {b"IHDR"}, "depth": {b"IHDR"}}


@pytest.mark.parametrize("write", [write_png, write_grey_png, write_normal_png])
def test_what_is_not_a_number_is_not_written(tmp_path: Path, write: Callable[..., None]) -> None:
    with pytest.raises(ValueError, match=r"^the image holds values that are not finite$"):
        write(tmp_path / "nan.png", np.full((2, 2, 3), np.nan, np.float32))
    assert list(tmp_path.iterdir()) == []


def test_other_pictures_have_no_text(folder: Path) -> None:
    Image.new("RGB", (2, 2)).save(folder / "none.jpg")
    assert read_text(folder / "none.jpg") == {}


def chunks(path: Path) -> list[tuple[bytes, bytes]]:
    """The chunks of a PNG, their checksums compared."""
    data, at, found = path.read_bytes(), 8, []
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        name, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length) == (zlib.crc32(name + body),)
        found.append((name, body))
        at += 12 + length
    return found


@pytest.mark.parametrize("width", [1, 2, 5])
def test_a_deep_png_by_its_bytes(folder: Path, width: int) -> None:
    levels = np.random.default_rng(width).integers(0, 65536, (3, width, 3), np.uint16)
    levels[0, 0] = (0, 1, 65535)
    write_deep_png(folder / "deep.png", (levels / 65535).astype(np.float32), {"Title": "é", PNG_KEY: "<海/>"})
    found = chunks(folder / "deep.png")
    assert [name for name, _ in found] == [b"IHDR", b"tEXt", b"iTXt", b"IDAT", b"IEND"]
    assert found[0][1] == struct.pack(">IIBBBBB", width, 3, 16, 2, 0, 0, 0)
    assert found[1][1] == b"Title\0\xe9" and found[2][1] == PNG_KEY.encode() + b"\0\0\0\0\0" + "<海/>".encode()
    lines = zlib.decompress(found[3][1])
    assert len(lines) == 3 * (1 + 6 * width)
    for row in range(3):
        line = bytearray(lines[row * (1 + 6 * width) :][: 1 + 6 * width])
        assert line[0] == 1  # the filter `Sub`
        for place in range(7, len(line)):
            line[place] = (line[place] + line[place - 6]) % 256
        assert struct.unpack(f">{3 * width}H", line[1:]) == tuple(levels[row].ravel())
    assert found[4][1] == b""
    # Pillow shows the high bytes.
    assert np.array_equal(np.asarray(Image.open(folder / "deep.png")), levels >> 8)


def test_other_readers_see_grey_and_normals_as_they_are(folder: Path) -> None:
    write_grey_png(folder / "grey.png", np.array([[0, 0.25, 1, 1.5, -1]], np.float32), {"Title": "a"})
    picture = Image.open(folder / "grey.png")
    assert picture.mode == "I;16" and picture.text == {"Title": "a"}
    assert np.asarray(picture).tolist() == [[0, 16384, 65535, 65535, 0]]
    assert chunks(folder / "grey.png")[0][1] == struct.pack(">IIBBBBB", 5, 1, 16, 0, 0, 0, 0)
    write_normal_png(folder / "n.png", np.array([[[0, 0, 1], [-1, 1, 0], [0.6, -0.84, 0]]], np.float32), {"Title": "b"})
    picture = Image.open(folder / "n.png")
    assert picture.mode == "RGB" and picture.text == {"Title": "b"}
    assert np.asarray(picture).tolist() == [[[128, 128, 255], [0, 255, 128], [204, 20, 128]]]
    write_png(folder / "rgb.png", np.array([[[0, 0.2, 1], [-1, 2, 0.5]]], np.float32), {PNG_KEY: "<海/>"})
    assert np.asarray(Image.open(folder / "rgb.png")).tolist() == [[[0, 51, 255], [0, 255, 128]]]
    assert (b"iTXt", PNG_KEY.encode() + b"\0\0\0\0\0" + "<海/>".encode()) in chunks(folder / "rgb.png")


def test_a_jpeg_keeps_the_full_resolution_of_its_colours(folder: Path) -> None:
    stripes = np.zeros((16, 16, 3), np.float32)
    stripes[:, ::2, 0], stripes[:, 1::2, 2] = 1, 1
    write_jpeg(folder / "stripes.jpg", stripes, "<xmp/>", "a comment")
    with Image.open(folder / "stripes.jpg") as picture:
        assert JpegImagePlugin.get_sampling(picture) == 0  # 4:4:4
        # The first entry of the standard's tables, 16 and 17, at a quality of 95: a tenth.
        assert [table[0] for table in picture.quantization.values()] == [2, 2]
        assert (picture.info["comment"], picture.info["xmp"]) == (b"a comment", b"<xmp/>")
        np.testing.assert_allclose(np.asarray(picture) / 255, stripes, atol=0.06)
    data = (folder / "stripes.jpg").read_bytes()
    frame = data.index(b"\xff\xc0") + 10
    assert [data[frame + 3 * component + 1] for component in range(3)] == [0x11, 0x11, 0x11]


def test_a_jpeg_leaves_out_what_it_has_no_room_for(folder: Path) -> None:
    image = np.zeros((8, 8, 3), np.float32)
    for size, kept in ((65_500, True), (65_501, False)):
        write_jpeg(folder / "long.jpg", image, comment="c" * size)
        with Image.open(folder / "long.jpg") as picture:
            assert ("comment" in picture.info) == kept
    write_jpeg(folder / "long.jpg", image, comment="é" * 32_751)  # 65,502 bytes
    with Image.open(folder / "long.jpg") as picture:
        assert "comment" not in picture.info and "xmp" not in picture.info


@pytest.mark.parametrize("suffix", ["jpg", "webp", "tiff", "bmp"])
def test_other_formats(folder: Path, suffix: str) -> None:
    path = folder / f"flat.{suffix}"
    Image.new("RGB", (16, 8), (200, 100, 50)).save(path)
    image = read_image(path)
    assert image.shape == (8, 16, 3)
    assert image.dtype == np.float32
    np.testing.assert_allclose(
        image, np.broadcast_to(np.array([200, 100, 50], np.float32) / 255, image.shape), atol=3 / 255
    )


def test_the_camera_orientation_is_applied(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show rotated by 90 degrees clockwise
    Image.fromarray(RED_BLUE).save(folder / "turned.png", exif=exif)
    assert (read_image(folder / "turned.png") * 255).tolist() == RED_BLUE.transpose(1, 0, 2).tolist()


def test_transparency_lies_over_white(folder: Path) -> None:
    pixels = np.array([[[0, 0, 0, 0], [0, 0, 0, 255], [255, 0, 0, 128]]], np.uint8)
    Image.fromarray(pixels).save(folder / "alpha.png")
    expected = np.array([[[1, 1, 1], [0, 0, 0], [1, 0.5, 0.5]]])
    np.testing.assert_allclose(read_image(folder / "alpha.png"), expected, atol=1 / 255)


def test_a_palette_with_a_transparent_entry(folder: Path) -> None:
    picture = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    picture.putpalette([10, 20, 30, 200, 100, 50])
    picture.save(folder / "palette.png", transparency=0)
    assert (read_image(folder / "palette.png") * 255).tolist() == [[[255, 255, 255], [200, 100, 50]]]


def test_grey_and_grey_with_alpha(folder: Path) -> None:
    Image.fromarray(np.array([[0, 51]], np.uint8)).save(folder / "grey.png")
    assert (read_image(folder / "grey.png") * 255).tolist() == [[[0] * 3, [51] * 3]]
    Image.new("LA", (1, 1), (0, 0)).save(folder / "grey-alpha.png")
    assert read_image(folder / "grey-alpha.png").tolist() == [[[1.0, 1.0, 1.0]]]


def test_sixteen_bit_grey_keeps_its_precision(folder: Path) -> None:
    levels = np.array([[0, 1, 257, 32768, 65535]], np.uint16)
    Image.fromarray(levels).save(folder / "grey16.png")
    expected = np.repeat(levels[..., None], 3, axis=-1)
    assert np.array_equal(np.rint(read_image(folder / "grey16.png") * 65535), expected)
    Image.fromarray(levels).save(folder / "grey16.tiff")
    assert np.array_equal(np.rint(read_image(folder / "grey16.tiff") * 65535), expected)


def test_cmyk(folder: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(folder / "cmyk.jpg")
    red = read_image(folder / "cmyk.jpg").mean(axis=(0, 1))
    assert red[0] > 0.9
    assert red[1:].max() < 0.1


def test_a_colour_profile_is_converted(folder: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # With two tags renamed, what the profile calls red looks blue.
    exchanged = srgb.replace(b"rXYZ", b"?").replace(b"bXYZ", b"rXYZ").replace(b"?", b"bXYZ")
    Image.fromarray(RED_BLUE).save(folder / "profile.png", icc_profile=exchanged)
    np.testing.assert_allclose(read_image(folder / "profile.png") * 255, RED_BLUE[..., ::-1], atol=1)


def test_a_colour_profile_for_other_channels_is_ignored(folder: Path) -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    Image.fromarray(RED_BLUE).save(folder / "lab.png", icc_profile=lab)
    assert (read_image(folder / "lab.png") * 255).tolist() == RED_BLUE.tolist()


def test_what_is_no_picture_is_a_users_mistake(folder: Path) -> None:
    (folder / "words.png").write_text("not a picture")
    with pytest.raises(UserError, match=r"words\.png is not an image"):
        read_image(folder / "words.png")
    with pytest.raises(UserError, match="does not exist"):
        read_image(folder / "missing.png")
    with pytest.raises(UserError, match="is a folder"):
        read_image(folder)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_cut_off_picture_is_a_users_mistake(folder: Path, suffix: str) -> None:
    whole = folder / f"whole.{suffix}"
    Image.effect_noise((64, 64), 50).save(whole)
    cut = folder / f"cut.{suffix}"
    cut.write_bytes(whole.read_bytes()[:600])
    with pytest.raises(UserError, match="cut"):
        read_image(cut)


@pytest.mark.parametrize("layer", ["", "ViewLayer.Combined."])
def test_an_exr_photo_is_linear_light(folder: Path, layer: str) -> None:
    linear = np.array([[0.0, 0.2140411, 1.0, 7.0, np.nan]], np.float32)
    alpha = np.array([[1, 1, 1, 1, 0]], np.float32)
    channels = {f"{layer}{name}": linear.copy() for name in "RGB"} | {f"{layer}A": alpha}
    with OpenEXR.File({"type": OpenEXR.scanlineimage}, channels) as file:
        file.write(str(folder / "photo.exr"))
    expected = np.repeat(np.array([0, 0.5, 1, 1, 0])[None, :, None], 3, axis=-1)
    np.testing.assert_allclose(read_image(folder / "photo.exr"), expected, atol=1e-4)


def test_an_exr_without_colours_is_no_picture(folder: Path) -> None:
    channels = {name: np.ones((2, 2), np.float32) for name in ("V", "Z")}
    with OpenEXR.File({"type": OpenEXR.scanlineimage}, channels) as file:
        file.write(str(folder / "z.exr"))
    with pytest.raises(UserError) as caught:
        read_image(folder / "z.exr")
    assert str(caught.value) == f"{folder / 'z.exr'} holds no image"
    assert caught.value.hint == "its channels are V, Z"


def test_the_first_frame_of_an_animation(folder: Path) -> None:
    first, second = Image.new("RGB", (2, 2), (200, 100, 50)), Image.new("RGB", (2, 2), (0, 0, 0))
    first.save(folder / "moving.png", save_all=True, append_images=[second])
    assert (read_image(folder / "moving.png") * 255).tolist() == [[[200, 100, 50]] * 2] * 2


def test_floating_point_pixels_are_refused(folder: Path) -> None:
    Image.fromarray(np.array([[0.5, 100]], np.float32)).save(folder / "float.tiff")
    with pytest.raises(UserError) as caught:
        read_image(folder / "float.tiff")
    said = "has samples of no known range: signed, 32 bits, or floating point"
    assert str(caught.value) == f"{folder / 'float.tiff'} {said}"


def test_disparity_of_eight_bits_is_refused(folder: Path) -> None:
    Image.new("L", (2, 2)).save(folder / "eight.png")
    with pytest.raises(UserError, match="is not a 16-bit grey image") as raised:
        read_disparity_png(folder / "eight.png")
    assert raised.value.hint == "disparity is read from 16-bit grey PNG"


def test_text_of_a_record_is_json_again(folder: Path) -> None:
    record = {"prompt": 'café 海, "quoted"\nnext', "seed": 3}
    write_png(folder / "text.png", np.zeros((2, 2, 3), np.float32), {"jointnet": json.dumps(record)})
    assert json.loads(read_text(folder / "text.png")["jointnet"]) == record
