"""Draw triangles into a z-buffer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.projection import Projection
from jointnet_cli.scene.cameras import Camera, Viewpoint
from jointnet_cli.scene.layers import CUT
from jointnet_cli.scene.scene import Layer

_Scalar = TypeVar("_Scalar", bound=np.generic)

SIDES = 64, 256
"""Rows and columns of a patch, few enough for a processor's cache."""


@dataclass(frozen=True)
class Patch:
    """A part of a surface."""

    points: NDArray[np.float32]
    """(N, 3) metres."""
    colours: NDArray[np.float32]
    """(N, 3) sRGB in [0, 1]."""
    faces: NDArray[np.int32]
    """(3, F) corners of triangles."""


@dataclass(frozen=True)
class _Grid:
    """Vertices (h, w) of a part of the image, one a pixel and one more on the image's own edges."""

    nearness: NDArray[np.float32]
    """(h, w) 1 / metres, 0 for the sky."""
    rays: NDArray[np.float32]
    """(h, w, 3)"""
    colours: NDArray[np.float32]
    """(h, w, 3)"""
    shown: NDArray[np.bool_]
    """(h, w)"""


def patches(surface: Layer, projection: Projection) -> Iterator[Patch]:
    """Yield triangles between the centres of four pixels each, and out to the image's edges.

    Where the four are of different distances, by more than `CUT` times, they are torn: each pixel keeps its own quarter,
    at the mean of those that it holds together with. There is nothing where the sky is or where nothing is `shown`.
    """
    height, width = surface.distance.shape
    camera = Camera(projection, height, width)
    rows = _centres(height, closed=False)
    columns = _centres(width, closed=projection.wrap)
    shown = np.ones_like(surface.distance, bool) if surface.shown is None else surface.shown
    for top in range(0, len(rows) - 1, SIDES[0]):
        for left in range(0, len(columns) - 1, SIDES[1]):
            row, column = rows[top : top + SIDES[0] + 1], columns[left : left + SIDES[1] + 1]
            pixels = np.ix_(np.clip(np.rint(row), 0, height - 1).astype(int), _column(column, width, projection.wrap))
            grid = _Grid(
                1 / surface.distance[pixels],
                camera.directions(column[None].astype(np.float32), row[:, None].astype(np.float32)),
                surface.image[pixels],
                shown[pixels],
            )
            patch = _patch(grid)
            if patch.faces.size:
                yield patch


def _centres(count: int, closed: bool) -> NDArray[np.float64]:
    """Return positions of vertices along an axis: pixel centres, and either the first one again or both edges."""
    inner = np.arange(count + closed, dtype=np.float64)
    return inner if closed else np.concatenate([[-0.5], inner, [count - 0.5]])


def _column(column: NDArray[np.float64], width: int, wrap: bool) -> NDArray[np.int64]:
    nearest = np.rint(column).astype(np.int64)
    return nearest % width if wrap else np.clip(nearest, 0, width - 1)


def _quads(values: NDArray[_Scalar]) -> NDArray[_Scalar]:
    """Return (4, h - 1, w - 1, ...) the corners of each cell: top left, top right, bottom right, bottom left."""
    return np.stack([values[:-1, :-1], values[:-1, 1:], values[1:, 1:], values[1:, :-1]])


def _patch(grid: _Grid) -> Patch:
    nearness = _quads(grid.nearness)
    nearest, farthest = nearness.max(0), nearness.min(0)
    there = (nearest > 0) & _quads(grid.shown).any(0)
    whole = there & (nearest <= CUT * farthest)
    index = _quads(np.arange(grid.nearness.size, dtype=np.int32).reshape(grid.nearness.shape))
    corners = index[:, whole]
    points = grid.rays.reshape(-1, 3) / np.where(grid.nearness > 0, grid.nearness, 1).reshape(-1, 1)
    torn = index[:, there & ~whole]
    quarters = [_quarter(grid, torn, corner) for corner in range(4)]
    first = len(points) + np.cumsum([0, *(len(quarter[0]) for quarter in quarters)], dtype=np.int32)
    own = [np.arange(start, end, dtype=np.int32).reshape(4, -1) for start, end in pairwise(first)]
    corners = np.concatenate([corners, *own], axis=1)
    return Patch(
        np.concatenate([points, *(quarter[0] for quarter in quarters)]),
        np.concatenate([grid.colours.reshape(-1, 3), *(quarter[1] for quarter in quarters)]),
        np.concatenate([corners[[0, 1, 2]], corners[[0, 2, 3]]], axis=1).astype(np.int32),
    )


