"""An image's distances as triangles, and as fewer triangles."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.projection import Projection
from jointnet_cli.scene.cameras import focal_length, points_of

_DENSER = 4
"""How many triangles simplification starts from for one that it leaves: more makes it stick at single pixels."""

_RELIEF = 0.25
"""How far a viewer is taken to move, in units of the nearest distance: what depth weighs against a shift in the image."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class GridMesh:
    """Triangles over an image. One that closes to a ring has no edge at its seam."""

    column: Floats
    """(V,), 0 at the centre of the first pixel."""
    row: Floats
    """(V,), likewise."""
    distance: Floats
    """(V,) metres."""
    faces: NDArray[np.int32]
    """(F, 3) vertices, counter-clockwise as the viewer sees them."""
    shape: tuple[int, int]
    """Height and width of the image."""
    projection: Projection

    @property
    def points(self) -> NDArray[np.float32]:
        """(V, 3) metres, x right, y up, -z forward."""
        return points_of(self.column, self.row, self.distance, self.projection, self.shape).astype(np.float32)

    def unrolled(self) -> GridMesh:
        """Cut open at the seam for a texture: triangles across it end beyond the last column, at vertices of their own."""
        if not self.projection.wrap:
            return self
        width = self.shape[1]
        column = self.column[self.faces]
        beyond = (np.ptp(column, axis=1) > width / 2)[:, None] & (column < width / 2)
        twice = np.unique(self.faces[beyond])
        place = np.zeros(len(self.column), np.int32)
        place[twice] = np.arange(len(twice)) + len(self.column)
        return replace(
            self,
            column=np.concatenate([self.column, self.column[twice] + width]),
            row=np.concatenate([self.row, self.row[twice]]),
            distance=np.concatenate([self.distance, self.distance[twice]]),
            faces=np.where(beyond, place[self.faces], self.faces),
        )


def triangulate(distance: NDArray[np.float32], projection: Projection, cut: float, limit: int) -> GridMesh:
    """Return the surface that pixels see, of `limit` triangles at most.

    A vertex a pixel where that is few enough. Else rows and columns are left out evenly, down to a few times the limit, and
    the rest is simplified by quadrics, in the image's own coordinates and inverse distance: there planes are planes, and an
    error is worth what it shifts the image of a viewer who moves.

    Args:
        distance: (H, W) metres; what is infinite is left out.
        projection: how pixels map to directions; with wrap the last column joins the first.
        cut: a triangle whose farthest corner is more than this many times as distant as its nearest spans a jump and is left
            out.
        limit: triangles, at least 2.
    """
    shrink = _shrink(distance, limit)
    while True:
        sheet = _grid(distance, projection, cut, shrink)
        if len(sheet.faces) > limit:
            sheet = _simplified(sheet, limit)
        if len(sheet.faces) <= limit:
            return sheet
        shrink *= 0.7


def stride(distance: NDArray[np.float32], limit: int) -> int:
    """Return pixels between the rows, or columns, that `triangulate` begins with."""
    return math.ceil(1 / _shrink(distance, limit))


def _shrink(distance: NDArray[np.float32], limit: int) -> float:
    """Return the fraction of the rows, and of the columns, that has a few times `limit` triangles."""
    pixels = int(np.isfinite(distance).sum())
    return min(1.0, float((_DENSER * limit / max(1, 2 * pixels)) ** 0.5))


def directed_edges(faces: NDArray[np.int32], vertices: int) -> NDArray[np.int64]:
    """(3 F,) edges from each corner to the next, as `from * vertices + to`: all first ones, all second, all third."""
    start, end = faces.T.astype(np.int64), np.roll(faces, -1, axis=1).T
    return (start * vertices + end).ravel()


def _grid(distance: NDArray[np.float32], projection: Projection, cut: float, shrink: float) -> GridMesh:
    """Return evenly spread rows and columns, first and last included, as triangles that span no jump."""
    height, width = distance.shape
    rows = _spread(height - 1, max(2, int(height * shrink)))
    if projection.wrap:
        columns = _spread(width, max(3, int(width * shrink)) + 1)[:-1]
    else:
        columns = _spread(width - 1, max(2, int(width * shrink)))
    seen = distance if len(rows) * len(columns) == distance.size else distance[np.ix_(rows, columns)]
    faces = _triangles(seen, cut, wrap=projection.wrap)
    used = _used(faces, seen.size)
    row, column = np.divmod(used, len(columns))
    return GridMesh(
        columns[column].astype(float),
        rows[row].astype(float),
        seen.ravel()[used].astype(float),
        _renumbered(faces, used, seen.size),
        (height, width),
        projection,
    )


def _spread(last: int, count: int) -> NDArray[np.int64]:
    """Return `count` whole numbers from 0 to `last`, both included, as even as can be."""
    return np.rint(np.linspace(0, last, count)).astype(np.int64)


