from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngImageFile

from jointnet_cli.errors import UserError
from jointnet_cli.files.decode import has_deep_colour, raster_size, read_samples
from jointnet_cli.files.images import read_image, read_text
from jointnet_cli.files.metadata import read_gpano

COLOUR = arrays.arrays(np.uint16, st.tuples(st.integers(1, 4), st.integers(1, 4), st.sampled_from([3, 4])))
RAW, DEFLATE = 1, 8
"""TIFF's numbers for compressions: Pillow decodes the first, libtiff the second."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pixels")


def png16(pixels: NDArray[np.uint16]) -> bytes:
    """A PNG of 16-bit colour, which Pillow cannot write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def tiff16(pixels: NDArray[np.uint16], order: str, compression: int, orientation: int = 1) -> bytes:
    """A TIFF of 16-bit colour in the byte order `<` or `>`."""
    height, width, channels = pixels.shape
    data = pixels.astype(f"{order}u2").tobytes()
    data = zlib.compress(data) if compression == DEFLATE else data
    bits = struct.pack(f"{order}{channels}H", *[16] * channels)
    tags = [(256, width), (257, height), (258, 8), (259, compression), (262, 2), (273, 8 + len(bits))]
    tags += [(274, orientation), (277, channels), (278, height), (279, len(data)), (338, 2)][: 4 + (channels == 4)]
    start = 8 + len(bits) + len(data)
    entries = b"".join(
        struct.pack(f"{order}HHII", tag, 3, channels, value)
        if tag == 258
        else struct.pack(f"{order}HHII", tag, 4, 1, value)
        for tag, value in tags
    )
    header = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, start)
    return header + bits + data + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


@settings(max_examples=20)
@given(COLOUR)
def test_png_colour_of_sixteen_bits_is_read_in_full(folder: Path, pixels: NDArray[np.uint16]) -> None:
    path = folder / "deep.png"
    path.write_bytes(png16(pixels))
    assert has_deep_colour(Image.open(path))
    assert np.array_equal(np.rint(read_samples(path) * 65535), pixels)


@pytest.mark.parametrize("compression", [RAW, DEFLATE])
@pytest.mark.parametrize("order", ["<", ">"])
@settings(max_examples=20)
@given(pixels=COLOUR)
def test_tiff_colour_of_sixteen_bits_is_read_in_full(
    folder: Path, order: str, compression: int, pixels: NDArray[np.uint16]
) -> None:
    path = folder / "deep.tiff"
    path.write_bytes(tiff16(pixels, order, compression))
    assert np.array_equal(np.rint(read_samples(path) * 65535), pixels)


def test_deep_colour_is_turned_upright(folder: Path) -> None:
    pixels = np.arange(18, dtype=np.uint16).reshape(2, 3, 3) * 1111
    (folder / "turned.tiff").write_bytes(tiff16(pixels, "<", RAW, orientation=3))
    assert np.array_equal(np.rint(read_samples(folder / "turned.tiff") * 65535), pixels[::-1, ::-1])


def test_a_photo_of_deep_colour(folder: Path) -> None:
    pixels = np.array([[[1, 2, 3, 65535], [65535, 0, 300, 0]]], np.uint16)
    (folder / "photo.png").write_bytes(png16(pixels))
    assert np.rint(read_image(folder / "photo.png") * 65535).tolist() == [[[1, 2, 3], [65535, 65535, 65535]]]


@pytest.mark.parametrize(
    ("mode", "channels"),
    [("1", 1), ("L", 1), ("LA", 2), ("P", 3), ("PA", 4), ("RGB", 3), ("RGBA", 4), ("I;16", 1), ("F", 1)],
)
def test_as_many_channels_as_the_picture_has(folder: Path, mode: str, channels: int) -> None:
    path = folder / ("picture.tiff" if mode in ("F", "PA") else "picture.png")
    Image.new(mode, (3, 2)).save(path)
    assert read_samples(path).shape == (2, 3, channels)
    assert not has_deep_colour(Image.open(path))


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is HEIC"),
        (b"\xff\x0a\x7f", "is JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "is JPEG XL"),
        (b"\0\0\0\x18ftypisom", "is a video"),
        (b"<svg xmlns=", "is an SVG drawing"),
        (b"\x93NUMPY", "is a NumPy array"),
        (b"v/1\x01", "is an OpenEXR file"),
        (b"II*\0\0\0\0\0", "cannot be read: a part is missing or damaged"),
        (b"words", "is not an image"),
    ],
)
def test_formats_that_are_not_read_are_refused_by_name(folder: Path, start: bytes, name: str) -> None:
    (folder / "other").write_bytes(start + bytes(64))
    for read in (read_samples, raster_size):
        with pytest.raises(UserError, match=rf"other {name}") as caught:
            read(folder / "other")
        assert caught.value.hint or "damaged" in name or "TIFF" in name


def test_heic_is_read_with_its_extra(folder: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    image = Image.new("RGB", (16, 16), (200, 30, 60))
    heif.from_pillow(image).save(folder / "a.heic", quality=100)
    assert raster_size(folder / "a.heic") == (16, 16)
    assert np.abs(read_samples(folder / "a.heic")[0, 0] * 255 - (200, 30, 60)).max() < 4


@pytest.mark.parametrize("turned", [False, True])
def test_the_size_of_a_png_is_read_without_its_pixels(
    folder: Path, monkeypatch: pytest.MonkeyPatch, turned: bool
) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6 if turned else 1
    Image.new("RGB", (6, 4)).save(folder / "a.png", **({"exif": exif} if turned else {}))
    loaded: list[object] = []
    load = PngImageFile.load
    monkeypatch.setattr(PngImageFile, "load", lambda image: loaded.append(image) or load(image))
    assert raster_size(folder / "a.png") == ((6, 4) if turned else (4, 6))
    assert not loaded or turned


@pytest.mark.parametrize("behind", [False, True])
def test_the_texts_of_a_png_are_read_without_its_pixels(
    folder: Path, monkeypatch: pytest.MonkeyPatch, behind: bool
) -> None:
    Image.new("RGB", (6, 4)).save(folder / "a.png")
    data, text = (folder / "a.png").read_bytes(), b"tEXtTitle\0reef"
    at = data.index(b"IEND" if behind else b"IDAT") - 4
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    (folder / "a.png").write_bytes(data[:at] + chunk + data[at:])
    loaded: list[object] = []
    load = PngImageFile.load
    monkeypatch.setattr(PngImageFile, "load", lambda image: loaded.append(image) or load(image))
    assert read_text(folder / "a.png") == {"Title": "reef"}
    assert read_gpano(folder / "a.png") is None
    assert bool(loaded) is behind
