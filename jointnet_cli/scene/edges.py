"""Depth maps whose edges are steps: what a decoder blurs lies on neither side of an edge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

STEPS = 5
"""Pixels by which an edge is pulled together from each side."""

_STEEP = 1.14
"""Distances of neighbours that differ less are a slope."""

_BENT = 0.02
"""Part of the local range by which a bend differs from a slope."""


def sharpen_edges(disparity: Array, nearness: Callable[[Array], Array], *, wrap: bool = False) -> Array:
    """Return disparity (H, W) in [0, 1] whose blurred edges are steps: a shock filter (Kramer and Bruckner, 1975).

    Where a map is steep, `nearness` (1 / distance of disparity) differing by more than 14 % among neighbours, and bends, a
    pixel takes the least of its neighbours where the bend is hollow and the greatest where it bulges. Slopes, which are
    straight in disparity, stay, and so do steps. With `wrap` the last column is next to the first.
    """
    for _ in range(STEPS):
        low, high = (_around(disparity, either, wrap) for either in (np.minimum, np.maximum))
        smooth = _mean(_mean(disparity, wrap), wrap)
        bend = _mean(_mean(smooth, wrap), wrap) - smooth
        edge = (nearness(high) > _STEEP * nearness(low)) & (np.abs(bend) > _BENT * (high - low))
        disparity = np.where(edge, np.where(bend > 0, low, high), disparity)
    return disparity


def _mean(values: Array, wrap: bool) -> Array:
    """Of three by three pixels; beyond an open border slopes go on."""
    return _around(values, np.add, wrap, {"mode": "reflect", "reflect_type": "odd"}) / np.float32(9)


def _around(
    values: Array, combine: Callable[[Array, Array], Array], wrap: bool, beyond: Mapping[str, Any] | None = None
) -> Array:
    """Return three by three pixels combined; `beyond` is how an open border is padded, by default with itself."""
    for axis in (0, 1):
        sides = [(1, 1) if axis == along else (0, 0) for along in (0, 1)]
        padding = {"mode": "wrap"} if wrap and axis == 1 else beyond or {"mode": "edge"}
        padded = np.moveaxis(np.pad(values, sides, **padding), axis, 0)
        values = np.moveaxis(combine(combine(padded[:-2], padded[1:-1]), padded[2:]), 0, axis)
    return values