def _triangles(distance: NDArray[np.float32], cut: float, *, wrap: bool) -> NDArray[np.int32]:
    """Return (F, 3) pixel indices, two triangles a quad, without those that jump or have a corner at infinity.

    Each quad is split along the diagonal whose ends are nearer in depth, so that an edge loses one triangle, not both.
    """
    logarithm = np.log(distance)
    index = np.arange(distance.size, dtype=np.int32).reshape(distance.shape)
    if wrap:
        logarithm, index = (np.concatenate([array, array[:, :1]], axis=1) for array in (logarithm, index))
    top_left, top_right, bottom_left, bottom_right = corners(logarithm)
    with np.errstate(invalid="ignore"):
        falling = np.abs(top_left - bottom_right) < np.abs(top_right - bottom_left)
        upper = _is_flat(top_left, bottom_left, np.where(falling, bottom_right, top_right), np.log(cut))
        lower = _is_flat(np.where(falling, top_left, bottom_left), bottom_right, top_right, np.log(cut))
    top_left, top_right, bottom_left, bottom_right = corners(index)
    above = [top_left[upper], bottom_left[upper], np.where(falling[upper], bottom_right[upper], top_right[upper])]
    below = [np.where(falling[lower], top_left[lower], bottom_left[lower]), bottom_right[lower], top_right[lower]]
    return np.concatenate([np.stack(above, axis=1), np.stack(below, axis=1)])


def corners(grid: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Of every two by two pixels the top left, top right, bottom left and bottom right one."""
    return grid[:-1, :-1], grid[:-1, 1:], grid[1:, :-1], grid[1:, 1:]


def _is_flat(first: NDArray[Any], second: NDArray[Any], third: NDArray[Any], most: float) -> NDArray[np.bool_]:
    high = np.maximum(np.maximum(first, second), third)
    kept: NDArray[np.bool_] = high - np.minimum(np.minimum(first, second), third) <= most
    return kept


def _simplified(sheet: GridMesh, limit: int) -> GridMesh:
    """Return about `limit` triangles in the place of more; more than that where edges do not allow it."""
    from fast_simplification import simplify

    (height, width), wrap = sheet.shape, sheet.projection.wrap
    relief = _RELIEF * focal_length(sheet.projection, width) * float(np.quantile(sheet.distance, 0.01))
    inverse = 1 / sheet.distance
    ring = width / (2 * np.pi) if wrap else None
    points, faces = simplify(
        _embedded(sheet.column, sheet.row, relief * inverse, ring), sheet.faces, target_count=limit
    )
    column, row, depth = _unembedded(points, ring)
    return _repaired(
        replace(
            sheet,
            column=column % width if wrap else column.clip(0, width - 1),
            row=row.clip(0, height - 1),
            distance=1 / (depth / relief).clip(inverse.min(), inverse.max()),
            faces=faces,
        )
    )


def _embedded(column: Floats, row: Floats, depth: Floats, ring: float | None) -> Floats:
    """Return (V, 3) places of vertices in simplification; those of a ring lie around a cylinder of that radius."""
    if ring is None:
        return np.stack([column, row, depth], axis=1)
    angle, radius = column / ring, ring + depth
    return np.stack([radius * np.cos(angle), row, radius * np.sin(angle)], axis=1)


def _unembedded(points: Floats, ring: float | None) -> tuple[Floats, Floats, Floats]:
    """Return column, row and depth of such places."""
    x, y, z = points.T
    return (x, y, z) if ring is None else (np.arctan2(z, x) * ring, y, np.hypot(x, z) - ring)


def _repaired(sheet: GridMesh) -> GridMesh:
    """Without the triangles that simplification has turned over, and with every edge in two triangles at most."""
    column, row = sheet.column[sheet.faces], sheet.row[sheet.faces]
    across, down = np.diff(column, axis=1), np.diff(row, axis=1)
    if sheet.projection.wrap:
        width = sheet.shape[1]
        across = (across + width / 2) % width - width / 2
    faces = sheet.faces[across[:, 1] * down[:, 0] > across[:, 0] * down[:, 1]]
    edges = directed_edges(faces, len(sheet.column))
    once = np.zeros(len(edges), bool)
    once[np.unique(edges, return_index=True)[1]] = True
    faces = faces[once.reshape(3, -1).all(axis=0)]
    used = _used(faces, len(sheet.column))
    faces = _renumbered(faces, used, len(sheet.column))
    return replace(sheet, column=sheet.column[used], row=sheet.row[used], distance=sheet.distance[used], faces=faces)


def _used(faces: NDArray[np.int32], vertices: int) -> NDArray[np.int64]:
    """Return the vertices that faces have, in order."""
    used = np.zeros(vertices, bool)
    used[faces] = True
    return np.flatnonzero(used)


def _renumbered(faces: NDArray[np.int32], used: NDArray[np.int64], vertices: int) -> NDArray[np.int32]:
    """Return faces by the places of their vertices in `used`."""
    place = np.zeros(vertices, np.int32)
    place[used] = np.arange(len(used))
    return place[faces]
