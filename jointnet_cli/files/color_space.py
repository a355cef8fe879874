"""Colour spaces of images, by ICC profile and by the colour chunks of PNG, and their conversion to sRGB."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from jointnet_cli.files.color import linear_to_srgb, srgb_to_linear

Channels = Literal["L", "RGB", "CMYK"]
"""What the samples of an image are, without alpha: grey, red-green-blue, or inks."""

_NO_CHANGE = 1 / 255
"""A space whose colours differ from sRGB by at most this is taken for sRGB."""

_D50 = np.array([0.9642, 1.0, 0.8249])
"""XYZ of the white of ICC's connection space."""

_D65 = (0.3127, 0.3290)

_REC709 = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))

_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])

_SIGNATURES = {b"GRAY": "L", b"RGB ": "RGB", b"CMYK": "CMYK"}

_PRIMARIES = {
    1: (_REC709, _D65),
    9: (((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)), _D65),  # BT.2020
    11: (((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)), (0.314, 0.351)),  # DCI-P3
    12: (((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)), _D65),  # Display P3
}
"""Chromaticities of red, green, blue, and of white, by their number in ITU-T H.273."""

_GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0}

_REC709_TRANSFER = (1, 6, 14, 15)

_SRGB_TRANSFER = 13

_SRGB_GAMMA = 0.02
"""A PNG's gamma of 1 / 2.2 within this share stands for sRGB's curve: the PNG specification has sRGB written so."""

_LEVELS = np.linspace(0, 1, 65536)


