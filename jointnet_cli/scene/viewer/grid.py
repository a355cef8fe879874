"""What a page needs of a surface's distances: a grid of vertices in 16 bits, and a blurred backdrop for its holes."""

from __future__ import annotations

import zlib
from base64 import b64encode
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.scene.scene import Layer, Scene

MAX_VERTICES = 600_000
"""What a phone still turns smoothly."""

HIDDEN, SKY, FIRST, LAST = 0, 1, 2, 65535
"""Codes: not part of the surface, infinitely far, and the distances from nearest to farthest between the last two."""

BACKDROP_WIDTH, _REDUCED_WIDTH = 256, 1024

_TONES = (0.005, 0.995)
"""Quantiles of disparity at which the colours of depth end, so that no single pixel decides them."""


def spread(last: int, count: int) -> NDArray[np.int64]:
    """Return `count` whole numbers from 0 to `last`, both included, as even as can be; the page computes the same."""
    steps = count - 1
    return (2 * np.arange(count, dtype=np.int64) * last + steps) // (2 * steps)


def grid(scene: Scene, max_vertices: int = MAX_VERTICES) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows and columns of pixels that become vertices; where the image wraps, the last column is the width."""
    height, width = scene.front.distance.shape
    shrink = min(1.0, (max_vertices / (height * width)) ** 0.5)
    rows = spread(height - 1, max(2, int(height * shrink)))
    if scene.projection.wrap:
        return rows, spread(width, max(3, int(width * shrink)) + 1)
    return rows, spread(width - 1, max(2, int(width * shrink)))


def encode(surface: Layer, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> dict[str, Any]:
    """Return a surface at those pixels: `low` and `high` in metres, and `codes`, deflated and in base64.

    A code between `FIRST` and `LAST` is a distance between `low` and `high`, in even steps of its logarithm: of 1 to 30
    metres every one within 0.003 %. Stored are the differences along each row, first the low bytes, then the high ones.
    """
    pixels = np.ix_(rows, columns % surface.distance.shape[1])
    distance = surface.distance[pixels].astype(np.float64)
    hit = np.isfinite(distance)
    low, high = (float(distance[hit].min()), float(distance[hit].max())) if hit.any() else (1.0, 1.0)
    steps = np.log(np.where(hit, distance, low) / low) * (LAST - FIRST) / max(np.log(high / low), 1e-9)
    codes = np.where(hit, FIRST + np.rint(steps), SKY)
    if surface.shown is not None:
        codes = np.where(surface.shown[pixels], codes, HIDDEN)
    changes = np.diff(codes.astype(np.int64), axis=1, prepend=0).astype(np.uint16)
    planes = np.concatenate([(changes & 255).ravel(), (changes >> 8).ravel()]).astype(np.uint8)
    return {"low": low, "high": high, "codes": b64encode(zlib.compress(planes.tobytes())).decode()}


def reduced(scene: Scene) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return the front's image (h, w, 3) and relative disparity (h, w), 0 in the sky, at every so many pixels."""
    step = max(1, scene.front.distance.shape[1] // _REDUCED_WIDTH)
    inverse = 1 / scene.front.distance[::step, ::step].astype(np.float64)
    disparity = np.where(inverse > 0, (inverse - scene.scale.shift) / scene.scale.scale, 0)
    return scene.front.image[::step, ::step], disparity


def tones(disparity: NDArray[np.float64]) -> tuple[float, float]:
    """Return the disparities (h, w) that are shown as farthest and nearest colour."""
    low, high = (float(value) for value in np.quantile(disparity, _TONES))
    return (low, high) if high > low else (0.0, 1.0)


def backdrop(image: NDArray[np.float32], disparity: NDArray[np.float64], *, wrap: bool) -> NDArray[np.float32]:
    """Return how an image may go on behind what is near and beyond its edges, blurred: (2 * h, w, 3), w at most 256.

    Above are colours, below disparities as grey. The far counts more, and so does the image's edge close to it.
    """
    height, width = disparity.shape
    disparity = np.clip(disparity, 0, 1)
    rows, columns = (np.minimum(np.arange(side), np.arange(side)[::-1])[:, None] for side in (height, width))
    inside = rows if wrap else np.minimum(rows, columns.T)
    weight = 1 / (0.02 + disparity * np.minimum(1, inside / (0.1 * height)) ** 2) ** 2
    values = np.concatenate([image, disparity[..., None]], axis=-1)
    weighted = np.concatenate([values * weight[..., None], weight[..., None]], axis=-1)
    shrink = min(1.0, BACKDROP_WIDTH / width)
    for axis, side in ((0, height), (1, width)):
        count = max(2, round(side * shrink))
        weighted = np.add.reduceat(weighted, np.arange(count) * side // count, axis=axis)
        weighted = _blur(weighted, axis, wrap=axis == 1 and wrap)
    mean = (weighted[..., :4] / weighted[..., 4:]).astype(np.float32)
    return np.concatenate([mean[..., :3], np.repeat(mean[..., 3:], 3, axis=-1)])


def _blur(values: NDArray[np.float64], axis: int, *, wrap: bool) -> NDArray[np.float64]:
    """Return a Gaussian of two samples along an axis."""
    radius = 6
    pad = [(0, 0)] * values.ndim
    pad[axis] = (radius, radius)
    padded = np.pad(values, pad, mode="wrap" if wrap else "edge")
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / 2) ** 2)
    side = values.shape[axis]
    pieces = (weight * padded.take(range(at, at + side), axis) for at, weight in enumerate(weights))
    return np.asarray(sum(pieces) / weights.sum())
