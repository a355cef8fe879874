"""Colour profiles and the colour chunks of PNG, against values worked out here and by Little CMS."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from jointnet_cli.errors import UserError
from jointnet_cli.files.color_space import find_space
from jointnet_cli.files.decode import read_samples
from jointnet_cli.files.images import read_image

SRGB_D50 = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
P3_D50 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
ADOBE_D50 = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
RAMP = np.arange(256, dtype=np.uint8)
PIXELS = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)


def numbers(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def curve(*values: int) -> bytes:
    """A `curv` tag: nothing is linear, one number is 256 times a gamma, more are a table of 16 bits."""
    return b"curv" + bytes(4) + struct.pack(f">I{len(values)}H", len(values), *values)


def parametric(kind: int, *values: float) -> bytes:
    return b"para" + bytes(4) + struct.pack(">HH", kind, 0) + numbers(*values)


LINEAR, GAMMA_22, GAMMA_18 = curve(), curve(round(2.2 * 256)), parametric(0, 1.8)
SRGB_CURVE = parametric(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
DOT_GAIN = curve(*np.rint(65535 * np.linspace(0, 1, 33) ** 1.75).astype(int).tolist())


def profile(
    space: bytes, curves: bytes, primaries: tuple[tuple[float, ...], ...] = (), *, version: int = 2, name: str = "sRGB"
) -> bytes:
    """A display profile of curves and primaries, by default of the description `sRGB`, whatever it computes."""
    text = b"desc" + bytes(4) + struct.pack(">I", len(name) + 1) + name.encode() + bytes(79)
    if version == 4:
        text = (
            b"mluc"
            + bytes(4)
            + struct.pack(">II2s2sII", 1, 12, b"en", b"US", 2 * len(name), 28)
            + name.encode("utf-16-be")
        )
    tags = {b"desc": text, b"wtpt": b"XYZ " + bytes(4) + numbers(0.9642, 1, 0.8249)}
    for letter, primary in zip(b"rgb", primaries, strict=False):
        tags[bytes([letter]) + b"XYZ"] = b"XYZ " + bytes(4) + numbers(*primary)
        tags[bytes([letter]) + b"TRC"] = curves
    if not primaries:
        tags[b"kTRC"] = curves
    table, body, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for signature, data in tags.items():
        data += bytes(-len(data) % 4)
        table += struct.pack(">4sII", signature, start + len(body), len(data))
        body += data
    date = struct.pack(">6H", 2024, 1, 1, 0, 0, 0)
    header = struct.pack(">I4xI", start + len(body), version << 24) + b"mntr" + space + b"XYZ " + date + b"acsp"
    header = header.ljust(68, b"\0") + numbers(0.9642, 1, 0.8249)
    return header.ljust(128, b"\0") + table + body


def encoded(light: NDArray[np.floating]) -> NDArray[np.floating]:
    """sRGB of linear light."""
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def saved(folder: Path, pixels: NDArray[np.uint8], icc: bytes) -> Path:
    Image.fromarray(pixels).save(folder / "picture.png", icc_profile=icc)
    return folder / "picture.png"


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(folder: Path, samples: NDArray[np.uint8 | np.uint16], *chunks: bytes, bits: int | None = None) -> Path:
    """A PNG (H, W, C) with chunks before its pixels; rows of packed bytes where `bits` is less than 8."""
    height, width, channels = samples.shape
    depth = bits or samples.dtype.itemsize * 8
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width * 8 // depth if bits else width, height, depth, colour, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(samples.dtype.newbyteorder(">")).tobytes() for row in samples)
    path = folder / "made.png"
    parts = (chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


@pytest.mark.parametrize("version", [2, 4])
@pytest.mark.parametrize("primaries", [SRGB_D50, P3_D50, ADOBE_D50], ids=["sRGB", "P3", "Adobe"])
@pytest.mark.parametrize("curves", [LINEAR, GAMMA_22, GAMMA_18, SRGB_CURVE], ids=["linear", "2.2", "1.8", "sRGB"])
def test_profiles_are_converted_as_little_cms_converts_them(
    tmp_path: Path, version: int, primaries: tuple[tuple[float, ...], ...], curves: bytes
) -> None:
    icc = profile(b"RGB ", curves, primaries, version=version)
    expected = ImageCms.profileToProfile(
        Image.fromarray(PIXELS), ImageCms.ImageCmsProfile(BytesIO(icc)), ImageCms.createProfile("sRGB")
    )
    found = read_image(saved(tmp_path, PIXELS, icc)) * 255
    np.testing.assert_allclose(found, np.asarray(expected, float), atol=1.1)


def test_a_linear_profile_is_not_srgb_whatever_its_name(tmp_path: Path) -> None:
    icc = profile(b"RGB ", LINEAR, SRGB_D50, name="sRGB IEC61966-2.1")
    found = read_image(saved(tmp_path, np.repeat(RAMP[None, :, None], 3, -1), icc))[0, :, 0]
    np.testing.assert_allclose(found, encoded(RAMP / 255), atol=3e-4)
    assert found[64] * 255 == pytest.approx(137.3, abs=0.2)  # 73 more


@pytest.mark.parametrize("name", ["sRGB", "c2", "Bildschirm"])
def test_a_profile_that_computes_srgb_changes_nothing(tmp_path: Path, name: str) -> None:
    for icc in (SRGB, profile(b"RGB ", SRGB_CURVE, SRGB_D50, name=name)):
        assert (read_image(saved(tmp_path, PIXELS, icc)) * 255).tolist() == PIXELS.tolist()
        assert find_space(icc, {}, "RGB") is None


@pytest.mark.parametrize(
    ("curves", "light"),
    [
        (GAMMA_22, lambda v: v**2.1992),
        (LINEAR, lambda v: v),
        (DOT_GAIN, lambda v: np.interp(v, np.linspace(0, 1, 33), np.linspace(0, 1, 33) ** 1.75)),
        (GAMMA_18, lambda v: v**1.8),
    ],
    ids=["2.2", "linear", "dot gain", "1.8"],
)
def test_grey_profiles(tmp_path: Path, curves: bytes, light: object) -> None:
    path = saved(tmp_path, RAMP[None], profile(b"GRAY", curves))
    expected = encoded(light(RAMP / 255))  # type: ignore[operator]
    np.testing.assert_allclose(read_image(path)[0], np.repeat(expected[:, None], 3, 1), atol=2.5e-3)


def test_sixteen_bits_keep_their_precision_through_a_profile(tmp_path: Path) -> None:
    levels = np.arange(20000, 20064, dtype=np.uint16)
    rgb, grey = np.repeat(levels[None, :, None], 3, -1), levels[None, :, None]
    for samples, space, primaries in ((rgb, b"RGB ", SRGB_D50), (grey, b"GRAY", ())):
        icc = chunk(b"iCCP", b"x\0\0" + zlib.compress(profile(space, LINEAR, primaries)))
        found = read_image(png(tmp_path, samples, icc))[0, :, 1]
        np.testing.assert_allclose(found, encoded(levels / 65535), atol=1e-4)
        assert len(np.unique(found)) == len(levels)


@pytest.mark.parametrize(("mode", "space", "channels"), [("RGB", b"RGB ", 3), ("CMYK", b"CMYK", 4)])
def test_a_profile_of_tables(tmp_path: Path, mode: str, space: bytes, channels: int) -> None:
    """Its lightness is the mean of the samples, without any hue; ink darkens."""
    lightness = np.indices((2,) * channels).reshape(channels, -1).mean(axis=0)
    lightness = 1 - lightness if mode == "CMYK" else lightness
    corners = np.stack([np.rint(255 * lightness), *[np.full(len(lightness), 128)] * 2], axis=-1).astype(np.uint8)
    table = b"mft1" + bytes(4) + bytes([channels, 3, 2, 0]) + numbers(1, 0, 0, 0, 1, 0, 0, 0, 1)
    table += bytes(range(256)) * channels + corners.tobytes() + bytes(range(256)) * 3
    icc = bytearray(profile(space, LINEAR, SRGB_D50, version=2))
    icc[20:24] = b"Lab "
    icc = icc.replace(b"rTRC", b"A2B0")
    at = icc.index(b"A2B0")
    icc[at + 4 : at + 12] = struct.pack(">II", len(icc), len(table))
    icc = bytes(icc) + table
    icc = struct.pack(">I", len(icc)) + icc[4:]
    picture = Image.new(mode, (1, 1), (255, 0, 0, 0)[:channels])
    picture.save(tmp_path / "picture.tiff", icc_profile=icc)
    share = 1 / 3 if mode == "RGB" else 3 / 4
    expected = encoded(np.array(((share * 100 + 16) / 116) ** 3))
    assert read_image(tmp_path / "picture.tiff")[0, 0].tolist() == pytest.approx([float(expected)] * 3, abs=2 / 255)


@pytest.mark.parametrize("space", [b"CMYK", b"GRAY"])
def test_a_profile_of_other_channels_and_a_damaged_one_are_ignored(tmp_path: Path, space: bytes) -> None:
    sound = profile(b"RGB ", LINEAR, SRGB_D50)
    for icc in (profile(space, LINEAR), sound[:140], sound[:36] + b"?" + sound[37:], b"no profile", sound[:300]):
        assert (read_image(saved(tmp_path, PIXELS, icc)) * 255).tolist() == PIXELS.tolist()


def test_alpha_is_laid_over_white_after_the_conversion(tmp_path: Path) -> None:
    pixels = np.full((1, 1, 4), 64, np.uint8)
    pixels[..., 3] = 51
    path = saved(tmp_path, pixels, profile(b"RGB ", LINEAR, SRGB_D50))
    assert read_image(path)[0, 0].tolist() == pytest.approx([0.2 * encoded(np.array(64 / 255)) + 0.8] * 3, abs=2e-4)


GAMA, CHRM, CICP, SRGB_CHUNK = b"gAMA", b"cHRM", b"cICP", chunk(b"sRGB", b"\0")
REC709 = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
P3 = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)


def gamma(value: float) -> bytes:
    return chunk(GAMA, struct.pack(">I", round(value * 100_000)))


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([gamma(1)], encoded(np.array([64, 128, 255]) / 255)),
        ([gamma(1 / 1.8)], encoded((np.array([64, 128, 255]) / 255) ** 1.8)),
        ([gamma(0.45455)], np.array([64, 128, 255]) / 255),
        ([gamma(0.45455), chunk(CHRM, REC709)], np.array([64, 128, 255]) / 255),
        ([SRGB_CHUNK, gamma(1)], np.array([64, 128, 255]) / 255),
        ([chunk(CICP, bytes([1, 8, 0, 1])), SRGB_CHUNK], encoded(np.array([64, 128, 255]) / 255)),
        ([chunk(CICP, bytes([1, 13, 0, 1])), gamma(1)], np.array([64, 128, 255]) / 255),
        ([chunk(CHRM, bytes(32)), gamma(0)], np.array([64, 128, 255]) / 255),
    ],
    ids=[
        "gamma 1",
        "gamma 1.8",
        "gamma 2.2 is sRGB",
        "with primaries",
        "sRGB first",
        "cICP first",
        "cICP sRGB",
        "damaged",
    ],
)
def test_what_a_png_states_of_its_colours(tmp_path: Path, chunks: list[bytes], expected: NDArray[np.float64]) -> None:
    grey = np.array([[[64], [128], [255]]], np.uint8)
    for samples in (grey, np.repeat(grey, 3, -1), np.repeat(grey, 3, -1).astype(np.uint16) * 257):
        path = png(tmp_path, samples, *chunks)
        np.testing.assert_allclose(read_image(path)[0], np.repeat(expected[:, None], 3, 1), atol=5e-4)
        assert np.array_equal(read_samples(path), samples / np.float32(np.iinfo(samples.dtype).max))


def test_primaries_of_a_png(tmp_path: Path) -> None:
    pixels = np.array([[[200, 100, 50]]], np.uint8)
    expected = read_image(saved(tmp_path, pixels, profile(b"RGB ", SRGB_CURVE, P3_D50)))[0, 0]
    assert (expected[0] - 200 / 255) * 255 > 10
    for stated in (chunk(CHRM, P3), chunk(CICP, bytes([12, 13, 0, 1]))):
        np.testing.assert_allclose(read_image(png(tmp_path, pixels, stated))[0, 0], expected, atol=1e-3)


@pytest.mark.parametrize("coded", [(9, 16, 0, 1), (9, 18, 0, 1), (1, 13, 0, 0), (22, 13, 0, 1)])
def test_colours_that_are_not_converted_are_refused(tmp_path: Path, coded: tuple[int, ...]) -> None:
    path = png(tmp_path, np.zeros((1, 1, 3), np.uint8), chunk(CICP, bytes(coded)))
    with pytest.raises(UserError, match=rf"made\.png: its colours \(cICP {coded[0]}, {coded[1]}"):
        read_image(path)
    assert read_samples(path).tolist() == [[[0, 0, 0]]]  # numbers have no colours


@pytest.mark.parametrize(
    ("bits", "row", "key", "clear"), [(1, 0x40, 1, 1), (2, 0x60, 2, 1), (4, 0x5A, 10, 1), (4, 0x5A, 5, 0)]
)
def test_the_transparent_level_of_few_bits(tmp_path: Path, bits: int, row: int, key: int, clear: int) -> None:
    path = png(tmp_path, np.array([[[row]]], np.uint8), chunk(b"tRNS", struct.pack(">H", key)), bits=bits)
    alpha = read_samples(path)[0, :2, 1].tolist()
    assert alpha == [float(place != clear) for place in range(2)]


def test_the_transparent_colour_of_sixteen_bits(tmp_path: Path) -> None:
    grey = np.array([[[0x1234], [0x1235]]], np.uint16)
    path = png(tmp_path, grey, chunk(b"tRNS", struct.pack(">H", 0x1234)))
    assert np.rint(read_samples(path) * 65535).tolist() == [[[0x1234, 0], [0x1235, 65535]]]
    assert read_image(path)[0, 0].tolist() == [1, 1, 1]
    rgb = np.repeat(grey, 3, -1)
    path = png(tmp_path, rgb, chunk(b"tRNS", struct.pack(">HHH", 0x1234, 0x1234, 0x1234)))
    assert np.rint(read_samples(path) * 65535).tolist() == [[[0x1234] * 3 + [0], [0x1235] * 3 + [65535]]]


def test_grey_with_alpha_of_sixteen_bits(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(0, 65536, (5, 7, 2), np.uint16)
    assert np.array_equal(np.rint(read_samples(png(tmp_path, samples)) * 65535), samples)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_interlaced_sixteen_bits(tmp_path: Path, channels: int) -> None:
    samples = np.random.default_rng(0).integers(0, 65536, (9, 11, channels), np.uint16)
    height, width = samples.shape[:2]
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = b"".join(
        b"\0" + row.astype(">u2").tobytes()
        for top, left, down, across in passes
        for row in samples[top::down, left::across]
        if row.size
    )
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 1)
    path = tmp_path / "interlaced.png"
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    assert np.array_equal(np.rint(read_samples(path) * 65535), samples)


def test_a_grey_map_of_sixteen_bits_as_pgm(tmp_path: Path) -> None:
    (tmp_path / "depth.pgm").write_bytes(b"P5 2 1 65535\n\x01\x02\xff\xff")
    assert np.rint(read_samples(tmp_path / "depth.pgm") * 65535).tolist() == [[[0x0102], [65535]]]