class ColorSpace(Protocol):
    """A colour space other than sRGB."""

    def to_srgb(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """Convert samples (H, W, C) uint8 or uint16 to sRGB (H, W, 1 or 3) in [0, 1], grey with one channel."""
        ...


@dataclass(frozen=True, eq=False)
class _Curves:
    """A curve for each channel, and primaries: exact to 16 bits."""

    linear: NDArray[np.float32]
    """(C, 65536): the light of every sample value."""
    matrix: NDArray[np.float32] | None
    """(3, 3) linear light to that of sRGB; `None` for grey."""

    def to_srgb(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        tables = self.linear if samples.dtype == np.uint16 else self.linear[:, ::257]
        light = np.stack([table[samples[..., channel]] for channel, table in enumerate(tables)], axis=-1)
        if self.matrix is not None:
            light = light @ self.matrix.T
        return linear_to_srgb(light.clip(0, 1))


@dataclass(frozen=True, eq=False)
class _Tables:
    """A profile of multidimensional tables, converted by Little CMS to 8 bits."""

    transform: ImageCms.ImageCmsTransform
    channels: Channels

    def to_srgb(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        eight = samples if samples.dtype == np.uint8 else np.rint(samples / 257).astype(np.uint8)
        source = Image.fromarray(np.ascontiguousarray(eight[..., 0] if self.channels == "L" else eight), self.channels)
        return np.asarray(ImageCms.applyTransform(source, self.transform), np.float32) / np.float32(255)


def find_space(profile: bytes | None, chunks: Mapping[bytes, bytes], channels: Channels) -> ColorSpace | None:
    """Return the colour space of an image; `None` for sRGB and where nothing is stated.

    Decided by what a profile computes, not by its name. A damaged profile, or one for other channels than the image's,
    is ignored. Of several statements in a PNG the first counts: `cICP`, profile, `sRGB`, `gAMA` with `cHRM`.

    Args:
        profile: an ICC profile.
        chunks: of a PNG, as `png_chunks` gives them.
        channels: what the samples are.

    Raises:
        ValueError: `cICP` states colours that are not converted, such as HDR.
    """
    if channels != "CMYK" and len(coded := chunks.get(b"cICP", b"")) == 4:
        return _coded_space(coded, channels)
    if profile and (found := _profile_space(profile, channels)):
        return None if found == "sRGB" else found
    if channels == "CMYK" or b"sRGB" in chunks or not chunks.keys() & {b"gAMA", b"cHRM"}:
        return None
    return _stated_space(chunks.get(b"gAMA", b""), chunks.get(b"cHRM", b""), channels)


def png_chunks(data: bytes) -> dict[bytes, bytes]:
    """Return the chunks of a PNG that precede its pixels, by name; empty for any other file."""
    chunks: dict[bytes, bytes] = {}
    at = 8 if data.startswith(b"\x89PNG\r\n\x1a\n") else len(data)
    while (name := data[at + 4 : at + 8]) and name != b"IDAT":
        (length,) = struct.unpack_from(">I", data, at)
        chunks.setdefault(name, data[at + 8 : at + 8 + length])
        at += length + 12
    return chunks


@lru_cache(maxsize=64)
def _profile_space(data: bytes, channels: Channels) -> ColorSpace | Literal["sRGB"] | None:
    """Return the space of a profile; `None` where the profile cannot be used."""
    if _SIGNATURES.get(data[16:20]) != channels:
        return None
    try:
        tags = _tags(data)
        # As in Little CMS, tables take precedence over curves.
        found = _table_space(data, channels) if b"A2B0" in tags or channels == "CMYK" else _curve_space(tags, channels)
    except (ValueError, IndexError, KeyError, struct.error, OSError, ImageCms.PyCMSError):
        return None
    return "sRGB" if channels != "CMYK" and _is_srgb(found, channels) else found


def _table_space(data: bytes, channels: Channels) -> ColorSpace:
    profile, srgb = ImageCms.ImageCmsProfile(BytesIO(data)), ImageCms.createProfile("sRGB")
    return _Tables(ImageCms.buildTransform(profile, srgb, channels, "RGB"), channels)


def _curve_space(tags: Mapping[bytes, bytes], channels: Channels) -> ColorSpace:
    if channels == "L":
        return _Curves(_curve(tags[b"kTRC"])[None], None)
    curves = np.stack([_curve(tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC")])
    colorants = np.stack([_numbers(tags[name], 8, 3) for name in (b"rXYZ", b"gXYZ", b"bXYZ")], axis=1)
    srgb = _adaptation(_xyz(_D65), _D50) @ _rgb_to_xyz(_REC709, _D65)
    return _Curves(curves, (np.linalg.inv(srgb) @ colorants).astype(np.float32))


def _tags(data: bytes) -> dict[bytes, bytes]:
    """Return the tags of a profile by signature (ICC.1:2022, 7.3)."""
    if data[36:40] != b"acsp":
        raise ValueError("no ICC profile")
    (count,) = struct.unpack_from(">I", data, 128)
    entries = (struct.unpack_from(">4sII", data, 132 + 12 * number) for number in range(min(count, 200)))
    return {name: data[offset : offset + size] for name, offset, size in entries}


def _curve(tag: bytes) -> NDArray[np.float32]:
    """Return (65536,) linear light of a `curv` or `para` tag (ICC.1:2022, 10.6 and 10.18)."""
    if tag[:4] == b"para":
        (kind,) = struct.unpack_from(">H", tag, 8)
        return _parametric(*_numbers(tag, 12, (1, 3, 4, 5, 7)[kind]))
    if tag[:4] != b"curv":
        raise ValueError("no curve")
    (count,) = struct.unpack_from(">I", tag, 8)
    if count == 0:
        return _LEVELS.astype(np.float32)
    values = np.frombuffer(tag, ">u2", count, 12).astype(np.float64)
    if count == 1:
        return _parametric(values[0] / 256)
    return np.interp(_LEVELS, np.linspace(0, 1, count), values / 65535).astype(np.float32)


def _parametric(g: float, *rest: float) -> NDArray[np.float32]:
    """Return (65536,) of ICC's parametric curves: (a x + b)^g + e from x = d on, c x + f below."""
    if len(rest) == 2:  # zero below -b / a
        a, b = rest
        c, d, e, f = 0.0, -b / a, 0.0, 0.0
    elif len(rest) == 3:  # the same, all of it higher
        a, b, e = rest
        c, d, f = 0.0, -b / a, e
    else:
        a, b, c, d, e, f = (*rest, *(1.0, 0.0, 0.0, 0.0, 0.0, 0.0)[len(rest) :])
    upper = (a * _LEVELS + b).clip(0) ** g + e
    return np.where(d <= _LEVELS, upper, c * _LEVELS + f).clip(0, 1).astype(np.float32)


def _numbers(tag: bytes, start: int, count: int) -> NDArray[np.float64]:
    """Return numbers of 16 bits before and 16 after the point."""
    return np.frombuffer(tag, ">i4", count, start) / 65536


@lru_cache(maxsize=64)
def _coded_space(coded: bytes, channels: Channels) -> ColorSpace | None:
    """Return the space of a `cICP` chunk: primaries, transfer, matrix and range (ITU-T H.273)."""
    primaries, transfer, matrix, full = coded
    if transfer in _REC709_TRANSFER:
        curve = _parametric(1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
    elif transfer in _GAMMAS:
        curve = _parametric(_GAMMAS[transfer])
    else:
        curve = srgb_to_linear(_LEVELS.astype(np.float32))
    known = transfer in (*_REC709_TRANSFER, *_GAMMAS, _SRGB_TRANSFER)
    if not known or primaries not in _PRIMARIES or (matrix, full) != (0, 1):
        raise ValueError(f"its colours (cICP {primaries}, {transfer}, {matrix}, {full}) are not converted to sRGB")
    return _space(curve, *_PRIMARIES[primaries], channels)


@lru_cache(maxsize=64)
def _stated_space(gamma: bytes, chromaticities: bytes, channels: Channels) -> ColorSpace | None:
    """Return the space of PNG's chunks `gAMA` and `cHRM`; what neither states is as in sRGB."""
    curve = srgb_to_linear(_LEVELS.astype(np.float32))
    if len(gamma) == 4 and (value := int.from_bytes(gamma, "big") / 100_000) > 0 and abs(value * 2.2 - 1) > _SRGB_GAMMA:
        curve = _parametric(1 / value)
    primaries: Any
    white: Any
    primaries, white = _PRIMARIES[1]
    if len(chromaticities) == 32:
        own_white, *stated = np.frombuffer(chromaticities, ">u4").reshape(4, 2) / 100_000
        if _are_colours(stated, own_white):
            primaries, white = stated, own_white
    return _space(curve, primaries, white, channels)


def _space(curve: NDArray[np.float32], primaries: Any, white: Any, channels: Channels) -> ColorSpace | None:
    found: ColorSpace = _Curves(curve[None], None)
    if channels == "RGB":
        found = _Curves(np.repeat(curve[None], 3, axis=0), _to_rec709(primaries, white))
    return None if _is_srgb(found, channels) else found


def light_matrix(chromaticities: Sequence[float]) -> NDArray[np.float32] | None:
    """Return what (3, 3) converts linear light to that of sRGB's primaries; `None` for those, and for what are no colours.

    Args:
        chromaticities: x and y of red, green, blue and white, as OpenEXR's attribute has them.
    """
    *primaries, white = np.reshape(np.asarray(chromaticities, np.float64), (4, 2))
    if not _are_colours(primaries, white):
        return None
    matrix = _to_rec709(primaries, white)
    return None if np.abs(matrix - np.eye(3)).max() <= _NO_CHANGE else matrix


def _are_colours(primaries: Any, white: Any) -> bool:
    """Return whether the primaries are the corners of a triangle, and white is a colour."""
    return bool(abs(np.linalg.det(np.column_stack([primaries, np.ones(3)]))) > 1e-3 and white[1] > 0)


def _to_rec709(primaries: Any, white: Any) -> NDArray[np.float32]:
    colours = _adaptation(_xyz(white), _xyz(_D65)) @ _rgb_to_xyz(primaries, white)
    matrix: NDArray[np.float32] = (np.linalg.inv(_rgb_to_xyz(_REC709, _D65)) @ colours).astype(np.float32)
    return matrix


def _is_srgb(space: ColorSpace, channels: Channels) -> bool:
    """Return whether every level of grey, and of red, green and blue alone, stays what it is."""
    levels = np.arange(256, dtype=np.uint8)
    if channels == "L":
        probe = levels[None, :, None]
    else:
        chosen = np.array([[1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.uint8)
        probe = chosen[:, None] * levels[:, None]
    return bool(np.abs(space.to_srgb(probe) - probe / 255).max() <= _NO_CHANGE)


def _xyz(chromaticity: Any) -> NDArray[np.float64]:
    x, y = chromaticity
    return np.array([x / y, 1, (1 - x - y) / y])


def _rgb_to_xyz(primaries: Any, white: Any) -> NDArray[np.float64]:
    colours = np.array([[x, y, 1 - x - y] for x, y in primaries]).T
    matrix: NDArray[np.float64] = colours * np.linalg.solve(colours, _xyz(white))
    return matrix


def _adaptation(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert XYZ under one white to XYZ under another, by Bradford's cone responses."""
    scale = (_BRADFORD @ target) / (_BRADFORD @ source)
    matrix: NDArray[np.float64] = np.linalg.inv(_BRADFORD) @ (scale[:, None] * _BRADFORD)
    return matrix
