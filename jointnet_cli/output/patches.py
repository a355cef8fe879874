"""A surface as triangles with a colour at each corner, a piece at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.output.camera import Camera
from jointnet_cli.output.occlusion import CUT
from jointnet_cli.output.scene import Surface
from jointnet_cli.tasks import Projection

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
    """Vertices (h, w) of a part of the picture, one a pixel and one more on the picture's own edges."""

    nearness: NDArray[np.float32]
    """(h, w) 1 / metres, 0 for the sky."""
    rays: NDArray[np.float32]
    """(h, w, 3)"""
    colours: NDArray[np.float32]
    """(h, w, 3)"""
    shown: NDArray[np.bool_]
    """(h, w)"""


def patches(surface: Surface, projection: Projection, cut: float = CUT) -> Iterator[Patch]:
    """Triangles between the centres of four pixels each, and out to the picture's edges.

    Where the four are of different distances, by more than `cut` times, they are torn: each pixel keeps its own quarter,
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
            patch = _patch(grid, cut)
            if patch.faces.size:
                yield patch


def _centres(count: int, closed: bool) -> NDArray[np.float64]:
    """Positions of vertices along an axis: pixel centres, and either the first one again or both edges."""
    inner = np.arange(count + closed, dtype=np.float64)
    return inner if closed else np.concatenate([[-0.5], inner, [count - 0.5]])


def _column(column: NDArray[np.float64], width: int, wrap: bool) -> NDArray[np.int64]:
    nearest = np.rint(column).astype(np.int64)
    return nearest % width if wrap else np.clip(nearest, 0, width - 1)


def _quads(values: NDArray[_Scalar]) -> NDArray[_Scalar]:
    """(4, h - 1, w - 1, ...) the corners of each cell: top left, top right, bottom right, bottom left."""
    return np.stack([values[:-1, :-1], values[:-1, 1:], values[1:, 1:], values[1:, :-1]])


def _patch(grid: _Grid, cut: float) -> Patch:
    nearness = _quads(grid.nearness)
    nearest, farthest = nearness.max(0), nearness.min(0)
    there = (nearest > 0) & _quads(grid.shown).any(0)
    whole = there & (nearest <= cut * farthest)
    index = _quads(np.arange(grid.nearness.size, dtype=np.int32).reshape(grid.nearness.shape))
    corners = index[:, whole]
    points = grid.rays.reshape(-1, 3) / np.where(grid.nearness > 0, grid.nearness, 1).reshape(-1, 1)
    torn = index[:, there & ~whole]
    quarters = [_quarter(grid, torn, corner, cut) for corner in range(4)]
    first = len(points) + np.cumsum([0, *(len(quarter[0]) for quarter in quarters)], dtype=np.int32)
    own = [np.arange(start, end, dtype=np.int32).reshape(4, -1) for start, end in pairwise(first)]
    corners = np.concatenate([corners, *own], axis=1)
    return Patch(
        np.concatenate([points, *(quarter[0] for quarter in quarters)]),
        np.concatenate([grid.colours.reshape(-1, 3), *(quarter[1] for quarter in quarters)]),
        np.concatenate([corners[[0, 1, 2]], corners[[0, 2, 3]]], axis=1).astype(np.int32),
    )


def _quarter(
    grid: _Grid, torn: NDArray[np.int32], corner: int, cut: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Points and colours (4 K, 3) of the quarters next to one corner of torn cells (4, K)."""
    near = grid.nearness.reshape(-1)[torn]
    keep = (near[corner] > 0) & grid.shown.reshape(-1)[torn[corner]]
    torn, near = torn[:, keep], near[:, keep]
    rays, colours = grid.rays.reshape(-1, 3)[torn], grid.colours.reshape(-1, 3)[torn]
    together = (np.maximum(near, near[corner]) <= cut * np.minimum(near, near[corner])).astype(np.float32)
    # The corner itself, the middles of its two edges and the middle of the cell, in order around the quarter.
    points, tints = [], []
    for others in ([corner], [corner, (corner + 1) % 4], [0, 1, 2, 3], [corner, (corner - 1) % 4]):
        weight = together[others] / together[others].sum(0)
        points.append(rays[others].mean(0) / (weight * near[others]).sum(0)[:, None])
        tints.append((weight[..., None] * colours[others]).sum(0))
    return np.concatenate(points), np.concatenate(tints)
