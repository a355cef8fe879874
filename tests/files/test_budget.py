"""Files whose header claims more than is read: refused before anything is decoded."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from jointnet_cli.errors import UserError
from jointnet_cli.files.budget import check_pixels, limit_pixels
from jointnet_cli.files.exr import write_channels
from jointnet_cli.files.images import read_image
from jointnet_cli.files.maps import header_size, read_map

SIDE = 30_000


@pytest.fixture
def small_limit() -> Iterator[None]:
    with limit_pixels(100):
        yield


def encoded(kind: str) -> bytearray:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(buffer, kind)
    return bytearray(buffer.getvalue())


def patched(data: bytearray, mark: bytes, skip: int, dimensions: bytes) -> bytes:
    """Replace the dimensions that follow a mark."""
    at = data.index(mark) + len(mark) + skip
    data[at : at + len(dimensions)] = dimensions
    return bytes(data)


def claims(kind: str) -> bytes:
    """Return a file of a few hundred bytes that claims 30,000 pixels a side, or what its format can state."""
    both = struct.pack(">II", SIDE, SIDE)
    match kind:
        case "png":
            data = encoded("PNG")
            data[16:24] = both
            data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
            return bytes(data)
        case "gif":
            return patched(encoded("GIF"), b"GIF87a", 0, struct.pack("<HH", SIDE, SIDE))
        case "jpg":
            return patched(encoded("JPEG"), b"\xff\xc0", 3, struct.pack(">HH", SIDE, SIDE))
        case "bmp":
            return patched(encoded("BMP"), b"BM", 16, struct.pack("<II", SIDE, SIDE))
        case "webp":
            return patched(encoded("WEBP"), b"\x9d\x01\x2a", 0, struct.pack("<HH", 16383, 16383))
        case "jp2":
            return patched(encoded("JPEG2000"), b"ihdr", 0, both)
        case "avif":
            return patched(encoded("AVIF"), b"ispe", 4, struct.pack(">II", 16000, 16000))
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((32, 32, 3), np.uint8), photometric="rgb", compression="zlib")
    data = bytearray(buffer.getvalue())
    if kind == "16.tiff":  # decoded by tifffile
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, np.zeros((32, 32), np.float64), compression="zlib")
        data = bytearray(buffer.getvalue())
    for tag in (256, 257):
        data = bytearray(patched(data, struct.pack("<HHI", tag, 4, 1), 0, struct.pack("<I", SIDE)))
    return bytes(data)


def test_a_limit_ends_with_its_context(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10)).save(path := tmp_path / "a.png")
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(UserError, match="more than 199 pixels"), limit_pixels(199):
        read_image(path)
    with limit_pixels(10**9), limit_pixels(200):
        assert header_size(path) == (10, 20)
    assert read_image(path).shape[:2] == (10, 20) and before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("kind", ["png", "gif", "jpg", "bmp", "webp", "jp2", "avif", "tiff", "16.tiff"])
def test_an_image_that_claims_too_many_pixels_is_refused_from_its_header(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_bytes(claims(kind))
    assert path.stat().st_size < 4000
    for read in (read_image, header_size):
        with pytest.raises(UserError, match="pixels") as caught:
            read(path)
        assert str(path) in str(caught.value) and "--max-pixels" in str(caught.value.hint)


def test_an_openexr_that_claims_too_many_pixels_is_refused_from_its_header(tmp_path: Path) -> None:
    path = tmp_path / "a.exr"
    write_channels(path, {"Z": np.ones((4, 4), np.float32)}, {})
    whole = bytearray(path.read_bytes())
    for window in (b"dataWindow", b"displayWindow"):
        path.write_bytes(patched(whole[:], window + b"\0box2i\0\x10\0\0\0", 8, struct.pack("<II", SIDE - 1, SIDE - 1)))
        with pytest.raises(UserError, match=r"a\.exr has 30,000 x 30,000 pixels of 4 bytes, which is more than"):
            read_map(path, "depth")


def test_arrays_that_claim_too_many_numbers_are_refused_from_their_header(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (SIDE, SIDE)})
    sparse = tmp_path / "a.npy"
    with sparse.open("wb") as stream:
        stream.write(header.getvalue())
        stream.truncate(len(header.getvalue()) + 4 * SIDE**2)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("depth.npy", header.getvalue())
    for name in ("a.npy", "a.npz"):
        with pytest.raises(
            UserError, match="has 30,000 x 30,000 pixels of 4 bytes, which is more than 178,000,000 pixels"
        ):
            read_map(tmp_path / name, "depth")


def test_many_channels_count_as_much_as_many_pixels(small_limit: None) -> None:
    check_pixels("a", 10, 10, 16)
    for height, width, size in ((10, 10, 17), (1, 101, 1), (1, 10, 161)):
        with pytest.raises(UserError, match=r"^a has "):
            check_pixels("a", height, width, size)


def test_a_file_larger_than_what_it_may_decode_to_is_not_read(tmp_path: Path, small_limit: None) -> None:
    (tmp_path / "a.png").write_bytes(bytes(1601))
    with pytest.raises(UserError, match=r"a\.png has 1,601 bytes, which is more than 1,600"):
        read_image(tmp_path / "a.png")
