"""Arrays made upright, as the EXIF orientation of an image says."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDEWAYS = (5, 6, 7, 8)
"""Orientations by which height and width change places."""


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
