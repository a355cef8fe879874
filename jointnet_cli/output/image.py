"""Image files: pictures in and out, disparity as 16-bit grey, normals as 8-bit colour."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile, PngInfo

from jointnet_cli.errors import UserError
from jointnet_cli.output.atomic import atomic_path

_PERCEPTUAL_INTENT = b"\x00"  # the payload of the PNG chunk `sRGB`


def write_png(path: Path, image: NDArray[np.float32], text: Mapping[str, str] | None = None) -> None:
    """Write (H, W, 3) sRGB in [0, 1] as an 8-bit PNG, with `text` as text chunks.

    Raises ValueError if a value is not finite; values outside of [0, 1] are clipped.
    """
    info = _png_info(text)
    info.add(b"sRGB", _PERCEPTUAL_INTENT)
    _save(path, _quantize(image, np.uint8), info)


def write_disparity_png(path: Path, disparity: NDArray[np.float32], text: Mapping[str, str] | None = None) -> None:
    """Write (H, W) relative disparity in [0, 1] as a 16-bit grey PNG: 0 (far) is 0, 1 (near) is 65535, never stretched.

    Raises ValueError if a value is not finite; values outside of [0, 1] are clipped.
    """
    _save(path, _quantize(disparity, np.uint16), _png_info(text))


def write_normal_png(path: Path, normal: NDArray[np.float32], text: Mapping[str, str] | None = None) -> None:
    """Write (H, W, 3) camera-space unit normals (x right, y up, z to the viewer) as an 8-bit PNG of (n + 1) / 2."""
    _save(path, _quantize((normal + 1) / 2, np.uint8), _png_info(text))


def read_disparity_png(path: Path) -> NDArray[np.float32]:
    """Read what `write_disparity_png` wrote: (H, W) relative disparity in [0, 1], near = 1.

    Raises `UserError` if the file cannot be read or is not 16-bit grey: 8 bits show as terraces in a depth map.
    """
    picture = _open(path)
    if not picture.mode.startswith("I;16"):
        raise UserError(f"{path} is not a 16-bit grey image", hint="disparity is read from 16-bit grey PNG")
    return _grey16(picture)


def read_image(path: Path) -> NDArray[np.float32]:
    """Read any picture that Pillow knows as (H, W, 3) sRGB in [0, 1].

    The EXIF orientation is applied, an embedded colour profile is converted to sRGB, transparent parts are laid over
    white, and of an animation the first frame is taken. 16-bit grey keeps its precision; Pillow reads 16-bit colour as
    8-bit. Raises `UserError` if the file is missing, damaged, or not a picture.
    """
    picture = _open(path)
    try:
        picture = ImageOps.exif_transpose(picture)
        if picture.mode.startswith("I;16"):
            return np.repeat(_grey16(picture)[..., None], 3, axis=-1)
        if picture.mode in ("I", "F"):
            raise UserError(f"{path} has 32 bits a pixel, of no known range", hint="convert it to 8 or 16 bits")
        return np.asarray(_to_srgb(picture), np.float32) / np.float32(255)
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read as a picture: {error}") from error


def read_text(path: Path) -> dict[str, str]:
    """The text chunks of a PNG, empty if it has none. Raises `UserError` if the file is not an image."""
    picture = _open(path)
    return {key: str(value) for key, value in picture.text.items()} if isinstance(picture, PngImageFile) else {}


def _open(path: Path) -> Image.Image:
    """Open and decode, so that a damaged file is noticed here."""
    try:
        picture = Image.open(path)
        picture.load()
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except IsADirectoryError as error:
        raise UserError(f"{path} is a folder, not an image") from error
    except UnidentifiedImageError as error:
        raise UserError(f"{path} is not an image", hint="PNG, JPEG, WebP, TIFF and the like are read") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    return picture


def _to_srgb(picture: Image.Image) -> Image.Image:
    profile = picture.info.get("icc_profile")
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    if profile:
        try:
            source = picture if picture.mode in ("L", "RGB", "CMYK") else picture.convert("RGB")
            converted = ImageCms.profileToProfile(
                source,
                ImageCms.ImageCmsProfile(BytesIO(profile)),
                ImageCms.createProfile("sRGB"),
                outputMode="RGB",
            )
            if converted is not None:
                return converted
        except ImageCms.PyCMSError:
            pass  # a damaged profile, or one for other channels than the picture's, says nothing about the colours
    return picture.convert("RGB")


def _grey16(picture: Image.Image) -> NDArray[np.float32]:
    return np.asarray(picture, np.uint16).astype(np.float32) / np.float32(65535)


def _quantize(values: NDArray[np.floating], dtype: type[np.uint8] | type[np.uint16]) -> NDArray[np.unsignedinteger]:
    if not np.isfinite(values).all():
        raise ValueError("the image holds values that are not finite")
    return np.rint(np.clip(values, 0, 1) * np.iinfo(dtype).max).astype(dtype)


def _png_info(text: Mapping[str, str] | None) -> PngInfo:
    info = PngInfo()
    for key, value in (text or {}).items():
        info.add_text(key, value)
    return info


def _save(path: Path, pixels: NDArray[np.unsignedinteger], info: PngInfo) -> None:
    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary, pnginfo=info)
