"""A decoded image: its samples as the file stores them, their colours in sRGB, and how arrays are turned upright."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.errors import UserError
from jointnet_cli.files.color import by_bands
from jointnet_cli.files.color_space import find_space

SIDEWAYS = (5, 6, 7, 8)
"""Orientations by which height and width change places."""


@dataclass(frozen=True)
class Raster:
    """A decoded image, upright, its colours as they are stored."""

    samples: NDArray[Any]
    """(H, W, C): 1 grey, 2 grey and alpha, 3 colour, 4 colour and alpha. uint8 and uint16 have full scale; others, such as
    float32 and int32, are numbers without a range."""
    profile: bytes | None = None
    """The ICC profile."""
    chunks: Mapping[bytes, bytes] = field(default_factory=dict)
    """What a PNG states before its pixels."""
    orientation: int = 1
    """As EXIF or TIFF stated it; the samples are turned by it already."""
    maximum: int | None = None
    """The number that means full scale in the file, such as 4095 of 12 bits, where it is not that of the samples' type:
    fewer bits are scaled up to 8 or 16."""

    @property
    def has_scale(self) -> bool:
        """Whether the largest sample value means 1."""
        return self.samples.dtype in (np.uint8, np.uint16)

    @property
    def full_scale(self) -> int:
        """The number that means full scale in the file. Call it only where `has_scale`."""
        return self.maximum or int(np.iinfo(self.samples.dtype).max)

    def fractions(self) -> NDArray[np.float32]:
        """Return samples in [0, 1], full scale = 1; numbers without a range as they are."""
        return fractions(self.samples) if self.has_scale else self.samples.astype(np.float32)


def to_srgb(raster: Raster, name: str) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Convert a decoded image to sRGB (H, W, 3): uint8 where it holds just that, else float32 in [0, 1].

    A colour profile, or what a PNG states of its colours, is converted (`find_space`); transparent parts lie over white.

    Raises:
        UserError: samples of no known range; colours that are not converted. `name` is what it calls the image.
    """
    if not raster.has_scale:
        hint = "convert it to 8 or 16 bits, such as: jointnet convert FILE --to png"
        raise UserError(f"{name} has samples of no known range: signed, 32 bits, or floating point", hint)
    channels = raster.samples.shape[-1]
    stored, alpha = np.split(raster.samples, [channels - (channels % 2 == 0)], axis=-1)
    try:
        space = find_space(raster.profile, raster.chunks, "RGB" if channels > 2 else "L")
    except ValueError as error:
        raise UserError(f"{name}: {error}", hint="convert it to sRGB") from error
    colour: NDArray[Any] = stored
    if space is not None:
        colour = by_bands(space.to_srgb, stored)
    elif alpha.size or stored.dtype == np.uint16:
        colour = fractions(stored)
    if alpha.size:
        opacity = fractions(alpha)
        colour = colour * opacity + (1 - opacity)
    return np.ascontiguousarray(np.broadcast_to(colour, (*colour.shape[:2], 3)))


def eight_bits(colours: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.uint8]:
    """Round values in [0, 1] to 8 bits; values of 8 bits stay."""
    if colours.dtype == np.uint8:
        return np.asarray(colours, np.uint8)
    return np.asarray(by_bands(lambda band: np.rint(band * 255), colours, np.uint8), np.uint8)


def fractions(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Return unsigned samples, any shape, in [0, 1], full scale = 1."""
    return by_bands(lambda band: band.astype(np.float32) / np.float32(np.iinfo(samples.dtype).max), samples)


def turned(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn an array (H, W, …) upright from how it is stored, by an EXIF orientation of 1 to 8; others change nothing."""
    if orientation in SIDEWAYS:
        values = values.swapaxes(0, 1)
    rows, columns = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return np.ascontiguousarray(values[:: -1 if rows else 1, :: -1 if columns else 1])


def turned_vectors(vectors: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn camera-space vectors (H, W, 3), x right and y up, with their image."""
    return turned_components(turned(vectors, orientation), orientation)


def turned_components(vectors: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn the x and y of vectors (H, W, 3) whose pixels are upright already."""
    if orientation not in range(2, 9):
        return vectors
    x, y, z = np.moveaxis(vectors, -1, 0)
    if orientation in SIDEWAYS:
        x, y = -y, -x
    x_sign, y_sign = -1 if orientation in (2, 3, 6, 7) else 1, -1 if orientation in (3, 4, 7, 8) else 1
    return np.stack([x * x_sign, y * y_sign, z], axis=-1)
