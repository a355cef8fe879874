"""Cylinder to sphere and back: columns are even in azimuth in both, so rows and columns are resampled one by one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.convert.content import Coverage, View
from jointnet_cli.errors import UserError
from jointnet_cli.projection import Projection, Sphere
from jointnet_cli.scene.cameras import focal_length

FILTER = "triangle in linear light, as wide as two pixels of the finer grid; maps by the nearest pixel"

UPRIGHT = 90.0
"""Degrees from bottom to top of a cylinder made from a sphere that says nothing of what it covers."""

_STEEPEST = 170.0

_ALIKE = 1e-6

_ROUNDED = 0.501
"""Pixels of a sphere by which what is known may be smaller than the cylinder was, for it ends at whole pixels."""


@dataclass(frozen=True)
class Line:
    """Where the pixels of one axis of the new image lie on that axis of the old one."""

    centre: NDArray[np.float64]
    """(N,) in pixels of the old image; the centre of its first pixel is 0."""
    footprint: NDArray[np.float64]
    """(N,) how many old pixels a new one covers."""
    length: int
    """Pixels of the old image."""
    known: tuple[int, int]
    """The first and the last of them that show something."""
    wrap: bool = False
    margin: float = 0.0
    """Old pixels by which a centre may lie beyond what is known."""

    @property
    def covered(self) -> NDArray[np.bool_]:
        """(N,) which of the new pixels have their centre on what is known."""
        beyond = 0.5 + self.margin
        inside = (self.centre >= self.known[0] - beyond) & (self.centre <= self.known[1] + beyond)
        return np.asarray(self.wrap | inside)

    def old(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return indices brought to what is known of the old image: around it, or to its edge."""
        return index % self.length if self.wrap else np.clip(index, *self.known)

    def shows(self, index: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which indices lie on what is known."""
        return np.asarray(self.wrap | ((index >= self.known[0]) & (index <= self.known[1])))


@dataclass(frozen=True)
class Grid:
    """A new image's pixels on the old one."""

    view: View
    rows: Line
    columns: Line
    coverage: Coverage
    """What of the sphere is known, on whichever of the two images is one."""

    @property
    def covered(self) -> NDArray[np.bool_]:
        """(H, W)"""
        return self.rows.covered[:, None] & self.columns.covered

    def smooth(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return an image (h, w, 3) on the new grid (H, W, 3).

        Each pixel is the average of what it covers; outside of the image it is black.
        """
        upright = _averaged(image, self.rows)
        turned = _averaged(upright.swapaxes(0, 1), self.columns).swapaxes(0, 1)
        turned[~self.covered] = 0
        return turned

    def nearest(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a map (h, w) or (h, w, C) on the new grid: no value is there that was not there before; 0 outside."""
        rows, columns = (line.old(np.rint(line.centre).astype(np.int64)) for line in (self.rows, self.columns))
        taken = values[np.ix_(rows, columns)]
        return np.where(self.covered if values.ndim == 2 else self.covered[..., None], taken, 0).astype(np.float32)


def to_sphere(cylinder: Projection, height: int, width: int, full_width: int | None, crop: bool) -> Grid:
    """Return the grid of an equirectangular image of a cylinder of that size in pixels.

    Args:
        cylinder: the old view.
        height: of the old image.
        width: of the old image.
        full_width: pixels around the sphere; `None` keeps the resolution at the horizon.
        crop: whether the new image ends where the old one does; otherwise it shows the whole sphere.
    """
    focal = focal_length(cylinder, width)
    around = 2 * round(np.pi * focal) if full_width is None else full_width
    if around % 2:
        raise UserError(f"a sphere of {around} pixels has no exact half", "give an even --width")
    steep = float(np.degrees(np.arctan(height / 2 / focal)))
    left = top = 0
    columns, rows = around, around // 2
    if crop:
        # Only pixels whose centres the cylinder shows.
        left, top = (round(pixels) for pixels in (around * (0.5 - cylinder.span / 720), rows * (0.5 - steep / 180)))
        columns, rows = around - 2 * left, rows - 2 * top
    view = Sphere(around, left, top)
    # Towards the poles a cylinder has no end: those rows look past it.
    up = np.clip(_latitude_edges(view, rows), -np.radians(89.9), np.radians(89.9))
    across = _longitude_edges(view, columns)
    return Grid(
        view,
        _line(height / 2 - np.tan(up) * focal, height / 2 - np.tan(latitudes(view, rows)) * focal, height),
        _line(across * focal + width / 2, None, width, cylinder.wrap),
        Coverage(cylinder.span, 2 * steep),
    )


def to_cylinder(
    sphere: Sphere,
    height: int,
    width: int,
    known: Coverage | None,
    vertical: float | None,
    columns: int | None,
) -> Grid:
    """Return the grid of a cylinder of an equirectangular image of that size in pixels.

    Args:
        sphere: the old view.
        height: of the old image.
        width: of the old image.
        known: what of it is known; `None` where it does not say.
        vertical: degrees from bottom to top of the cylinder; `None` takes what is known.
        columns: pixels of the cylinder's width; `None` keeps the resolution at the horizon.
    """
    wrap = width == sphere.full_width
    outermost = max(sphere.full_width / 2 - sphere.left, sphere.left + width - sphere.full_width / 2)
    span = known.horizontal if known else 360.0 if wrap else min(360.0, 720 * outermost / sphere.full_width)
    view = Projection("cylindrical", span, span == 360)
    across = max(1, round(sphere.full_width * span / 360)) if columns is None else columns
    focal = focal_length(view, across)
    stated = known.vertical if known else UPRIGHT
    upright = stated if vertical is None else vertical
    if not 0 < upright <= _STEEPEST:
        raise UserError(
            f"a cylinder cannot be {upright:g} degrees high", f"--vertical is above 0 and at most {_STEEPEST:g}"
        )
    rows = max(1, round(2 * focal * np.tan(np.radians(upright / 2))))
    heights = (rows / 2 - np.arange(rows + 1)) / focal
    middles = (heights[:-1] + heights[1:]) / 2
    turn = (np.arange(across + 1) - across / 2) / focal
    return Grid(
        view,
        _line(
            _row_of(sphere, np.arctan(heights)),
            _row_of(sphere, np.arctan(middles)),
            height,
            known=_inside(
                height, sphere.full_height / 2 - sphere.top, known.vertical / 180 if known else None, sphere.full_height
            ),
            margin=_ROUNDED,
        ),
        _line(
            (turn / (2 * np.pi) + 0.5) * sphere.full_width - sphere.left,
            None,
            width,
            wrap and span == 360,
            _inside(
                width, sphere.full_width / 2 - sphere.left, known.horizontal / 360 if known else None, sphere.full_width
            ),
            _ROUNDED,
        ),
        Coverage(span, upright),
    )


def _line(
    edges: NDArray[np.floating],
    middles: NDArray[np.floating] | None,
    length: int,
    wrap: bool = False,
    known: tuple[int, int] | None = None,
    margin: float = 0.0,
) -> Line:
    """From (N + 1,) edges and (N,) middles of new pixels, measured from the old image's own edge."""
    centre = np.asarray((edges[:-1] + edges[1:]) / 2 if middles is None else middles, np.float64)
    return Line(centre - 0.5, np.abs(np.diff(edges)), length, known or (0, length - 1), wrap, margin)


def _inside(length: int, middle: float, part: float | None, full: int) -> tuple[int, int]:
    """Return the first and last of the `length` pixels that lie in this part of the `full` ones.

    The part is around `middle`; `None` is all.
    """
    if part is None:
        return 0, length - 1
    first, last = round(middle - part * full / 2), round(middle + part * full / 2) - 1
    return max(0, first), min(length - 1, max(first, last))


def _latitude_edges(view: Sphere, rows: int) -> NDArray[np.float64]:
    return np.pi * (0.5 - (view.top + np.arange(rows + 1)) / view.full_height)


def _longitude_edges(view: Sphere, columns: int) -> NDArray[np.float64]:
    return 2 * np.pi * ((view.left + np.arange(columns + 1)) / view.full_width - 0.5)


def _row_of(sphere: Sphere, latitude: NDArray[np.float64]) -> NDArray[np.float64]:
    return (0.5 - latitude / np.pi) * sphere.full_height - sphere.top


def _averaged(values: NDArray[np.float32], line: Line) -> NDArray[np.float32]:
    """Convert (n, …) to (N, …): triangle-weighted means along the first axis."""
    radius = np.where(line.covered, np.maximum(line.footprint, 1), 1)
    whole = np.rint(line.centre).astype(np.int64)
    if np.abs(line.centre - whole).max() < _ALIKE and radius.max() < 1 + _ALIKE:
        return values[line.old(whole)]  # pixel for pixel, as columns mostly are
    first = np.ceil(line.centre - radius).astype(np.int64)
    mean = np.zeros((line.centre.size, *values.shape[1:]), np.float32)
    total = np.zeros(line.centre.size, np.float32)
    across = (-1,) + (1,) * (values.ndim - 1)
    for tap in range(int(np.floor(2 * radius.max())) + 1):
        index = first + tap
        weight = np.where(line.shows(index), np.maximum(0, 1 - np.abs(index - line.centre) / radius), 0)
        weight = weight.astype(np.float32)
        mean += weight.reshape(across) * values[line.old(index)]
        total += weight
    mean /= np.maximum(total, np.finfo(np.float32).tiny).reshape(across)
    return mean


def latitudes(view: Sphere, height: int) -> NDArray[np.float64]:
    """Return (H,) of the centres of the rows, radians, up is positive."""
    return np.pi * (0.5 - (view.top + np.arange(height) + 0.5) / view.full_height)
