"""The sRGB transfer function, and colours for a map of one value."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
    srgb = np.asarray(srgb, np.float32)
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4).astype(np.float32)


def linear_to_srgb(linear: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return sRGB values of linear light in [0, 1], any shape: the inverse of `srgb_to_linear`."""
    linear = np.asarray(linear, np.float32)
    curve = 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055
    return np.where(linear <= 0.0031308, linear * 12.92, curve).astype(np.float32)


def colorize(disparity: NDArray[np.float32]) -> NDArray[np.float32]:
    """Preview of relative disparity: (H, W) in [0, 1] to (H, W, 3) sRGB, dark indigo for far, pale yellow for near."""
    stops = np.linspace(0, 1, len(_FAR_TO_NEAR))
    channels = [np.interp(disparity, stops, _FAR_TO_NEAR[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).astype(np.float32)
