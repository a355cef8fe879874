"""Walls around a surface, which make a solid of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.output.simplify import Sheet, directed_edges

_APART = 1e-4
"""How far pieces that touch in one vertex are moved apart, in units of its distance: their walls would share an edge there."""


def closed(front: Callable[[int], Sheet], back: float, limit: int) -> tuple[Sheet, Sheet]:
    """A surface and its skirt: walls from all its edges to a back beyond it, of `limit` triangles together.

    Args:
        front: makes the surface of at most so many triangles.
        back: metres.
        limit: triangles, at least 16.
    """
    allowed = limit // 2
    while True:
        sheet, piece = _parted(front(allowed))
        walls = _skirt(sheet, back * (1 + _APART * piece))
        count = len(sheet.faces) + len(walls.faces)
        if count <= limit:
            return sheet, walls
        allowed = int(0.95 * allowed * limit / count)


def _skirt(sheet: Sheet, back: NDArray[Any]) -> Sheet:
    """The surface once more at its back, seen from behind, and two triangles from each edge to there."""
    count = len(sheet.column)
    start, end = _border(sheet)
    walls = [np.stack([start, start + count, end], axis=1), np.stack([end, start + count, end + count], axis=1)]
    return replace(
        sheet,
        column=np.tile(sheet.column, 2),
        row=np.tile(sheet.row, 2),
        distance=np.concatenate([sheet.distance, back]),
        faces=np.concatenate([sheet.faces[:, ::-1] + count, *walls]).astype(np.int32),
    )


def _border(sheet: Sheet) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """From and to of the edges that one triangle has alone, in its direction."""
    count = len(sheet.column)
    start, end = np.divmod(directed_edges(sheet.faces, count), max(count, 1))
    alone = ~np.isin(start * count + end, end * count + start)
    return start[alone], end[alone]


def _parted(sheet: Sheet) -> tuple[Sheet, NDArray[np.int64]]:
    """A vertex of its own for every piece that touches others in one vertex alone, and the pieces' numbers (V,), from 0."""
    count = len(sheet.column)
    touched = np.bincount(_border(sheet)[0], minlength=count) > 1
    corners = np.flatnonzero(touched[sheet.faces.ravel()])
    around: dict[int, dict[int, tuple[int, int]]] = {}
    for corner in corners.tolist():
        face, place = divmod(corner, 3)
        vertex, after, before = (int(sheet.faces[face, (place + step) % 3]) for step in range(3))
        around.setdefault(vertex, {})[after] = before, corner
    faces, vertices, pieces = sheet.faces.copy(), list(range(count)), [0] * count
    for vertex, fans in around.items():
        inner = {before for before, _ in fans.values()}
        for piece, first in enumerate(after for after in fans if after not in inner):
            if piece == 0:
                continue
            while first in fans:
                first, corner = fans[first]
                faces.flat[corner] = len(vertices)
            vertices.append(vertex)
            pieces.append(piece)
    number = np.array(pieces)
    parted = replace(
        sheet,
        column=sheet.column[vertices],
        row=sheet.row[vertices],
        distance=sheet.distance[vertices] * (1 + _APART * number),
        faces=faces,
    )
    return parted, number
