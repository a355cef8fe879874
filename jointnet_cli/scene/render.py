"""Render a scene from any camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.scene.cameras import Viewpoint, pixels_of
from jointnet_cli.scene.layers import fill_smoothly
from jointnet_cli.scene.rasterize import _BLOCK, Patch, draw, patches
from jointnet_cli.scene.scene import Layer, Scene

BEHIND = 0.98
"""What nearness of the second layer is taken times, so that the first wins where both lie in one place."""


@dataclass(frozen=True)
class RenderedView:
    """An image of a scene."""

    image: NDArray[np.float32]
    """(H, W, 3) sRGB in [0, 1]."""
    distance: NDArray[np.float32]
    """(H, W) as its camera measures it; infinite for the sky, 0 where nothing was known."""
    filled: float
    """Share of its pixels that no layer shows although the scene's image looks there: taken from beside them."""
    outside: NDArray[np.bool_]
    """(H, W), which pixels look past the edges of the scene's image."""


class Renderer:
    """A scene ready to be looked at, again and again. It holds about 100 bytes a pixel of the scene."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._front = list(patches(scene.front, scene.projection))
        self._behind: list[Patch] = []
        sky = np.isinf(scene.front.distance)
        image = scene.front.image
        if scene.behind is not None:
            shown = scene.behind.shown if scene.behind.shown is not None else np.ones_like(sky)
            # With what surrounds it from the front, so that there is no gap between the two.
            image = np.where(shown[..., None], scene.behind.image, image)
            distance = np.where(shown, scene.behind.distance, scene.front.distance)
            self._behind = list(patches(Layer(image, distance, shown), scene.projection))
            sky |= shown & np.isinf(scene.behind.distance)
        self._is_sky = sky
        self._sky = fill_smoothly(image, sky, wrap=scene.projection.wrap) if sky.any() else None

    def see(self, viewpoint: Viewpoint, *, samples: int = 1) -> RenderedView:
        """Return the scene from a viewpoint, `samples` x `samples` rays a pixel.

        Nearer hides farther, and everything hides the sky, which is so far away that it never shifts. Unseen pixels take
        the colour of the farther neighbour of their row, or the sky continued where that is sky. What looks past the
        edges of the scene's image is continued from what is seen, the smoother the farther away.
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
        image = fill_smoothly(image, count > 0, wrap=viewpoint.turn == viewpoint.width)
        distance = distance.reshape(size)[::samples, ::samples]
        return RenderedView(image, distance, float(filled.mean()), count == 0)

    def _fill(
        self, camera: Viewpoint, image: NDArray[np.float32], distance: NDArray[np.float32]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Colour in place what is not drawn: which pixels (N,) were filled, and which look past the image's edges."""
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
        """Column and row of the scene's image in whose direction pixels (N,) look, and whether it reaches so far."""
        height, width = self.scene.front.distance.shape
        rows, columns = np.divmod(pixels.astype(np.int32), np.int32(camera.width))
        directions = camera.directions(columns.astype(np.float32), rows.astype(np.float32))
        column, row, ahead = pixels_of(directions, self.scene.projection, height, width)
        if self.scene.projection.wrap:
            column = np.mod(column + 0.5, width) - 0.5
        inside = (ahead > 0) & (np.abs(row - height / 2 + 0.5) <= height / 2)
        inside &= np.abs(column - width / 2 + 0.5) <= width / 2
        return np.clip(column, -0.49, width - 0.51), np.clip(row, -0.49, height - 0.51), inside


def _nearest(position: NDArray[np.floating]) -> NDArray[np.int64]:
    nearest: NDArray[np.int64] = np.rint(position).astype(np.int64)
    return nearest


def _sampled(
    image: NDArray[np.float32], column: NDArray[np.floating], row: NDArray[np.floating], wrap: bool
) -> NDArray[np.float32]:
    """Return (N, 3) between the four pixels around each position."""
    height, width = image.shape[:2]
    left, top = np.floor(column).astype(np.int64), np.floor(row).astype(np.int64)
    across, down = (column - left).astype(np.float32)[:, None], (row - top).astype(np.float32)[:, None]
    right, bottom = left + 1, np.minimum(top + 1, height - 1)
    left, right = (left % width, right % width) if wrap else (np.maximum(left, 0), np.minimum(right, width - 1))
    top = np.maximum(top, 0)
    above = image[top, left] * (1 - across) + image[top, right] * across
    below = image[bottom, left] * (1 - across) + image[bottom, right] * across
    mixed: NDArray[np.float32] = above * (1 - down) + below * down
    return mixed


def summed(values: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Return (H / side, W / side, ...) sums of squares of `side` x `side` values (H, W, ...)."""
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
