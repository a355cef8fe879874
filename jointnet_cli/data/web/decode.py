"""Convert the bytes of any image to a training JPEG: detect, measure, decode, convert, resize, encode."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import ExifTags, Image

from jointnet_cli.data.settings import PrepareSettings
from jointnet_cli.data.web.status import FetchError, Status
from jointnet_cli.errors import UserError
from jointnet_cli.files import tiff
from jointnet_cli.files.color_space import Channels, ColorSpace, find_space, png_chunks
from jointnet_cli.files.decode import has_deep_colour, read_raster
from jointnet_cli.files.formats import image_format, is_page, register_heif
from jointnet_cli.files.jpeg import strip
from jointnet_cli.files.raster import eight_bits, to_srgb
from jointnet_cli.files.text import to_json

_READABLE = frozenset({"JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "JPEG2000", "AVIF", "HEIF"})
"""The formats that are opened where Pillow has a decoder: no scripts (EPS), no containers of other files (PDF, FITS), none
that is decoded as it is opened, before its pixels are counted (ICO)."""

_RESIZABLE: dict[str, Channels] = {"RGB": "RGB", "L": "L", "CMYK": "CMYK"}
"""Modes that are resized before their colours are converted, when fewer pixels are left."""

_ENLARGED = 2
"""A JPEG is decoded at the smallest size that is still so many times the wanted one."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation."""

_SIDEWAYS = (_UPRIGHT[5], _UPRIGHT[6], _UPRIGHT[7], _UPRIGHT[8])

_DIRECTORIES = {
    "Image": (None, ("Make", "Model")),
    "EXIF": (
        ExifTags.IFD.Exif,
        (
            *("LensMake", "LensModel", "FNumber", "ExposureTime", "ISOSpeedRatings", "FocalLength"),
            *("FocalLengthIn35mmFilm", "DigitalZoomRatio", "ExposureBiasValue", "ExposureProgram", "MeteringMode"),
            *("Flash", "WhiteBalance", "LightSource", "SceneCaptureType"),
        ),
    ),
}
"""The tags of a record, by directory: what a camera is and how it exposed. Not position, time, names, comments and serial
numbers, which identify people, nor the orientation, which no longer holds."""

_NAMES, _LONGEST_NAME = frozenset({"Make", "Model", "LensMake", "LensModel"}), 80
"""Tags that are text; the others are numbers."""

Image.init()  # the decoders register themselves here once, not in many threads

# Of large images, which max_pixels keeps out, and of damaged tags, Pillow would print a line for every image.
warnings.filterwarnings("ignore", module=r"PIL\.")


@dataclass(frozen=True)
class TrainingImage:
    """An image as it goes into a shard."""

    jpeg: bytes
    """8-bit sRGB, upright."""
    width: int
    height: int
    original_width: int
    """Of the upright original."""
    original_height: int
    exif: str
    """JSON object of the original's camera and exposure as text, `Image Make` and so on; `{}` if it states none."""
    sha256: str
    """Of the original's bytes."""


def sniff(data: bytes | bytearray) -> str:
    """Return Pillow's name of the format that an image's first bytes show. Raises `FetchError` (`empty`, `not_an_image`)."""
    if not data:
        raise FetchError(Status.EMPTY, "not one byte")
    if (known := image_format(data)) is not None:
        return known
    # Not the bytes themselves: a record is published, and a file of this machine may be named by mistake.
    raise FetchError(Status.NOT_AN_IMAGE, "an HTML page" if is_page(data) else "no image format that is known")


