"""The sky: a surface beyond everything else, and its picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.output.fill import fill
from jointnet_cli.output.rays import points_of
from jointnet_cli.output.scene import Scene
from jointnet_cli.output.simplify import corners

_FADE = 16
"""Rows above and below the picture of a ring in which its edges fade to their mean colour, at the zenith and the nadir."""
_ACROSS = 128
"""Columns at most: its flat pieces then bend the picture by two millionths of a radian."""
_DOWN = 32
"""Rows at most: one is exact, but where vertices have colours and no texture more show more."""


@dataclass(frozen=True)
class Dome:
    """Triangles with a texture."""

    points: NDArray[np.float32]
    """(V, 3) metres."""
    uv: NDArray[np.float64]
    """(V, 2), the origin at the bottom left corner of the texture."""
    faces: NDArray[np.int32]
    """(F, 3) vertices, counter-clockwise as the viewer sees them."""
    image: NDArray[np.float32]
    """(H', W, 3) sRGB in [0, 1]."""


def dome_of(scene: Scene, distance: float, limit: int) -> Dome | None:
    """The sky of both layers at a distance; `None` for an open picture in which there is none.

    Behind everything else it goes on smoothly. That of a ring is closed above and below; without sky it shows the picture
    itself, which is what cracks in its surfaces are best filled with.

    Args:
        scene: what is seen.
        distance: metres, as the projection counts them.
        limit: triangles, at least 12.
    """
    wrap, (height, width) = scene.projection.wrap, scene.front.distance.shape
    image, sky = _sky(scene)
    if not sky.any():
        if not wrap:
            return None
        sky[:] = True
    image = fill(image, sky, wrap=wrap)
    across = max(3, min(_ACROSS, width, int((limit * width / height / 2) ** 0.5)))
    down = max(1, min(_DOWN, across * height // width, limit // (2 * across) - 1))
    columns, rows = np.linspace(-0.5, width - 0.5, across + 1), np.linspace(-0.5, height - 0.5, down + 1)
    margin, axis = 0, np.ones(len(rows))  # `axis`: how far from the vertical axis a row lies, 0 at the poles
    if wrap:
        margin, image = _FADE, _faded(image)
        rows, axis = np.pad(rows, 1, mode="edge"), np.pad(axis, 1)
    column, row = np.meshgrid(columns, rows)
    points = points_of(column, row, np.full(row.shape, distance), scene.projection, (height, width))
    points[..., [0, 2]] *= axis[:, None, None]
    below = rows + margin + 0.5
    if wrap:
        below[0], below[-1] = 0, height + 2 * margin
    u, v = np.meshgrid((columns + 0.5) / width, 1 - below / (height + 2 * margin))
    return Dome(
        points.reshape(-1, 3).astype(np.float32),
        np.stack([u, v], axis=-1).reshape(-1, 2),
        _quads(len(rows), len(columns), poles=wrap),
        image,
    )


def _sky(scene: Scene) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The picture's colours with those of the second layer where that has sky, and where there is sky."""
    front, behind = scene.front, scene.behind
    sky = np.isinf(front.distance)
    if behind is None:
        return front.image, sky
    hidden = np.isinf(behind.distance) & ~sky
    if behind.shown is not None:
        hidden &= behind.shown
    return np.where(hidden[..., None], behind.image, front.image), sky | hidden


def _faded(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """A picture with rows above and below that fade from its own edge to the edge's mean colour."""
    part = (np.arange(_FADE, dtype=np.float32)[:, None, None] + 1) / _FADE
    above, below = (edge + part * (edge.mean(axis=0) - edge) for edge in (image[0], image[-1]))
    return np.concatenate([above[::-1], image, below])


def _quads(rows: int, columns: int, *, poles: bool) -> NDArray[np.int32]:
    """Two triangles for each quad of a grid; one where its first or last row is a pole."""
    index = np.arange(rows * columns, dtype=np.int32).reshape(rows, columns)
    top_left, top_right, bottom_left, bottom_right = corners(index)
    lower, upper = (
        np.stack([top_left, bottom_left, bottom_right], -1),
        np.stack([top_left, bottom_right, top_right], -1),
    )
    if poles:
        lower, upper = lower[:-1], upper[1:]
    return np.concatenate([lower.reshape(-1, 3), upper.reshape(-1, 3)])
