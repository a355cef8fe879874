"""Where pixels look, and which pixel looks at a point."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.tasks import Projection


def focal_length(projection: Projection, width: int) -> float:
    """Pixels per unit of height on the image plane, or on the unit cylinder."""
    span = np.radians(projection.span)
    return float(width / span if projection.kind == "cylindrical" else width / (2 * np.tan(span / 2)))


def rays(projection: Projection, height: int, width: int) -> NDArray[np.float32]:
    """(H, W, 3) direction of each pixel's centre, of length 1 from the axis (cylindrical) or along -z (perspective).

    x is right, y up, -z forward: times a picture's distances they are its points.
    """
    focal = focal_length(projection, width)
    x = (np.arange(width) + 0.5 - width / 2) / focal
    y = (height / 2 - np.arange(height) - 0.5) / focal
    directions = np.empty((height, width, 3), np.float32)
    if projection.kind == "cylindrical":
        directions[..., 0], directions[..., 2] = np.sin(x), -np.cos(x)
    else:
        directions[..., 0], directions[..., 2] = x, -1
    directions[..., 1] = y[:, None]
    return directions


def points_of(
    column: NDArray[np.floating],
    row: NDArray[np.floating],
    distance: NDArray[np.floating],
    projection: Projection,
    shape: tuple[int, int],
) -> NDArray[np.float64]:
    """Points (..., 3) that lie at a distance where a picture of `shape` (H, W) shows them, also between its pixels.

    The centre of the first pixel is column 0, row 0.
    """
    height, width = shape
    focal = focal_length(projection, width)
    x, y = (column + 0.5 - width / 2) / focal, (height / 2 - row - 0.5) / focal
    across, ahead = (np.sin(x), np.cos(x)) if projection.kind == "cylindrical" else (x, np.ones_like(x))
    return np.stack([across * distance, y * distance, -ahead * distance], axis=-1)


def pixels_of(
    points: NDArray[np.floating], projection: Projection, height: int, width: int
) -> tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.floating]]:
    """Column, row and distance, each (...), at which points (..., 3) are seen from the origin; the inverse of `rays`.

    The centre of the first pixel is column 0, row 0. What lies behind a perspective camera has a distance of 0 or less.
    """
    x, y, ahead = points[..., 0], points[..., 1], -points[..., 2]
    focal = focal_length(projection, width)
    if projection.kind == "cylindrical":
        distance, across = np.hypot(x, ahead), np.arctan2(x, ahead)
    else:
        distance = ahead
        across = x / np.where(ahead > 0, ahead, np.inf)
    upward = y / np.where(distance > 0, distance, np.inf)
    return across * focal + width / 2 - 0.5, height / 2 - 0.5 - upward * focal, distance
