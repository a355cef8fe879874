"""Image files: images in and out, disparity as 16-bit grey, normals as 8-bit colour."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from jointnet_cli.errors import UserError
from jointnet_cli.files.atomic import atomic_file
from jointnet_cli.files.color import by_bands, linear_to_srgb
from jointnet_cli.files.decode import read_info, read_raster
from jointnet_cli.files.exr import is_exr, read_exr
from jointnet_cli.files.exr_channels import IMAGE_LAYERS
from jointnet_cli.files.raster import fractions, to_srgb
from jointnet_cli.files.text import PNG_KEY

_PERCEPTUAL_INTENT = b"\x00"  # the payload of the PNG chunk `sRGB`

_SEGMENT = 65_500
"""Bytes that a segment of a JPEG holds, beside its name."""


def write_png(path: Path, image: NDArray[np.float32], text: Mapping[str, str] | None = None) -> None:
    """Write (H, W, 3) sRGB in [0, 1] as an 8-bit PNG, with `text` as text chunks; XMP (`PNG_KEY`) as iTXt.

    Raises ValueError if a value is not finite; values outside of [0, 1] are clipped.
    """
    info = _png_info(text)
    info.add(b"sRGB", _PERCEPTUAL_INTENT)
    _save(path, _quantize(image, np.uint8), info)


def write_grey_png(path: Path, values: NDArray[np.float32], text: Mapping[str, str] | None = None) -> None:
    """Write (H, W) in [0, 1], such as relative disparity, as a 16-bit grey PNG: 0 is 0, 1 is 65535, never stretched.

    Raises ValueError if a value is not finite; values outside of [0, 1] are clipped.
    """
    _save(path, _quantize(values, np.uint16), _png_info(text))


def write_deep_png(path: Path, samples: NDArray[np.float32], text: Mapping[str, str] | None = None) -> None:
    """Write (H, W, 3) in [0, 1], an image or (n + 1) / 2 of normals, as a PNG of 16 bits a sample, which Pillow does not.

    Raises ValueError if a value is not finite; values outside of [0, 1] are clipped.
    """
    pixels = _quantize(samples, np.uint16).astype(">u2")
    height, width = pixels.shape[:2]
    rows = pixels.reshape(height, 3 * width).view(np.uint8)
    differences = rows.copy()
    differences[:, 6:] -= rows[:, :-6]  # PNG's filter `Sub`: each byte less that of the pixel before
    lines = np.insert(differences, 0, 1, axis=1)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)),
        *((chunk[0], chunk[1]) for chunk in _png_info(text).chunks),
        (b"IDAT", zlib.compress(lines.tobytes())),
        (b"IEND", b""),
    ]
    with atomic_file(path) as temporary, temporary.open("wb") as stream:
        stream.write(b"\x89PNG\r\n\x1a\n")
        for name, data in chunks:
            stream.write(struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)))


def write_jpeg(path: Path, image: NDArray[np.float32], xmp: str | None = None, comment: str | None = None) -> None:
    """Write (H, W, 3) sRGB in [0, 1] as a JPEG of quality 95 with full colour resolution; `xmp` goes into its APP1.

    A comment of more bytes than JPEG has room for is left out. Raises ValueError if a value is not finite; values outside
    of [0, 1] are clipped.
    """
    segments = {"xmp": xmp, "comment": comment}
    given: dict[str, Any] = {
        name: data for name, text in segments.items() if text and len(data := text.encode()) <= _SEGMENT
    }
    encoded = BytesIO()  # in memory, because Pillow's encoder does not say that the disk is full
    Image.fromarray(_quantize(image, np.uint8)).save(encoded, "JPEG", quality=95, subsampling=0, **given)
    with atomic_file(path) as temporary:
        temporary.write_bytes(encoded.getbuffer())


def write_normal_png(path: Path, normal: NDArray[np.float32], text: Mapping[str, str] | None = None) -> None:
    """Write (H, W, 3) camera-space unit normals (x right, y up, z to the viewer) as an 8-bit PNG of (n + 1) / 2."""
    _save(path, _quantize((normal + 1) / 2, np.uint8), _png_info(text))


def read_disparity_png(path: Path) -> NDArray[np.float32]:
    """Read what `write_grey_png` wrote: (H, W) relative disparity in [0, 1], near = 1.

    Raises `UserError` if the file cannot be read or is not 16-bit grey: 8 bits show as terraces in a depth map.
    """
    raster = read_raster(path)
    if raster.samples.dtype != np.uint16 or raster.samples.shape[-1] != 1:
        raise UserError(f"{path} is not a 16-bit grey image", hint="disparity is read from 16-bit grey PNG")
    return raster.fractions()[..., 0]


def read_image(path: Path) -> NDArray[np.float32]:
    """Read any image as (H, W, 3) sRGB in [0, 1].

    The EXIF orientation is applied, a colour profile and the colour chunks of a PNG are converted to sRGB, transparent
    parts are laid over white, and of an animation the first frame is taken. 16 bits keep their precision, except for
    profiles of tables, CMYK and Lab. Of an OpenEXR file, the linear `R, G, B` (or Blender's `Combined`) are taken,
    converted from the primaries that it states, and cut off at white. Raises `UserError` if the file is missing, damaged,
    or not an image.
    """
    if is_exr(path):
        return _exr_image(path)
    colours = to_srgb(read_raster(path), str(path))
    return fractions(colours) if colours.dtype == np.uint8 else np.asarray(colours, np.float32)


def read_text(path: Path) -> dict[str, str]:
    """Return the texts of a PNG, empty if it has none, and for other images. Raises `UserError` if the file is not an image."""
    info = read_info(path)
    with path.open("rb") as stream:
        is_png = stream.read(4) == b"\x89PNG"
    return {str(key): str(value) for key, value in info.items() if isinstance(value, str)} if is_png else {}


def _exr_image(path: Path) -> NDArray[np.float32]:
    exr = read_exr(path)
    found = exr.layers("rgb", *IMAGE_LAYERS)
    if not found:
        raise UserError(f"{path} holds no image", hint=f"its channels are {', '.join(exr.channels)}")
    linear = exr.light(found[0])
    for *colours, alpha in exr.layers("rgba", *IMAGE_LAYERS):
        if tuple(colours) == found[0]:
            linear += 1 - exr.stack([alpha])  # OpenEXR's colours are multiplied by alpha already
    return by_bands(lambda band: linear_to_srgb(np.clip(np.nan_to_num(band), 0, 1)), linear)


def _quantize(values: NDArray[np.floating], dtype: type[np.uint8] | type[np.uint16]) -> NDArray[np.unsignedinteger]:

    def levels(band: NDArray[Any]) -> NDArray[Any]:
        if not np.isfinite(band).all():
            raise ValueError("the image holds values that are not finite")
        return np.asarray(np.rint(np.clip(band, 0, 1) * np.iinfo(dtype).max))

    made: NDArray[np.unsignedinteger] = by_bands(levels, values, dtype)
    return made


def _png_info(text: Mapping[str, str] | None) -> PngInfo:
    info = PngInfo()
    for key, value in (text or {}).items():
        if key == PNG_KEY:
            info.add_itxt(key, value)
        else:
            info.add_text(key, value)
    return info


def _save(path: Path, pixels: NDArray[np.unsignedinteger], info: PngInfo) -> None:
    with atomic_file(path) as temporary:
        Image.fromarray(pixels).save(temporary, pnginfo=info)
