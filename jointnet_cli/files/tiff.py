"""TIFF samples at their own precision, where Pillow reads a layout wrongly or not at all."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.files.raster import turned

if TYPE_CHECKING:
    from tifffile import TiffPage

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2

_COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3}

_INTEGER, _SIGNED, _FLOAT = 1, 2, 3

_ASSOCIATED, _UNASSOCIATED = 1, 2


def is_tiff(data: bytes) -> bool:
    """Return whether a file is a TIFF or BigTIFF."""
    return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def pillow_reads(data: bytes) -> bool:
    """Return whether Pillow gives the values of a TIFF's first page: up to 8 bits, and the plain layouts of more."""
    if data[:4] == b"MM\0+":  # big-endian BigTIFF, which Pillow does not open
        return False
    page = _first_page(data)
    bits, form, extra = page.bitspersample, page.sampleformat, tuple(map(int, page.extrasamples))
    if form == _INTEGER and bits <= 8:
        return bool(page.photometric != 9)  # ICC's Lab
    if page.samplesperpixel == 1 and page.photometric == BLACK_IS_ZERO:
        return (form, bits) in ((_INTEGER, 12), (_INTEGER, 16), (_SIGNED, 16), (_SIGNED, 32), (_FLOAT, 32))
    plain = form == _INTEGER and bits == 16 and page.planarconfig == 1
    if page.photometric == RGB:
        return plain and extra in ((), (0,), (_UNASSOCIATED,)) and page.samplesperpixel <= 4
    return bool(plain and page.photometric == 5)  # CMYK, which Pillow reduces to 8 bits


def page_size(source: bytes | Path) -> tuple[int, int, int]:
    """Return the width and height of the first page, as stored, and its orientation."""
    page = _first_page(source)
    return page.imagewidth, page.imagelength, _orientation(page)


def pixel_bytes(source: bytes | Path) -> int:
    """Return the decoded bytes of a pixel of the first page."""
    page = _first_page(source)
    return max(1, int(page.samplesperpixel * page.bitspersample * page.imagedepth) // 8)


def read_page(data: bytes) -> tuple[NDArray[Any], bytes | None, int, int]:
    """Decode the first page: samples (H, W, C) upright as its tag says, ICC profile, orientation, the file's full scale.

    C is 1 for grey, 3 for colour, one more with alpha, by which colours are no longer multiplied. Unsigned samples of up to
    16 bits are uint16 at full scale, black is 0; others come as they are, float32.

    Raises:
        ValueError: damaged, or of a kind that is not read.
    """
    import tifffile

    page = _first_page(data)
    photometric = getattr(page.photometric, "name", page.photometric)
    colours = _COLOURS.get(int(page.photometric))
    if colours is None or page.samplesperpixel < colours or page.imagedepth != 1:
        raise ValueError(f"{photometric} of {page.bitspersample} bits is not read")
    try:
        with tifffile.TiffFile(BytesIO(data)) as file:
            values = file.pages.first.asarray()
    except Exception as error:  # a codec that is missing, or damage
        raise ValueError(f"compression {getattr(page.compression, 'name', page.compression)}: {error}") from error
    separate = page.planarconfig == 2 and page.samplesperpixel > 1
    values = np.moveaxis(values, 0, -1) if separate else values.reshape(*values.shape[:2], -1)
    if values.dtype.kind not in "buif":
        raise ValueError(f"numbers of type {values.dtype} are not read")
    if values.dtype.kind != "u" or values.dtype.itemsize > 2:
        if page.photometric == WHITE_IS_ZERO:
            raise ValueError(f"white is 0 in numbers of {page.bitspersample} bits, which have no known range")
        samples = values[..., :colours].astype(np.float32)
    else:
        samples = _full_scale(values, page, colours)
    orientation = _orientation(page)
    return turned(samples, orientation), page.iccprofile, orientation, 2**page.bitspersample - 1


def _orientation(page: TiffPage) -> int:
    tag = page.tags.get("Orientation")
    return int(tag.value) if tag is not None else 1


def _first_page(source: bytes | Path) -> TiffPage:
    """Return the first page, undecoded."""
    import tifffile

    with tifffile.TiffFile(BytesIO(source) if isinstance(source, bytes) else source) as file:
        page = file.pages.first
        if not page.imagewidth * page.imagelength:
            raise ValueError("no pixels")
        return page


def _full_scale(values: NDArray[Any], page: TiffPage, colours: int) -> NDArray[np.uint16]:
    """Return unsigned samples with black at 0 and full scale at 65535, and straight alpha if there is any."""
    extra = [int(kind) for kind in page.extrasamples]
    if not extra and page.photometric == RGB and values.shape[-1] == 4:
        extra = [_UNASSOCIATED]  # as other readers take a fourth channel that is not explained
    fractions = values / (2**page.bitspersample - 1)
    colour = fractions[..., :colours]
    if page.photometric == WHITE_IS_ZERO:
        colour = 1 - colour
    alphas = [place for place, kind in enumerate(extra) if kind in (_ASSOCIATED, _UNASSOCIATED)]
    if alphas and values.shape[-1] > colours + alphas[0]:
        alpha = fractions[..., colours + alphas[0], None]
        if extra[alphas[0]] == _ASSOCIATED:
            colour = np.divide(colour, alpha, out=np.zeros_like(colour), where=alpha > 0).clip(0, 1)
        colour = np.concatenate([colour, alpha], axis=-1)
    levels: NDArray[np.uint16] = np.rint(colour * 65535).astype(np.uint16)
    return levels
