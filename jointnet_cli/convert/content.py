"""What a file holds, in one convention: values as they are meant, and the view they are seen in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.errors import UserError
from jointnet_cli.projection import Projection, Sphere
from jointnet_cli.scene.scene import DepthScale

Part = Literal["image", "depth", "normal"]
PARTS: tuple[Part, ...] = get_args(Part)
Quantity = Literal["disparity", "distance"]
Axis = Literal["planar", "radial"]
Kind = Literal["perspective", "cylindrical", "equirectangular"]
View = Projection | Sphere


@dataclass(frozen=True)
class DepthMap:
    """Depth with all that is known of its meaning."""

    values: NDArray[np.float32]
    """(H, W): relative disparity in [0, 1], near = 1; or distance in metres, where what is not finite or not positive is
    sky or unknown."""
    quantity: Quantity
    axis: Axis
    """`planar`: Z of a perspective picture, in panoramas the distance from the vertical axis. `radial`: the distance from
    the viewer."""
    scale: DepthScale | None = None
    """What disparity means in metres, where that is known."""


@dataclass(frozen=True)
class Code:
    """The depth that a file's black (0) and white (full scale) stand for; in between it is linear."""

    black: float = 0.0
    white: float = 1.0

    def decode(self, stored: NDArray[np.float32]) -> NDArray[np.float32]:
        """Depth of stored values, whose full scale is 1."""
        if (self.black, self.white) == (0, 1):
            return stored
        part = stored.astype(np.float64)
        return (self.black * (1 - part) + self.white * part).astype(np.float32)  # exact at both ends

    def encode(self, depth: NDArray[np.float32]) -> NDArray[np.float64]:
        """The inverse of `decode`."""
        return (depth.astype(np.float64) - self.black) / (self.white - self.black)


@dataclass(frozen=True)
class Coverage:
    """How much of a sphere's picture is known, symmetric about its centre; degrees."""

    horizontal: float
    vertical: float


@dataclass
class Content:
    """The picture and maps of one file, all of one size."""

    view: View | None
    """How pixels map to directions; `None` where nobody said."""
    image: NDArray[np.float32] | None = None
    """(H, W, 3) linear light of sRGB's primaries, 0 or more; of OpenEXR also above 1."""
    depth: DepthMap | None = None
    normal: NDArray[np.float32] | None = None
    """(H, W, 3) unit vectors: x right, y up, z towards the viewer; zero where there is none. In panorama each column has
    its own axes, y vertical and z level towards the viewer."""
    record: dict[str, Any] = field(default_factory=dict)
    """What the file's own record says."""
    texts: dict[str, str] = field(default_factory=dict)
    """The `parameters` of the picture, if it has them."""
    taken_for: dict[str, str] = field(default_factory=dict)
    """By part, in words, what the file was taken for."""
    left_out: tuple[str, ...] = ()
    """Channels that are none of these parts."""
    notes: tuple[str, ...] = ()
    """What had to be decided to read the file."""
    used: set[str] = field(default_factory=set)
    """The channels that were read, and the flags that had an effect: `--step`, `--from-white`, and `scale` of all that
    state one."""
    coverage: Coverage | None = None
    """Of a sphere's picture, what is known."""

    @property
    def parts(self) -> dict[str, NDArray[np.float32]]:
        """The arrays that are there, by part."""
        depth = None if self.depth is None else self.depth.values
        named = {"image": self.image, "depth": depth, "normal": self.normal}
        return {name: values for name, values in named.items() if values is not None}

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = next(iter(self.parts.values())).shape[:2]
        return height, width


def kind_of(view: View | None) -> Kind | None:
    """The view's name at the command line and in records."""
    if isinstance(view, Sphere):
        return "equirectangular"
    return view.kind if view else None


def require_view(view: View | None, purpose: str) -> View:
    """The view.

    Raises:
        UserError: nobody said what it is.
    """
    if view is None:
        raise UserError(
            f"{purpose} needs to know how the picture looks at the scene, and the file does not say",
            "give --from-projection, and --from-span with its horizontal field of view in degrees",
        )
    return view