def to_training_image(data: bytes, settings: PrepareSettings) -> TrainingImage:
    """Return an image of any format as the JPEG that the settings want; of an animation the first frame.

    A JPEG that is upright, sRGB and of the right size keeps its compressed data; its metadata is removed (`jpeg.strip`). All
    else is encoded anew, without metadata. Raises `FetchError`.
    """
    kind = sniff(data)
    if kind == "HEIF":
        register_heif()
        if kind not in Image.OPEN:
            raise FetchError(Status.NEEDS_HEIF, "HEIC is decoded with pillow-heif alone")
    if kind not in _READABLE or kind not in Image.OPEN:
        raise FetchError(Status.UNSUPPORTED_FORMAT, f"{kind} is not decoded")
    try:
        if kind == "TIFF" and not tiff.pillow_reads(data):
            _check_size(*tiff.page_size(data)[:2], settings)
            return _convert(_decode(data), data, settings)
        with Image.open(BytesIO(data), formats=[kind]) as picture:
            return _convert(picture, data, settings)
    except FetchError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise FetchError(Status.TOO_MANY_PIXELS, str(error)) from error
    except MemoryError as error:
        raise FetchError(Status.DECODE_MEMORY, f"{kind}: more than {settings.fetch.decode_bytes} bytes") from error
    except Exception as error:  # a damaged file makes Pillow's decoders raise whatever their parsing stumbles over
        raise FetchError(Status.DAMAGED_IMAGE, f"{kind}: {error or type(error).__name__}") from error


def _convert(picture: Image.Image, data: bytes, settings: PrepareSettings) -> TrainingImage:
    _check_size(*picture.size, settings)
    resizable = _is_resizable(picture)
    tags = _read_exif(picture)
    exif = _exif_json(tags)
    space, upright = None, _UPRIGHT.get(tags.get(ExifTags.Base.Orientation, 1))
    if resizable:
        space = _find_space(picture, data)
    else:
        picture, upright = _decode(data), None
    stored = picture.size
    content = content_size(stored, settings)
    if content[0] * content[1] > settings.fetch.max_pixels:
        raise FetchError(Status.BAD_ASPECT, f"{stored[0]}x{stored[1]} would become {content[0]}x{content[1]}")
    untouched = (
        upright is None and content == stored and space is None and (picture.format, picture.mode) == ("JPEG", "RGB")
    )
    if settings.image.resize == "border" and content[0] != content[1]:
        untouched = False
    size, jpeg = stored, b""
    if untouched:
        try:
            jpeg = strip(data)
        except ValueError:  # segments that a decoder passes over
            untouched = False
        else:
            picture = Image.open(BytesIO(jpeg), formats=["JPEG"])  # what is kept is what is checked
            if (picture.size, picture.mode) != (stored, "RGB"):
                raise ValueError("its segments contradict each other")
    # Whether a JPEG is whole shows at any scale of its inverse transform, soonest at the smallest.
    wanted = (1, 1) if untouched else (_ENLARGED * content[0], _ENLARGED * content[1])
    drafted = picture.draft(None, wanted)
    picture.load()
    if not untouched:
        # At a smaller scale the last row and column may lie partly outside of the image.
        extent = drafted[1][2:] if drafted else picture.size
        finished = _finish(picture, extent, content, space, settings)
        if upright is not None:
            finished = finished.transpose(upright)
        size, jpeg = finished.size, _encode(finished, settings.image.quality)
    original = stored[::-1] if upright in _SIDEWAYS else stored
    return TrainingImage(jpeg, *size, *original, exif, hashlib.sha256(data).hexdigest())


def _check_size(width: int, height: int, settings: PrepareSettings) -> None:
    if width * height > settings.fetch.max_pixels:
        raise FetchError(Status.TOO_MANY_PIXELS, f"{width}x{height}")
    if min(width, height) < settings.min_side:
        raise FetchError(Status.TOO_SMALL, f"{width}x{height}, a side must have {settings.min_side}")
    widest = settings.filter.aspect_below
    if widest is not None and max(width, height) > widest * min(width, height):
        raise FetchError(Status.BAD_ASPECT, f"{width}x{height}")


