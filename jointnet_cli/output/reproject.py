"""A scene as it is seen from somewhere else: triangles into a depth buffer, then the sky, then what nothing shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.output.rays import focal_length, pixels_of
from jointnet_cli.output.camera import Viewpoint
from jointnet_cli.output.fill import fill
from jointnet_cli.output.holes import farther_neighbour, summed
from jointnet_cli.output.occlusion import CUT
from jointnet_cli.output.patches import Patch, patches
from jointnet_cli.output.scene import Scene, Surface

NEAREST = 0.02
"""Metres in front of a camera from which on it sees."""
BEHIND = 0.98
"""What nearness of the second layer is taken times, so that the first wins where both lie in one place."""
_SLACK = np.float32(1e-3)  # of a pixel or of a triangle: what rounding may leave out between two that share an edge
_CANDIDATES = 1 << 20  # pixels looked at at once
_BLOCK = 1 << 20  # pixels coloured at once


@dataclass(frozen=True)
class Seen:
    """A picture of a scene."""

    image: NDArray[np.float32]
    """(H, W, 3) sRGB in [0, 1]."""
    distance: NDArray[np.float32]
    """(H, W) as its camera measures it; infinite for the sky, 0 where nothing was known."""
    filled: float
    """Share of its pixels that no layer shows although the scene's picture looks there: taken from beside them."""
    outside: NDArray[np.bool_]
    """(H, W), which pixels look past the edges of the scene's picture."""


class Reprojector:
    """A scene ready to be looked at, again and again. It holds about 100 bytes a pixel of the scene."""

    def __init__(self, scene: Scene, cut: float = CUT) -> None:
        self.scene = scene
        self._front = list(patches(scene.front, scene.projection, cut))
        self._behind: list[Patch] = []
        sky = np.isinf(scene.front.distance)
        image = scene.front.image
        if scene.behind is not None:
            shown = scene.behind.shown if scene.behind.shown is not None else np.ones_like(sky)
            # With what surrounds it from the front, so that there is no gap between the two.
            image = np.where(shown[..., None], scene.behind.image, image)
            distance = np.where(shown, scene.behind.distance, scene.front.distance)
            self._behind = list(patches(Surface(image, distance, shown), scene.projection, cut))
            sky |= shown & np.isinf(scene.behind.distance)
        self._is_sky = sky
        self._sky = fill(image, sky, wrap=scene.projection.wrap) if sky.any() else None

    def see(self, viewpoint: Viewpoint, *, samples: int = 1) -> Seen:
        """The scene from a viewpoint, `samples` x `samples` rays a pixel.

        Nearer hides farther, and everything hides the sky, which is so far away that it never shifts. Unseen pixels take
        the colour of the farther neighbour of their row, or the sky continued where that is sky. What looks past the
        edges of the scene's picture is continued from what is seen, the smoother the farther away.
        """
        camera = viewpoint.finer(samples) if samples > 1 else viewpoint
        nearness = np.zeros(camera.height * camera.width, np.float32)
        colours = np.zeros((len(nearness), 3), np.float32)
        for patch in self._front:
            draw(patch, camera, nearness, colours, 1.0)
        for patch in self._behind:
            draw(patch, camera, nearness, colours, BEHIND)
        distance = np.divide(1, nearness, out=np.zeros_like(nearness), where=nearness > 0)
        filled, outside = self._fill(camera, colours, distance)
        colours[outside] = 0
        size = camera.height, camera.width
        count = summed((~outside).astype(np.float32).reshape(size), samples)
        image = summed(colours.reshape(*size, 3), samples)
        image /= np.maximum(count, 1)[..., None]
        image = fill(image, count > 0, wrap=viewpoint.turn == viewpoint.width)
        distance = distance.reshape(size)[::samples, ::samples]
        return Seen(image, distance, float(filled.mean()), count == 0)

    def _fill(
        self, camera: Viewpoint, image: NDArray[np.float32], distance: NDArray[np.float32]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Colour in place what is not drawn: which pixels (N,) were filled, and which look past the picture's edges."""
        height, width = camera.height, camera.width
        filled, outside = np.zeros(len(distance), bool), np.zeros(len(distance), bool)
        unseen = np.flatnonzero(distance == 0)
        for block in np.array_split(unseen, len(unseen) // _BLOCK + 1):
            column, row, inside = self._source(camera, block)
            outside[block] = ~inside
            filled[block] = inside
            if self._sky is not None:
                clear = block[inside][self._is_sky[_nearest(row[inside]), _nearest(column[inside])]]
                distance[clear], filled[clear] = np.inf, False
        if filled.any():
            holes = np.flatnonzero(filled)
            beside = farther_neighbour(distance.reshape(height, width), holes, wrap=camera.turn == width)
            lonely = holes[beside < 0]
            filled[lonely], outside[lonely] = False, True
            holes, beside = holes[beside >= 0], beside[beside >= 0]
            image[holes], distance[holes] = image[beside], distance[beside]
        if self._sky is not None:
            sky = np.flatnonzero(np.isinf(distance))
            for block in np.array_split(sky, len(sky) // _BLOCK + 1):
                column, row, _ = self._source(camera, block)
                image[block] = _sampled(self._sky, column, row, self.scene.projection.wrap)
        return filled, outside

    def _source(
        self, camera: Viewpoint, pixels: NDArray[np.int64]
    ) -> tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.bool_]]:
        """Column and row of the scene's picture in whose direction pixels (N,) look, and whether it reaches so far."""
        height, width = self.scene.front.distance.shape
        rows, columns = np.divmod(pixels.astype(np.int32), np.int32(camera.width))
        directions = camera.directions(columns.astype(np.float32), rows.astype(np.float32))
        column, row, ahead = pixels_of(directions, self.scene.projection, height, width)
        if self.scene.projection.wrap:
            column = np.mod(column + 0.5, width) - 0.5
        inside = (ahead > 0) & (np.abs(row - height / 2 + 0.5) <= height / 2)
        inside &= np.abs(column - width / 2 + 0.5) <= width / 2
        return np.clip(column, -0.49, width - 0.51), np.clip(row, -0.49, height - 0.51), inside


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
    """Every pixel of boxes of `columns` x `rows` (N,): which box, and its column and row in there."""
    box, down = _counted(rows)
    again, across = _counted(columns[box])
    return box[again], across, down[again]


def _counted(counts: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """`i` as often as `counts[i]` says, and beside it 0, 1, 2 …"""
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


def _nearest(position: NDArray[np.floating]) -> NDArray[np.int64]:
    return np.rint(position).astype(np.int64)


def _sampled(
    image: NDArray[np.float32], column: NDArray[np.floating], row: NDArray[np.floating], wrap: bool
) -> NDArray[np.float32]:
    """(N, 3) between the four pixels around each position."""
    height, width = image.shape[:2]
    left, top = np.floor(column).astype(np.int64), np.floor(row).astype(np.int64)
    across, down = (column - left).astype(np.float32)[:, None], (row - top).astype(np.float32)[:, None]
    right, bottom = left + 1, np.minimum(top + 1, height - 1)
    left, right = (left % width, right % width) if wrap else (np.maximum(left, 0), np.minimum(right, width - 1))
    top = np.maximum(top, 0)
    above = image[top, left] * (1 - across) + image[top, right] * across
    below = image[bottom, left] * (1 - across) + image[bottom, right] * across
    return above * (1 - down) + below * down
