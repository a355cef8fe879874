"""Pixels that nothing shows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def summed(values: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """(H / side, W / side, ...) sums of squares of `side` x `side` values (H, W, ...)."""
    total = np.zeros_like(values[::side, ::side])
    for row in range(side):
        for column in range(side):
            total += values[row::side, column::side]
    return total


def farther_neighbour(
    distance: NDArray[np.float32], holes: NDArray[np.int64], *, wrap: bool = False
) -> NDArray[np.int64]:
    """(N,): of each hole the nearest known pixel of its row to the left or to the right, of the more distant one.

    `distance` is (H, W), 0 where it is not known; holes and answers count its pixels row by row. -1 where nothing of the
    row is known. With `wrap` rows are closed.
    """
    width = distance.shape[1]
    numbers, line = np.unique(holes // width, return_inverse=True)
    known = distance[numbers] > 0
    columns = np.arange(width, dtype=np.int32)
    left = np.maximum.accumulate(np.where(known, columns, -1), axis=1)
    right = np.minimum.accumulate(np.where(known, columns, width)[:, ::-1], axis=1)[:, ::-1]
    last, first = left[:, -1], right[:, 0]
    left, right = left[line, holes % width], right[line, holes % width]
    if wrap:
        left, right = np.where(left < 0, last[line], left), np.where(right == width, first[line], right)
    start = holes // width * width
    far_left = np.where(left < 0, -1, distance.ravel()[start + np.maximum(left, 0)])
    far_right = np.where(right == width, -1, distance.ravel()[start + np.minimum(right, width - 1)])
    beside = start + np.where(far_left >= far_right, left, right)
    return np.where(np.maximum(far_left, far_right) < 0, -1, beside)
