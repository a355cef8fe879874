"""A scene: an image with distances, the source of meshes, viewer, stereo images and clips."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.errors import UserError
from jointnet_cli.files.text import decode_text, read_bytes
from jointnet_cli.projection import Projection
from jointnet_cli.scene.edges import sharpen_edges

NEAR, FAR = 1.0, 30.0
"""Metres of disparity 1 and 0 where the scale is unknown: an assumption that shapes the scene."""

CLOSEST, FARTHEST = 1e-6, 1e9
"""Metres that a scale may reach: float32 holds them and their inverses."""

SKY = 0.01
"""Disparity up to which a pixel is sky: VAEs decode 0 to about this."""

_LEAST_SPREAD = 1e-3  # of disparity: below, a fit says nothing

_LEAST_SHIFT = 1e-3  # in units of the nearest known point's 1 / distance

_HEADING = ["x", "y", "distance"]


@dataclass(frozen=True)
class DepthScale:
    """Scale of relative disparity in metres: distance = 1 / (scale * disparity + shift)."""

    scale: float
    """1 / metres."""
    shift: float
    """1 / metres, positive."""
    origin: str
    """Source, for records: `assumed`, `given`, `fitted` or `file`."""

    @classmethod
    def from_range(cls, near: float = NEAR, far: float = FAR, origin: str = "assumed") -> DepthScale:
        """Return the scale with disparity 1 at `near` metres and 0 at `far`.

        Raises:
            UserError: not 0 < near < far, or `far` is infinite.
        """
        if not 0 < near < far < math.inf:
            message = f"--near must be positive and less than --far, got {near:g} and {far:g}"
            raise UserError(message, f"give both in metres, such as --near {NEAR:g} --far {FAR:g}")
        _require_metres(near, far)
        return cls(1 / near - 1 / far, 1 / far, origin)

    @classmethod
    def from_scale(cls, scale: float, shift: float) -> DepthScale:
        """Return 1 / distance = scale * disparity + shift, both in 1 / metres.

        Raises:
            UserError: one of them is not above 0.
        """
        if not (0 < scale < math.inf and 0 < shift < math.inf):
            raise UserError(
                f"a depth scale of {scale:g} and shift of {shift:g} give no distances",
                "both are above 0: the shift is 1 / the farthest distance, scale + shift 1 / the nearest",
            )
        _require_metres(1 / (scale + shift), 1 / shift)
        return cls(scale, shift, "given")

    @classmethod
    def fit(cls, disparity: NDArray[np.floating], known: NDArray[np.floating]) -> DepthScale:
        """Return the scale that fits known distances best, by least squares in 1 / distance.

        Where the fit puts disparity 0 at infinity or beyond, it lies 1000 times as far as the nearest known point.

        Args:
            disparity: (H, W) in [0, 1].
            known: (N, 3) column, row, distance; the first pixel is 0, 0. Distances are metres, or what metres are to be.

        Raises:
            UserError: a point outside of the image, fewer than two that differ in disparity, or distances that grow with
                disparity or are beyond all metres.
        """
        height, width = disparity.shape
        columns, rows = np.floor(known[:, :2].T + 0.5).astype(int)
        for column, row in zip(columns, rows, strict=True):
            if not (0 <= column < width and 0 <= row < height):
                raise UserError(
                    f"a distance is known at {column}, {row}, outside of the image of {width} x {height} pixels",
                    "x and y are pixels from the top left corner, from 0",
                )
        nearness, inverse = np.asarray(disparity[rows, columns], np.float64), 1 / known[:, 2].astype(np.float64)
        if len(known) < 2 or np.ptp(nearness) < _LEAST_SPREAD:
            raise UserError(
                "the known distances lie at one disparity",
                "give at least two points, one near and one far",
            )
        unit = inverse.max()
        (scale, shift), *_ = np.linalg.lstsq(np.stack([nearness, np.ones_like(nearness)], 1), inverse / unit)
        if shift < _LEAST_SHIFT:
            shift = _LEAST_SHIFT
            scale = nearness @ (inverse / unit - shift) / (nearness @ nearness)
        if scale <= 0:
            raise UserError(
                "the known distances grow where the depth map says nearer",
                "check the order x,y,distance, and that the values are distances, not disparities",
            )
        fitted = cls(float(scale * unit), float(shift * unit), "fitted")
        _require_metres(fitted.near, fitted.far, "give the known distances in metres")
        return fitted

    @property
    def near(self) -> float:
        """Metres of disparity 1."""
        return 1 / (self.scale + self.shift)

    @property
    def far(self) -> float:
        """Metres of disparity 0."""
        return 1 / self.shift

    def nearness(self, disparity: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return 1 / metres (H, W) of relative disparity (H, W)."""
        return disparity * np.float32(self.scale) + np.float32(self.shift)

    def distance(self, disparity: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return metres (H, W) of relative disparity (H, W) in [0, 1]."""
        return (1 / (np.asarray(disparity, np.float64) * self.scale + self.shift)).astype(np.float32)

    def disparity(self, distance: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return relative disparity (H, W) of metres (H, W), the inverse of `distance`; below 0 beyond `far`."""
        return ((1 / np.asarray(distance, np.float64) - self.shift) / self.scale).astype(np.float32)


@dataclass(frozen=True)
class Layer:
    """Colours and distances of the pixels of an image."""

    image: NDArray[np.float32]
    """(H, W, 3) sRGB in [0, 1]."""
    distance: NDArray[np.float32]
    """(H, W) metres, planar Z or from the vertical axis as the projection says; infinite for the sky."""
    shown: NDArray[np.bool_] | None = None
    """(H, W), pixels that belong to the layer; `None` is all."""


@dataclass(frozen=True)
class Scene:
    """An image with depth as one or two layers."""

    front: Layer
    """The visible surface."""
    behind: Layer | None
    """The occluded regions close to the edges of the front, of the same size; shown where `shown` is true."""
    projection: Projection
    scale: DepthScale


def _require_metres(near: float, far: float, hint: str = f"such as --near {NEAR:g} --far {FAR:g}") -> None:
    if not (near >= CLOSEST and far <= FARTHEST):
        message = f"distances from {near:g} to {far:g} metres are not between {CLOSEST:g} and {FARTHEST:g}"
        raise UserError(message, hint)


def scene_of(
    image: NDArray[np.float32],
    disparity: NDArray[np.float32],
    projection: Projection,
    scale: DepthScale,
    *,
    sky: float = SKY,
    sharpen: bool = False,
) -> Scene:
    """Return a scene of one layer.

    Args:
        image: (H, W, 3) sRGB in [0, 1].
        disparity: (H, W) in [0, 1], near = 1.
        projection: how pixels map to directions.
        scale: what disparity means in metres.
        sky: disparity up to which a pixel is sky; negative for none.
        sharpen: whether edges become steps (`edges.sharpen_edges`).

    Raises:
        ValueError: the sizes differ.
    """
    if image.shape[:2] != disparity.shape:
        raise ValueError(f"the image is {image.shape[:2]} and the disparity {disparity.shape}")
    if sharpen:
        disparity = sharpen_edges(disparity, scale.nearness, wrap=projection.wrap)
    distance = np.where(disparity > sky, scale.distance(disparity), np.inf).astype(np.float32)
    return Scene(Layer(image, distance), None, projection, scale)


def read_known_distances(path: Path) -> NDArray[np.float64]:
    """Read known distances (N, 3) from a CSV file of lines `x,y,distance`; skip a heading, blank lines and `#` lines.

    Raises:
        UserError: a file that cannot be read, is empty, or has another line.
    """
    try:
        lines = decode_text(read_bytes(path, pipes=True)).splitlines()
    except (OSError, UnicodeDecodeError) as fault:
        raise UserError(
            f"{path} cannot be read: {fault}", "a text file with a line x,y,distance for each point"
        ) from None
    points: list[tuple[float, float, float]] = []
    for number, line in enumerate(lines, 1):
        words = [word.strip() for word in line.split(",")]
        if not line.strip() or line.startswith("#") or (not points and [word.lower() for word in words] == _HEADING):
            continue
        try:
            x, y, distance = map(float, words)
        except ValueError:
            raise UserError(
                f"{path}, line {number}: {line.strip()!r} is not x,y,distance", "such as 120,64,3.5"
            ) from None
        if not (CLOSEST <= distance <= FARTHEST and math.isfinite(x) and math.isfinite(y)):
            hint = f"distances are between {CLOSEST:g} and {FARTHEST:g} metres"
            raise UserError(f"{path}, line {number}: {words[2]} is not a distance", hint)
        points.append((x, y, distance))
    if not points:
        raise UserError(f"{path} holds no known distances", "a line x,y,distance for each, such as 120,64,3.5")
    return np.array(points)