def content_size(stored: tuple[int, int], settings: PrepareSettings) -> tuple[int, int]:
    """Return the width and height of a resized image, before it is turned upright and without a border."""
    match settings.image.resize:
        case "no":
            return stored
        case "center_crop":
            return settings.image.size, settings.image.size
        case "keep_ratio":
            scale = settings.image.size / min(stored)
        case "border":
            scale = settings.image.size / max(stored)
    return max(round(stored[0] * scale), 1), max(round(stored[1] * scale), 1)


def _is_resizable(picture: Image.Image) -> bool:
    """Return whether a picture that is not decoded yet can be resized as it is stored: opaque, 8 bits, no TIFF."""
    plain = picture.mode in _RESIZABLE and not picture.has_transparency_data
    return plain and picture.format != "TIFF" and not has_deep_colour(picture)


def _decode(data: bytes) -> Image.Image:
    """Return an upright sRGB picture of any kind."""
    raster = read_raster(data, "it")
    if not raster.has_scale:
        raise FetchError(Status.UNSUPPORTED_FORMAT, "its samples have no known range")
    try:
        return Image.fromarray(eight_bits(to_srgb(raster, "it")))
    except UserError as error:
        raise FetchError(Status.UNSUPPORTED_FORMAT, str(error)) from error


def _find_space(picture: Image.Image, data: bytes) -> ColorSpace | None:
    try:
        return find_space(picture.info.get("icc_profile"), png_chunks(data), _RESIZABLE[picture.mode])
    except ValueError as error:
        raise FetchError(Status.UNSUPPORTED_FORMAT, str(error)) from error


def _in_srgb(picture: Image.Image, space: ColorSpace | None) -> Image.Image:
    if space is None:
        return picture.convert("RGB")
    colours = eight_bits(space.to_srgb(np.atleast_3d(np.asarray(picture))))
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(colours, (*colours.shape[:2], 3))))


def _finish(
    picture: Image.Image,
    extent: tuple[float, float],
    content: tuple[int, int],
    space: ColorSpace | None,
    settings: PrepareSettings,
) -> Image.Image:
    """Resize and convert the part of a decoded picture from (0, 0) to `extent`, which is the image."""
    if picture.size != content:
        box = _middle_square(*extent) if settings.image.resize == "center_crop" else (0.0, 0.0, *extent)
        # Hamming's window is as sharp as bicubic where pixels become fewer, at two thirds of its time.
        shrinks = content[0] < box[2] - box[0]
        kernel = Image.Resampling.HAMMING if shrinks else Image.Resampling.BICUBIC
        picture = picture.resize(content, kernel, box)
    picture = _in_srgb(picture, space)
    if settings.image.resize == "border":
        canvas = Image.new("RGB", (settings.image.size, settings.image.size), "white")
        canvas.paste(picture, ((settings.image.size - content[0]) // 2, (settings.image.size - content[1]) // 2))
        return canvas
    return picture


def _middle_square(width: float, height: float) -> tuple[float, float, float, float]:
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def _encode(picture: Image.Image, quality: int) -> bytes:
    buffer = BytesIO()
    picture.info = {}  # Pillow would carry the original's comment over
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _read_exif(picture: Image.Image) -> Image.Exif:
    try:
        return picture.getexif()
    except Exception:  # damaged tags leave the pixels whole; as in make_picture, the exception may be any
        return Image.Exif()


def _exif_json(tags: Image.Exif) -> str:
    """Return the tags of `_DIRECTORIES` as img2dataset names them, after the directory they are in."""
    found: dict[str, str] = {}
    try:
        for directory, (place, names) in _DIRECTORIES.items():
            entries = tags if place is None else tags.get_ifd(place)
            for name in names:
                value = entries.get(ExifTags.Base[name])
                text = str(value).strip("\0 ")[:_LONGEST_NAME]
                if isinstance(value, str) == (name in _NAMES) and not isinstance(value, bytes | None) and text:
                    found[f"{directory} {name}"] = text
    except Exception:  # as in _read_exif: what was read before the damage stays
        pass
    return to_json(found)
