"""Values where there are none, as smooth as can be."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def fill(values: Array, known: NDArray[np.bool_], *, wrap: bool = False) -> Array:
    """`values` (H, W, C) with what is not known (H, W) drawn from what is around it, nearer in finer detail.

    Pull and push: means of the known pixels at ever coarser sizes, each enlarged where the finer one knows nothing. With
    `wrap` the left edge goes on at the right one. If nothing is known the result is zero.
    """
    if known.all() or known.size == 1:
        return np.where(known[..., None], values, np.float32(0))
    coarse = fill(*_halve(values, known), wrap=wrap)
    for axis, length in enumerate(known.shape):
        coarse = _double(coarse, axis, length, wrap=wrap and axis == 1)
    coarse[known] = values[known]
    return coarse


def _halve(values: Array, known: NDArray[np.bool_]) -> tuple[Array, NDArray[np.bool_]]:
    """Means of the known among every two by two pixels, and where there are any."""
    odd = [(0, length % 2) for length in known.shape]
    weight: Array = np.pad(known, odd).astype(np.float32)
    total: Array = np.pad(np.where(known[..., None], values, np.float32(0)), [*odd, (0, 0)])
    for axis in (0, 1):
        weight, total = _pairs(weight, axis), _pairs(total, axis)
    total /= np.maximum(weight, 1)[..., None]
    return total, weight > 0


def _pairs(array: Array, axis: int) -> Array:
    """Sums of neighbours."""
    return array[0::2] + array[1::2] if axis == 0 else array[:, 0::2] + array[:, 1::2]


def _double(values: Array, axis: int, length: int, *, wrap: bool) -> Array:
    """Twice as long along an axis, linearly, and cut to a length."""
    values = np.moveaxis(values, axis, 0)
    padded = np.pad(values, [(1, 1), *[(0, 0)] * (values.ndim - 1)], mode="wrap" if wrap else "edge")
    doubled = np.empty((2 * len(values), *values.shape[1:]), np.float32)
    doubled[0::2] = 0.75 * values + 0.25 * padded[:-2]
    doubled[1::2] = 0.75 * values + 0.25 * padded[2:]
    return np.moveaxis(doubled[:length], 0, axis)
