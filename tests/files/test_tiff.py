"""TIFF layouts, written by tifffile and compared value by value."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from jointnet_cli.errors import UserError
from jointnet_cli.files.decode import raster_size, read_raster, read_samples
from jointnet_cli.files.images import read_image
from jointnet_cli.files.maps import depth_numbers

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 65536, (32, 48), np.uint16)
COLOUR = RANDOM.integers(0, 65536, (32, 48, 3), np.uint16)
ORDERS = pytest.mark.parametrize("order", ["<", ">"])
PACKINGS = pytest.mark.parametrize(
    "packing", [{}, {"compression": "zlib"}, {"compression": "zlib", "predictor": True}, {"tile": (16, 16)}], ids=str
)


def written(folder: Path, values: NDArray[Any], **options: Any) -> Path:
    path = folder / "picture.tiff"
    tifffile.imwrite(path, values, **options)
    return path


@ORDERS
@PACKINGS
def test_white_is_zero(tmp_path: Path, order: str, packing: dict[str, Any]) -> None:
    for values in (GREY, GREY.astype(np.uint8)):
        path = written(tmp_path, values, photometric="miniswhite", byteorder=order, **packing)
        full = np.iinfo(values.dtype).max
        assert np.array_equal(np.rint(read_samples(path)[..., 0] * full), full - values)
        assert np.array_equal(np.rint(read_image(path)[..., 1] * full), full - values)


def test_the_value_of_sixty_thousand_where_white_is_zero(tmp_path: Path) -> None:
    path = written(tmp_path, np.full((2, 2), 60000, np.uint16), photometric="miniswhite")
    assert read_samples(path)[0, 0, 0] == pytest.approx(5535 / 65535)


def test_one_bit_where_white_is_zero(tmp_path: Path) -> None:
    path = written(tmp_path, np.array([[True, False, True]]), photometric="miniswhite")
    assert read_samples(path)[..., 0].tolist() == [[0, 1, 0]]


@pytest.mark.parametrize("kind", [np.uint32, np.float32, np.int16])
def test_white_is_zero_without_a_range_is_refused(tmp_path: Path, kind: type[np.generic]) -> None:
    with pytest.raises(UserError, match=r"white is 0 in numbers of (16|32) bits"):
        read_samples(written(tmp_path, np.ones((2, 2), kind), photometric="miniswhite"))


@ORDERS
@PACKINGS
@pytest.mark.parametrize("full", [255, 65535])
def test_separate_planes(tmp_path: Path, order: str, packing: dict[str, Any], full: int) -> None:
    values = (COLOUR >> (8 if full == 255 else 0)).astype(np.uint8 if full == 255 else np.uint16)
    planes = np.ascontiguousarray(values.transpose(2, 0, 1))
    path = written(tmp_path, planes, photometric="rgb", planarconfig="separate", byteorder=order, **packing)
    assert np.array_equal(np.rint(read_samples(path) * full), values)


@ORDERS
@PACKINGS
def test_sixteen_bits_of_grey_and_of_colour(tmp_path: Path, order: str, packing: dict[str, Any]) -> None:
    for values, kind in ((GREY, "minisblack"), (COLOUR, "rgb")):
        path = written(tmp_path, values, photometric=kind, byteorder=order, **packing)
        assert np.array_equal(np.rint(read_samples(path).squeeze() * 65535), values)


@ORDERS
def test_straight_and_premultiplied_alpha_of_sixteen_bits(tmp_path: Path, order: str) -> None:
    for channels, kind in ((2, "minisblack"), (4, "rgb")):
        stored = np.full((2, 2, channels), 10000, np.uint16)
        stored[..., -1] = 20000
        options = {"photometric": kind, "byteorder": order, "planarconfig": "contig"}
        straight = read_samples(written(tmp_path, stored, extrasamples=["unassalpha"], **options))
        assert np.array_equal(np.rint(straight * 65535), stored)
        path = written(tmp_path, stored, extrasamples=["assocalpha"], **options)
        assert read_samples(path)[0, 0].tolist() == pytest.approx([0.5] * (channels - 1) + [20000 / 65535], abs=1e-5)
        # The colours hold their share of the alpha already: over white only the rest of the white is added.
        assert read_image(path)[0, 0].tolist() == pytest.approx([10000 / 65535 + 45535 / 65535] * 3, abs=1e-5)
        stored[..., -1] = 0
        assert read_image(written(tmp_path, stored, extrasamples=["assocalpha"], **options)).min() == 1
        dropped = read_samples(written(tmp_path, stored, extrasamples=["unspecified"], **options))
        assert dropped.shape[-1] == channels - 1 and np.rint(dropped.max() * 65535) == 10000


@ORDERS
@PACKINGS
@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32, np.uint32, np.float16, np.float32, np.float64])
def test_numbers_without_a_range_come_as_they_are(
    tmp_path: Path, order: str, packing: dict[str, Any], kind: type[np.generic]
) -> None:
    values = np.array([[0, 1, 100], [3, 2, -7 if np.dtype(kind).kind != "u" else 4_000_000_000]], kind)
    if "predictor" in packing and values.dtype.kind == "f":
        pytest.skip("tifffile needs another package to write the predictor of floating point")
    path = written(tmp_path, values, byteorder=order, **packing)
    assert np.array_equal(read_samples(path)[..., 0], values.astype(np.float32))
    assert raster_size(path) == (2, 3)
    with pytest.raises(UserError, match="samples of no known range"):
        read_image(path)


def test_colours_of_floating_point_are_read_and_not_taken_for_samples(tmp_path: Path) -> None:
    values = RANDOM.random((4, 5, 3), np.float32) * 3
    planes = np.ascontiguousarray(values.transpose(2, 0, 1))
    for path in (
        written(tmp_path, values, photometric="rgb"),
        written(tmp_path, planes, photometric="rgb", planarconfig="separate"),
    ):
        assert np.array_equal(read_raster(path).samples, values)
        with pytest.raises(UserError, match="colours of no known range"):
            read_samples(path)


def test_twelve_bits(tmp_path: Path) -> None:
    path = written(tmp_path, np.zeros((1, 4), np.uint16))
    with tifffile.TiffFile(path) as file:
        tags = file.pages.first.tags
        places = {name: tags[name].valueoffset for name in ("BitsPerSample", "StripOffsets")}
        start = tags["StripOffsets"].value[0]
    data = bytearray(path.read_bytes())
    data[places["BitsPerSample"] : places["BitsPerSample"] + 2] = (12).to_bytes(2, "little")
    data[start : start + 6] = bytes.fromhex("fff000800001")  # 4095, 0, 2048, 1
    path.write_bytes(data)
    assert (read_samples(path)[..., 0] * 4095).tolist()[0] == pytest.approx([4095, 0, 2048, 1], abs=0.05)
    numbers = depth_numbers(path)
    assert numbers.whole == 4095 and (numbers.values * 4095).tolist()[0] == pytest.approx([4095, 0, 2048, 1], rel=1e-6)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_as_pillow_turns_them(tmp_path: Path, orientation: int) -> None:
    values = np.arange(6, dtype=np.uint16).reshape(2, 3) * 9000
    tags = [(274, "H", 1, orientation, True)]
    turned = read_raster(written(tmp_path, values, photometric="minisblack", extratags=tags))
    assert turned.orientation == orientation
    black = read_samples(written(tmp_path, values, photometric="minisblack", extratags=tags))
    white = read_samples(written(tmp_path, values, photometric="miniswhite", extratags=tags))
    np.testing.assert_allclose(white, 1 - black, atol=1e-6)
    assert black.shape[:2] == ((3, 2) if orientation > 4 else (2, 3))


def test_the_first_of_several_pages(tmp_path: Path) -> None:
    path = written(tmp_path, np.stack([GREY, 65535 - GREY]), photometric="miniswhite")
    assert np.array_equal(np.rint(read_samples(path)[..., 0] * 65535), 65535 - GREY)


def test_palette_inks_and_lab_of_eight_bits(tmp_path: Path) -> None:
    palette = Image.new("P", (1, 1), 1)
    palette.putpalette([0, 0, 0, 200, 100, 50])
    lab = Image.fromarray(np.array([[[255, 0, 0]]], np.uint8), "LAB")
    for picture, expected in ((palette, [200, 100, 50]), (Image.new("CMYK", (1, 1), (0, 255, 255, 0)), [255, 0, 0])):
        picture.save(tmp_path / "picture.tiff")
        assert np.rint(read_image(tmp_path / "picture.tiff")[0, 0] * 255).tolist() == expected
    lab.save(tmp_path / "picture.tiff")
    assert read_image(tmp_path / "picture.tiff")[0, 0].tolist() == pytest.approx([1, 1, 1], abs=1.01 / 255)


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (COLOUR, {"photometric": "cielab"}, "CIELAB of 16 bits is not read"),
        (COLOUR.astype(np.uint8), {"photometric": "icclab"}, "ICCLAB of 8 bits is not read"),
    ],
)
def test_other_kinds_are_refused_by_name(
    tmp_path: Path, values: NDArray[Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=rf"picture\.tiff cannot be read: {message}"):
        read_image(written(tmp_path, values, **options))


def test_a_compression_that_is_not_at_hand_is_refused_by_name(tmp_path: Path) -> None:
    path = written(tmp_path, GREY, photometric="miniswhite")
    with tifffile.TiffFile(path) as file:
        place = file.pages.first.tags["Compression"].valueoffset
    data = bytearray(path.read_bytes())
    data[place : place + 2] = (5).to_bytes(2, "little")
    path.write_bytes(data)
    with pytest.raises(UserError, match="cannot be read: compression LZW"):
        read_samples(path)


def test_the_header_of_what_only_tifffile_reads_is_turned_upright(tmp_path: Path) -> None:
    for orientation, size in ((1, (2, 3)), (6, (3, 2))):
        tags = [("Orientation", "H", 1, orientation, True)]
        path = written(tmp_path, np.zeros((2, 3)), bigtiff=True, byteorder=">", extratags=tags)
        assert raster_size(path) == read_samples(path).shape[:2] == size


def test_complex_numbers_and_tiffs_without_pixels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="numbers of type complex64 are not read"):
        read_samples(written(tmp_path, np.zeros((2, 3), np.complex64)))
    (tmp_path / "raw.dng").write_bytes(b"II*\0\x08\0\0\0" + bytes(50))
    for read in (read_samples, raster_size):
        with pytest.raises(UserError, match="cannot be read: "):
            read(tmp_path / "raw.dng")


def test_a_damaged_tiff_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, GREY, photometric="miniswhite", compression="zlib")
    whole = path.read_bytes()
    for cut in (whole[:6], whole[:200], whole.replace(zlib.compress(b"")[:1], b"\0")):
        path.write_bytes(cut)
        with pytest.raises(UserError, match=r"picture\.tiff cannot be read"):
            read_samples(path)
