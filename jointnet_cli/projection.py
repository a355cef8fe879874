"""How the pixels of an image map to directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jointnet_cli.errors import UserError


@dataclass(frozen=True)
class Projection:
    """How pixels map to directions.

    `cylindrical`: column x looks at azimuth `(x + 0.5) / width * span - span / 2` degrees, row y at height
    `(height / 2 - y - 0.5) / f` on a unit cylinder with `f = width / radians(span)` pixels; depth is the distance
    from the axis. `perspective`: pinhole with `span` as the horizontal field of view, depth is planar Z.
    """

    kind: Literal["perspective", "cylindrical"]
    span: float
    """Horizontal field of view in degrees."""
    wrap: bool = False


@dataclass(frozen=True)
class Sphere:
    """A picture of a sphere, or a part of one: columns are even in longitude and rows in latitude.

    Column x of the whole looks at longitude `((x + 0.5) / full_width - 0.5) * 360` degrees, row y at latitude
    `(0.5 - (y + 0.5) / full_height) * 180`. The picture's first pixel is column `left`, row `top` of the whole.
    """

    full_width: int
    """Pixels around; the whole sphere is half as high."""
    left: int = 0
    top: int = 0

    @property
    def full_height(self) -> int:
        """Pixels from pole to pole."""
        return self.full_width // 2

    def is_whole(self, height: int, width: int) -> bool:
        """Return whether a picture of that size shows all of the sphere."""
        return (self.left, self.top, width, height) == (0, 0, self.full_width, self.full_height)


FULL_CIRCLE = 360.0

NOMINAL_FOV = 60.0
"""Horizontal field of view stated for perspective images, degrees: the model does not know its camera."""
PERSPECTIVE = Projection("perspective", NOMINAL_FOV)


def closes(span: float, wrap: bool | None) -> bool:
    """Return whether a panorama of that span in degrees wraps; without `wrap` it does at 360.

    Raises:
        UserError: `wrap` with a span other than 360.
    """
    full = span == FULL_CIRCLE
    if wrap and not full:
        raise UserError(
            f"--wrap needs a span of 360, not {span:g}", "leave --span out for a full circle, or give --no-wrap"
        )
    return full if wrap is None else wrap