def _quarter(grid: _Grid, torn: NDArray[np.int32], corner: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return points and colours (4 K, 3) of the quarters next to one corner of torn cells (4, K)."""
    near = grid.nearness.reshape(-1)[torn]
    keep = (near[corner] > 0) & grid.shown.reshape(-1)[torn[corner]]
    torn, near = torn[:, keep], near[:, keep]
    rays, colours = grid.rays.reshape(-1, 3)[torn], grid.colours.reshape(-1, 3)[torn]
    together = (np.maximum(near, near[corner]) <= CUT * np.minimum(near, near[corner])).astype(np.float32)
    # The corner itself, the middles of its two edges and the middle of the cell, in order around the quarter.
    points, tints = [], []
    for others in ([corner], [corner, (corner + 1) % 4], [0, 1, 2, 3], [corner, (corner - 1) % 4]):
        weight = together[others] / together[others].sum(0)
        points.append(rays[others].mean(0) / (weight * near[others]).sum(0)[:, None])
        tints.append((weight[..., None] * colours[others]).sum(0))
    return np.concatenate(points), np.concatenate(tints)


NEAREST = 0.02
"""Metres in front of a camera from which on it sees."""

_SLACK = np.float32(1e-3)  # of a pixel or of a triangle: what rounding may leave out between two that share an edge

_CANDIDATES = 1 << 20  # pixels looked at at once

_BLOCK = 1 << 20  # pixels coloured at once


def draw(
    patch: Patch, camera: Viewpoint, nearness: NDArray[np.float32], image: NDArray[np.float32], bias: float
) -> None:
    """Paint a patch where it is nearer than what is there: `nearness` (N,), 1 / metres, and `image` (N, 3) in place.

    N counts the camera's pixels row by row. `bias` is what the patch's nearness is taken times.
    """
    column, row, distance = camera.pixels_of(patch.points)
    turn, width, height = camera.turn, camera.width, camera.height
    if turn is None and (column.max() < -1 or column.min() > width) and distance.min() > NEAREST:
        return
    if row.max() < -1 or row.min() > height or distance.max() <= NEAREST:
        return
    near = np.where(distance > NEAREST, np.float32(bias) / np.maximum(distance, NEAREST), 0)
    faces = patch.faces
    x, y, inverse = column[faces], row[faces], near[faces]
    if turn is not None:
        x += np.where(x.max(0) - x > turn / 2, np.float32(turn), np.float32(0))  # all on one side of the seam
    closed = turn == width
    left, top = np.ceil(x.min(0) - _SLACK), np.ceil(y.min(0) - _SLACK)
    right, bottom = np.floor(x.max(0) + _SLACK), np.floor(y.max(0) + _SLACK)
    if not closed:
        left, right = np.maximum(left, 0), np.minimum(right, width - 1)
    top, bottom = np.maximum(top, 0), np.minimum(bottom, height - 1)
    keep = np.flatnonzero((left <= right) & (top <= bottom) & (inverse.min(0) > 0))
    if not len(keep):
        return
    x, y, inverse, faces = x[:, keep], y[:, keep], inverse[:, keep], faces[:, keep]
    left, top = left[keep].astype(np.int32), top[keep].astype(np.int32)
    columns, rows = right[keep].astype(np.int32) - left + 1, bottom[keep].astype(np.int32) - top + 1
    ends = np.cumsum(columns.astype(np.int64) * rows)
    start = 0
    while start < len(ends):
        drawn = int(ends[start - 1]) if start else 0
        stop = max(int(np.searchsorted(ends, drawn + _CANDIDATES)), start + 1)
        part = slice(start, stop)
        triangle, across, down = _candidates(columns[part], rows[part])
        across, down = across + left[part][triangle], down + top[part][triangle]
        weights, inside = _weights(x[:, part], y[:, part], triangle, across, down)
        triangle, weights = triangle[inside], weights[:, inside] * inverse[:, part][:, triangle[inside]]
        if closed:
            across = across % width
        pixel = (down * width + across)[inside]
        found = weights.sum(0)
        np.maximum.at(nearness, pixel, found)
        won = nearness[pixel] == found
        weights, corners = (weights / found)[:, won], faces[:, part][:, triangle[won]]
        colours = weights[0, :, None] * patch.colours[corners[0]]
        for weight, corner in zip(weights[1:], corners[1:], strict=True):
            colours += weight[:, None] * patch.colours[corner]
        image[pixel[won]] = colours
        start = stop


def _candidates(
    columns: NDArray[np.int32], rows: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    """Return every pixel of boxes of `columns` x `rows` (N,): which box, and its column and row in there."""
    box, down = _counted(rows)
    again, across = _counted(columns[box])
    return box[again], across, down[again]


def _counted(counts: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return `i` as often as `counts[i]` says, and beside it 0, 1, 2 …"""
    which = np.repeat(np.arange(len(counts)), counts)
    return which, np.arange(len(which), dtype=np.int32) - np.repeat(np.cumsum(counts) - counts, counts).astype(np.int32)


def _weights(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    triangle: NDArray[np.int64],
    across: NDArray[np.int32],
    down: NDArray[np.int32],
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Barycentric coordinates (3, K) of pixels in triangles with corners `x`, `y` (3, N), and which lie inside."""
    x1, x2, y1, y2 = x[1] - x[0], x[2] - x[0], y[1] - y[0], y[2] - y[0]
    area = x1 * y2 - x2 * y1
    scale = np.where(np.abs(area) > 1e-9, 1 / np.where(area == 0, 1, area), np.float32(np.nan))
    right, below = across.astype(np.float32) - x[0][triangle], down.astype(np.float32) - y[0][triangle]
    second = right * (y2 * scale)[triangle] - below * (x2 * scale)[triangle]
    third = below * (x1 * scale)[triangle] - right * (y1 * scale)[triangle]
    first = 1 - second - third
    inside = (first >= -_SLACK) & (second >= -_SLACK) & (third >= -_SLACK)
    return np.stack([first, second, third]), inside
