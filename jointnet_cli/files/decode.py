"""Decode raster images of every supported format: samples, upright, in sRGB."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from jointnet_cli.errors import UserError, reading
from jointnet_cli.files import tiff
from jointnet_cli.files.budget import check_pixels, max_bytes, tell_pillow
from jointnet_cli.files.color_space import find_space, png_chunks
from jointnet_cli.files.formats import HEIF_BRANDS, format_not_read, register_heif
from jointnet_cli.files.raster import Raster, eight_bits, to_srgb

tell_pillow()

_LITTLE = sys.byteorder == "little"

_OTHER_BYTE = {"16B": "16L", "16L": "16B", "16N": "16B" if _LITTLE else "16L"}
"""The raw modes of 16-bit colour by byte order; the partner in each pair names the other byte of the sample."""

_NATIVE = {"F;32BF": "F;32NF", "I;32BS": "I;32NS", "I;16BS": "I;16NS"}
"""The machine's byte order instead of big-endian. libtiff decodes to it, and Pillow would exchange the bytes once more."""

_GREY_ALPHA = "LA;16B"
"""The raw mode of a PNG of 16-bit grey with alpha: four bytes, as `RGBA` has them."""

_GREY_MODES = ("1", "L", "LA", "La")

_DEPTH = 24
"""Where a PNG states its bits a sample."""


_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
"""Chunks of a PNG."""


def read_raster(source: Path | bytes, name: str | None = None) -> Raster:
    """Decode an image file, upright as its orientation says; of an animation or a file of several pages the first.

    Args:
        source: a path, or the content of a file.
        name: what errors call it; by default the path.

    Raises:
        UserError: missing, damaged, of a kind that is not read, or not an image.
    """
    name = name or str(source)
    with _decoding(name):
        data = _content(source) if isinstance(source, Path) else source
        if not tiff.is_tiff(data):
            try:
                return _pillow_raster(data, name)
            except (UnidentifiedImageError, OSError) as error:
                _refuse_other_format(name, data, error)
                raise
        if not tiff.pillow_reads(data):
            return _tiff_raster(data, name)
        try:
            return _pillow_raster(data, name)
        except UnidentifiedImageError:
            return _tiff_raster(data, name)


def read_samples(path: Path) -> NDArray[np.float32]:
    """Read an image's samples as they are stored, without colour management: (H, W, C) in [0, 1], full scale = 1.

    C is 1 for grey, 2 for grey and alpha, 3 for colour, 4 for colour and alpha. Samples of 8 and 16 bits keep their
    precision. Signed, 32-bit and floating-point grey has no full scale: it comes as it is.

    Raises:
        UserError: as `read_raster`; colours without full scale.
    """
    raster = read_raster(path)
    if not raster.has_scale and raster.samples.shape[-1] > 1:
        raise UserError(f"{path} has colours of no known range", hint="convert it to 8 or 16 bits, or to OpenEXR")
    return raster.fractions()


def read_srgb8(source: Path | bytes, name: str | None = None) -> NDArray[np.uint8]:
    """Read an image as 8-bit sRGB (H, W, 3). Raises `UserError` as `read_raster` and `to_srgb` do."""
    return eight_bits(to_srgb(read_raster(source, name), name or str(source)))


def read_info(path: Path) -> dict[str | tuple[int, int], Any]:
    """Return what an image carries beside its pixels, by Pillow's names: texts, XMP, comments.

    Its pixels are decoded only if they are a PNG's and texts lie behind them. Raises `UserError` if the file is missing, its
    header is damaged, or it is not an image.
    """
    with _decoding(str(path)), Image.open(path) as picture:
        if picture.format == "PNG":
            check_pixels(path, picture.height, picture.width, _pixel_bytes(picture))
            names = [name for name, _ in _chunks(path)]
            if any(name in _TEXTS for name in names[names.index(b"IDAT") :]):
                picture.load()
        return dict(picture.info)


def raster_size(path: Path) -> tuple[int, int]:
    """Read height and width of an image from its header, upright.

    Raises:
        UserError: the file is missing, its header is damaged, or it has more pixels than are read.
    """
    with _decoding(str(path)):
        with path.open("rb") as stream:
            start = stream.read(32)
        if start[8:12] in HEIF_BRANDS:
            register_heif()
        try:
            with Image.open(path) as image:
                width, height = image.size
                check_pixels(path, height, width, _pixel_bytes(image))
                turned = 1
                with suppress(Exception):  # damaged tags leave the pixels whole
                    if _may_be_turned(path, image):
                        turned = int(image.getexif().get(ExifTags.Base.Orientation, 1))
        except UnidentifiedImageError as error:
            if not tiff.is_tiff(start):
                _refuse_other_format(str(path), start, error)
                raise
            width, height, turned = tiff.page_size(path)
            check_pixels(path, height, width, tiff.pixel_bytes(path))
        return (width, height) if turned >= 5 else (height, width)


