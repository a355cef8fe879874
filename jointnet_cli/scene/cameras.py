"""Rays, pixels and cameras."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.projection import Projection


def focal_length(projection: Projection, width: int) -> float:
    """Return pixels per unit of height on the image plane, or on the unit cylinder."""
    span = np.radians(projection.span)
    return float(width / span if projection.kind == "cylindrical" else width / (2 * np.tan(span / 2)))


def rays(projection: Projection, height: int, width: int) -> NDArray[np.float32]:
    """(H, W, 3) direction of each pixel's centre, of length 1 from the axis (cylindrical) or along -z (perspective).

    x is right, y up, -z forward: times an image's distances they are its points.
    """
    focal = focal_length(projection, width)
    x = (np.arange(width) + 0.5 - width / 2) / focal
    y = (height / 2 - np.arange(height) - 0.5) / focal
    directions = np.empty((height, width, 3), np.float32)
    if projection.kind == "cylindrical":
        directions[..., 0], directions[..., 2] = np.sin(x), -np.cos(x)
    else:
        directions[..., 0], directions[..., 2] = x, -1
    directions[..., 1] = y[:, None]
    return directions


def points_of(
    column: NDArray[np.floating],
    row: NDArray[np.floating],
    distance: NDArray[np.floating],
    projection: Projection,
    shape: tuple[int, int],
) -> NDArray[np.float64]:
    """Points (..., 3) that lie at a distance where an image of `shape` (H, W) shows them, also between its pixels.

    The centre of the first pixel is column 0, row 0.
    """
    height, width = shape
    focal = focal_length(projection, width)
    x, y = (column + 0.5 - width / 2) / focal, (height / 2 - row - 0.5) / focal
    across, ahead = (np.sin(x), np.cos(x)) if projection.kind == "cylindrical" else (x, np.ones_like(x))
    return np.stack([across * distance, y * distance, -ahead * distance], axis=-1)


def pixels_of(
    points: NDArray[np.floating], projection: Projection, height: int, width: int
) -> tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.floating]]:
    """Column, row and distance, each (...), at which points (..., 3) are seen from the origin; the inverse of `rays`.

    The centre of the first pixel is column 0, row 0. What lies behind a perspective camera has a distance of 0 or less.
    """
    x, y, ahead = points[..., 0], points[..., 1], -points[..., 2]
    focal = focal_length(projection, width)
    if projection.kind == "cylindrical":
        distance, across = np.hypot(x, ahead), np.arctan2(x, ahead)
    else:
        distance = ahead
        across = x / np.where(ahead > 0, ahead, np.inf)
    upward = y / np.where(distance > 0, distance, np.inf)
    return across * focal + width / 2 - 0.5, height / 2 - 0.5 - upward * focal, distance


Point = tuple[float, float, float]
"""Metres: x right, y up, -z forward."""

ORIGIN: Point = (0.0, 0.0, 0.0)


class Viewpoint(Protocol):
    """What an image of `height` x `width` pixels is taken with. Pixel centres are whole numbers, from 0."""

    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def turn(self) -> float | None:
        """Columns of a full circle; `None` for a pinhole."""
        ...

    def pixels_of(self, points: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        """Return column, row and distance, each (N,), of points (N, 3); a distance of 0 or less is not seen."""
        ...

    def directions(self, column: NDArray[np.float32], row: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (..., 3) where pixels (...) look, in the scene's axes; of any length."""
        ...

    def finer(self, times: int) -> Self:
        """Return the same view in pixels of 1 / `times` the size."""
        ...


@dataclass(frozen=True)
class Camera:
    """A pinhole camera or a cylinder, as `projection` says, anywhere. Distances are as in images of its kind."""

    projection: Projection
    height: int
    width: int
    position: Point = ORIGIN
    yaw: float = 0.0
    """Degrees to the right."""
    pitch: float = 0.0
    """Degrees upward."""

    @property
    def turn(self) -> float | None:
        return self.width * 360 / self.projection.span if self.projection.kind == "cylindrical" else None

    def pixels_of(self, points: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        turned = (points - np.asarray(self.position, np.float32)) @ self._axes().T
        return pixels_of(turned, self.projection, self.height, self.width)

    def directions(self, column: NDArray[np.float32], row: NDArray[np.float32]) -> NDArray[np.float32]:
        focal = focal_length(self.projection, self.width)
        across, up = (column + (0.5 - self.width / 2)) / focal, ((self.height / 2 - 0.5) - row) / focal
        if self.projection.kind == "cylindrical":
            return _together(np.sin(across), up, -np.cos(across)) @ self._axes()
        return _together(across, up, np.float32(-1)) @ self._axes()

    def finer(self, times: int) -> Camera:
        return replace(self, height=self.height * times, width=self.width * times)

    def _axes(self) -> NDArray[np.float32]:
        """Return its right, up and back in rows."""
        yaw, pitch = np.radians(self.yaw), np.radians(self.pitch)
        right = np.array([np.cos(yaw), 0, np.sin(yaw)])
        back = np.array([-np.sin(yaw) * np.cos(pitch), -np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
        return np.stack([right, np.cross(back, right), back]).astype(np.float32)


@dataclass(frozen=True)
class SphereCamera:
    """All directions, or those of `span` degrees around -z, from zenith to nadir. Distances are along the ray.

    With an `eye` other than 0 this is one eye of an omnidirectional stereo image: it lies so many metres to the right
    of the vertical axis as seen in the direction in which its column looks.
    """

    height: int
    width: int
    span: float = 360.0
    position: Point = ORIGIN
    eye: float = 0.0

    @property
    def turn(self) -> float | None:
        return self.width * 360 / self.span

    def pixels_of(self, points: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        x, y, z = np.moveaxis(points - np.asarray(self.position, np.float32), -1, 0)
        azimuth, along = np.arctan2(x, -z), np.hypot(x, z)
        distance = np.hypot(along, y)
        if self.eye:
            # The ray is a tangent of the circle that the eye lies on.
            along = np.sqrt(np.maximum(along**2 - self.eye**2, 0))
            azimuth = azimuth - np.arctan2(np.float32(self.eye), along)
            azimuth = np.where(azimuth < -np.pi, azimuth + 2 * np.pi, azimuth)
            azimuth = np.where(azimuth >= np.pi, azimuth - 2 * np.pi, azimuth)
            distance = np.where(along > 0, np.hypot(along, y), 0)
        column = azimuth * (self.width / float(np.radians(self.span))) + (self.width / 2 - 0.5)
        row = (self.height / 2 - 0.5) - np.arctan2(y, along) * (self.height / np.pi)
        return column, row, distance

    def directions(self, column: NDArray[np.float32], row: NDArray[np.float32]) -> NDArray[np.float32]:
        azimuth = (column + (0.5 - self.width / 2)) * (float(np.radians(self.span)) / self.width)
        elevation = ((self.height / 2 - 0.5) - row) * (np.pi / self.height)
        level = np.cos(elevation)
        return _together(level * np.sin(azimuth), np.sin(elevation), -level * np.cos(azimuth))

    def finer(self, times: int) -> SphereCamera:
        return replace(self, height=self.height * times, width=self.width * times)


def _together(
    x: NDArray[np.float32], y: NDArray[np.float32], z: NDArray[np.float32] | np.float32
) -> NDArray[np.float32]:
    """Return (..., 3) of what broadcasts."""
    vectors = np.empty((*np.broadcast_shapes(x.shape, y.shape), 3), np.float32)
    vectors[..., 0], vectors[..., 1], vectors[..., 2] = x, y, z
    return vectors
