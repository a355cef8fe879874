"""The sRGB transfer function, colours for a map of one value, and work on large images band by band."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BAND = 2**20
"""Values that are worked on at once."""


def by_bands(
    work: Callable[[NDArray[Any]], NDArray[Any]], values: NDArray[Any], dtype: Any = np.float32
) -> NDArray[Any]:
    """Return `work` of every pixel of an array (H, ...), done band by band: what it makes in between stays small."""
    if values.ndim < 2 or values.size <= _BAND:
        return np.asarray(work(values), dtype)
    rows = max(1, _BAND * len(values) // values.size)
    made: NDArray[Any] | None = None
    for start in range(0, len(values), rows):
        band = work(values[start : start + rows])
        if made is None:
            made = np.empty((len(values), *band.shape[1:]), dtype)
        made[start : start + rows] = band
    assert made is not None
    return made


# Nine colours of even steps in CIE lightness (8 to 97) while the hue turns from indigo through rose to pale yellow.
_FAR_TO_NEAR = np.array(
    [
        (16, 9, 80),
        (63, 19, 115),
        (117, 29, 132),
        (172, 42, 130),
        (219, 70, 112),
        (242, 117, 97),
        (245, 166, 113),
        (249, 209, 149),
        (254, 248, 208),
    ],
    dtype=np.float32,
) / np.float32(255)


def srgb_to_linear(srgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return linear light of sRGB values in [0, 1], any shape (IEC 61966-2-1)."""
    return by_bands(
        lambda band: np.where(band <= 0.04045, band / 12.92, ((band + 0.055) / 1.055) ** 2.4),
        np.asarray(srgb, np.float32),
    )


def linear_to_srgb(linear: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return sRGB values of linear light in [0, 1], any shape: the inverse of `srgb_to_linear`."""

    def curve(band: NDArray[Any]) -> NDArray[Any]:
        above = 1.055 * np.maximum(band, 0.0031308) ** (1 / 2.4) - 0.055
        return np.where(band <= 0.0031308, band * 12.92, above)

    return by_bands(curve, np.asarray(linear, np.float32))


def colorize(disparity: NDArray[np.float32]) -> NDArray[np.float32]:
    """Preview of relative disparity: (H, W) in [0, 1] to (H, W, 3) sRGB, dark indigo for far, pale yellow for near."""
    stops = np.linspace(0, 1, len(_FAR_TO_NEAR))

    def colours(band: NDArray[Any]) -> NDArray[Any]:
        return np.stack([np.interp(band, stops, _FAR_TO_NEAR[:, channel]) for channel in range(3)], axis=-1)

    return by_bands(colours, disparity)