def _may_be_turned(path: Path, image: Image.Image) -> bool:
    """Return whether an image may state an orientation. Pillow decodes a PNG to look for one behind its pixels."""
    stating = (b"Raw profile type exif", b"XML:com.adobe.xmp")
    return image.format != "PNG" or any(
        name == b"eXIf" or (name in _TEXTS and start.split(b"\0")[0] in stating) for name, start in _chunks(path)
    )


def _chunks(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield the name of every chunk of a PNG and the first 32 bytes from its content on."""
    with path.open("rb") as stream:
        at = stream.seek(8)
        while len(head := stream.read(40)) >= 8:
            length, name = struct.unpack_from(">I4s", head)
            yield name, head[8:]
            at = stream.seek(at + length + 12)


def has_deep_colour(picture: Image.Image) -> bool:
    """Return whether an opened, undecoded image has 16 bits a colour sample, which Pillow alone reduces to 8."""
    return _other_tiles(picture) is not None


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Turn any exception of a decoder into a `UserError`."""
    with reading(name):
        try:
            yield
        except UnidentifiedImageError as error:
            raise UserError(
                f"{name} is not an image", hint="PNG, JPEG, WebP, AVIF, JPEG 2000, TIFF and OpenEXR are read"
            ) from error
        except Image.DecompressionBombError as error:  # Pillow counts before `check_pixels` can
            hint = "make it smaller, or raise --max-pixels if there is enough memory"
            raise UserError(f"{name} has more pixels than are read: {error}", hint) from error


def _content(path: Path) -> bytes:
    """Return the bytes of a file that is not larger than what it may decode to."""
    if (size := path.stat().st_size) > max_bytes():
        raise UserError(f"{path} has {size:,} bytes, which is more than {max_bytes():,}", "raise --max-pixels")
    return path.read_bytes()


def _open(data: bytes, name: str) -> ImageFile:
    """Open an image that is not decoded yet, and refuse one with too many pixels."""
    picture = Image.open(BytesIO(data))
    check_pixels(name, picture.height, picture.width, _pixel_bytes(picture))
    return picture


def _pixel_bytes(picture: Image.Image) -> int:
    """Return the bytes of a pixel of an undecoded image when its samples are read."""
    bits = 16 if has_deep_colour(picture) or picture.mode.startswith("I;16") else 32 if picture.mode in "IF" else 8
    return len(picture.getbands()) * bits // 8


def _tiff_raster(data: bytes, name: str) -> Raster:
    width, height, _ = tiff.page_size(data)
    check_pixels(name, height, width, tiff.pixel_bytes(data))
    samples, profile, orientation, maximum = tiff.read_page(data)
    return Raster(samples, profile, orientation=orientation, maximum=maximum)


def _refuse_other_format(name: str, data: bytes, error: Exception) -> None:
    if known := format_not_read(data):
        form, remedy = known
        raise UserError(f"{name} is {form}, which is not read", remedy) from error


def _pillow_raster(data: bytes, name: str) -> Raster:
    if data[8:12] in HEIF_BRANDS:
        register_heif()
    picture = _open(data, name)
    other = _other_tiles(picture)
    split = [tile.args for tile in picture.tile] == [_GREY_ALPHA]
    if split:
        picture.tile = [picture.tile[0]._replace(args="RGBA")]
    elif picture.format == "TIFF":
        picture.tile = [_in_native_order(tile) for tile in picture.tile]
    maximum = _stated_maximum(picture, data)
    orientation = _load_upright(picture)
    profile = picture.info.get("icc_profile")
    samples: NDArray[Any]
    if split:
        pairs = np.asarray(picture, np.uint16)
        samples = pairs[..., 0::2] * 256 + pairs[..., 1::2]
    elif other is not None:
        low = Image.open(BytesIO(data))
        low.tile = other
        _load_upright(low)
        samples = np.asarray(picture, np.uint16) * 256 + np.asarray(low, np.uint16)
        samples = _with_key(samples, picture.info.get("transparency"))
    elif picture.mode.startswith("I;16"):
        samples = np.asarray(picture, np.uint16)[..., None]
        if maximum == 4095:
            samples = np.rint(samples * (65535 / 4095)).astype(np.uint16)
        samples = _with_key(samples, picture.info.get("transparency"))
    elif picture.mode in ("I", "F"):
        samples = np.asarray(picture)[..., None]
        if picture.format == "PPM" and picture.mode == "I":  # Pillow scales every maximum to 65535
            samples = samples.astype(np.uint16)
    elif picture.mode == "CMYK":
        inks, space = np.asarray(picture), find_space(profile, {}, "CMYK")
        samples = np.asarray(picture.convert("RGB")) if space is None else eight_bits(space.to_srgb(inks))
        profile = None
    else:
        samples = _eight_bit_samples(picture, data)
        profile = None if picture.mode == "LAB" else profile
    return Raster(samples, profile, png_chunks(data), orientation, maximum)


def _load_upright(picture: Image.Image) -> int:
    """Decode, so that a damaged file is noticed here, and turn upright; returns the EXIF orientation."""
    if picture.format != "TIFF":  # Pillow turns TIFF itself, and forgets the orientation
        picture.load()
    orientation = 1
    with suppress(Exception):  # damaged tags leave the pixels whole; the exception may be any
        orientation = int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    picture.load()
    with suppress(Exception):
        ImageOps.exif_transpose(picture, in_place=True)
    return orientation


def _other_tiles(picture: Image.Image) -> list[Any] | None:
    """Return the decoder settings that give the other byte of each 16-bit colour sample; `None` for any other image.

    Of 16-bit colour Pillow keeps the high byte of each sample. With the byte order exchanged it keeps the low one. The
    settings start with a raw mode such as `RGB;16B`, alone for PNG, in a tuple for TIFF.
    """
    tiles = []
    for tile in getattr(picture, "tile", []):
        arguments = (tile.args,) if isinstance(tile.args, str) else tile.args
        mode, _, depth = str(arguments[0]).partition(";") if arguments else ("", "", "")
        if mode not in ("RGB", "RGBA", "RGBX") or depth not in _OTHER_BYTE:
            return None
        other = f"{mode};{_OTHER_BYTE[depth]}"
        tiles.append(tile._replace(args=other if isinstance(tile.args, str) else (other, *arguments[1:])))
    return tiles or None


def _with_key(samples: NDArray[np.uint16], key: object) -> NDArray[np.uint16]:
    """Return samples with alpha, where a PNG names one colour that is transparent."""
    if not isinstance(key, int | tuple):
        return samples
    clear = (samples == np.array(key)).all(axis=-1, keepdims=True)
    return np.concatenate([samples, np.where(clear, 0, 65535).astype(np.uint16)], axis=-1)


def _eight_bit_samples(picture: Image.Image, data: bytes) -> NDArray[np.uint8]:
    """Return the samples of an image of at most 8 bits in the simplest mode: `L`, `LA`, `RGB` or `RGBA`."""
    key = picture.info.get("transparency")
    if picture.format == "PNG" and picture.mode == "L" and isinstance(key, int):
        picture.info["transparency"] = key * 255 // (2 ** data[_DEPTH] - 1)  # Pillow scales the samples alone
    mode = ("L" if picture.mode in _GREY_MODES else "RGB") + "A" * picture.has_transparency_data
    samples = np.asarray(picture if picture.mode == mode else picture.convert(mode))
    return samples.reshape(*samples.shape[:2], len(mode))


def _in_native_order(tile: Any) -> Any:
    if tile.codec_name != "libtiff":
        return tile
    mode, *rest = tile.args
    return tile._replace(args=(_NATIVE.get(mode, mode), *rest))


def _stated_maximum(picture: Image.Image, data: bytes) -> int | None:
    """Return the full scale that an undecoded grey image states; `None` where Pillow gives the file's own numbers."""
    if picture.mode not in _GREY_MODES and not picture.mode.startswith("I"):
        return None
    if picture.format == "PPM":
        arguments = picture.tile[0].args  # type: ignore[attr-defined]
        return next((number for number in arguments if isinstance(number, int) and number > 0), None)
    if picture.format == "PNG":
        return int(2 ** data[_DEPTH] - 1)
    if picture.format == "TIFF":
        bits: int = picture.tag_v2.get(ExifTags.Base.BitsPerSample, (1,))[0]  # type: ignore[attr-defined]
        return int(2**bits - 1)
    return None
