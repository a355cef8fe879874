"""Picture files as arrays at their own precision: the one place that opens them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from jointnet_cli.errors import UserError

_LITTLE = sys.byteorder == "little"
_OTHER_BYTE = {"16B": "16L", "16L": "16B", "16N": "16B" if _LITTLE else "16L"}
"""The raw modes of 16-bit colour by byte order; the partner in each pair names the other byte of the sample."""


def open_picture(path: Path) -> Image.Image:
    """Open and decode a picture, upright as its EXIF orientation says; of an animation the first frame.

    Raises `UserError` if the file is missing, damaged, or not a picture.
    """
    return _decode(path, low_bytes=False)


def read_samples(path: Path) -> NDArray[np.float32]:
    """A picture's samples as they are stored, without colour management: (H, W, C) in [0, 1], full scale = 1.

    C is 1 for grey, 2 for grey and alpha, 3 for colour, 4 for colour and alpha. Samples of 8 and 16 bits keep their
    precision, but for 16-bit grey with alpha, of which Pillow gives 8 bits. Samples of 32 bits have no full scale: they
    come as they are. Raises `UserError` as `open_picture` does.
    """
    picture = open_picture(path)
    if picture.mode.startswith("I;16"):
        return (np.asarray(picture, np.uint16).astype(np.float32) / np.float32(65535))[..., None]
    if picture.mode in ("I", "F"):
        return np.asarray(picture, np.float32)[..., None]
    if has_deep_colour(path):
        high, low = np.asarray(picture, np.uint16), np.asarray(_decode(path, low_bytes=True), np.uint16)
        return (high * 256 + low).astype(np.float32) / np.float32(65535)
    mode = _plain_mode(picture)
    samples = np.asarray(picture.convert(mode), np.float32) / np.float32(255)
    return samples.reshape(*samples.shape[:2], len(mode))


def has_deep_colour(path: Path) -> bool:
    """Whether a picture has colour samples of 16 bits that `read_samples` gives in full."""
    with Image.open(path) as picture:
        return _low_byte_tiles(picture) is not None


def _decode(path: Path, *, low_bytes: bool) -> Image.Image:
    """Open and decode, so that a damaged file is noticed here.

    Of 16-bit colour Pillow keeps the high byte of each sample. With the byte order exchanged it keeps the low one.
    """
    try:
        picture = Image.open(path)
        if low_bytes:
            picture.tile = _low_byte_tiles(picture) or picture.tile
        picture.load()
        ImageOps.exif_transpose(picture, in_place=True)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except IsADirectoryError as error:
        raise UserError(f"{path} is a folder, not an image") from error
    except UnidentifiedImageError as error:
        raise UserError(f"{path} is not an image", hint="PNG, JPEG, WebP, TIFF and the like are read") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    return picture


def _low_byte_tiles(picture: Image.Image) -> list[Any] | None:
    """The decoder settings of 16-bit colour that give the other byte of each sample; `None` if it is not 16-bit colour.

    The settings start with a raw mode such as `RGB;16B`, alone for PNG, in a tuple for TIFF.
    """
    tiles = []
    for tile in getattr(picture, "tile", []):
        arguments = (tile.args,) if isinstance(tile.args, str) else tile.args
        mode, _, depth = str(arguments[0]).partition(";") if arguments else ("", "", "")
        if mode not in ("RGB", "RGBA") or depth not in _OTHER_BYTE:
            return None
        other = f"{mode};{_OTHER_BYTE[depth]}"
        tiles.append(tile._replace(args=other if isinstance(tile.args, str) else (other, *arguments[1:])))
    return tiles or None


def _plain_mode(picture: Image.Image) -> str:
    """The simplest of Pillow's modes `L`, `LA`, `RGB` and `RGBA` that loses nothing of an 8-bit picture."""
    colour = "L" if picture.mode in ("1", "L", "LA", "La") else "RGB"
    return colour + "A" * picture.has_transparency_data
