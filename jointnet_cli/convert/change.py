"""What was read, brought to what is wanted: the view, then the depth's meaning."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from jointnet_cli.convert.content import Axis, Content, DepthMap, Quantity, View, kind_of, require_view
from jointnet_cli.convert.depth import beyond, change_depth, distances
from jointnet_cli.convert.sphere import Grid, to_cylinder, to_sphere
from jointnet_cli.errors import UserError
from jointnet_cli.output.gpano import Equirectangular
from jointnet_cli.output.scene import DepthScale
from jointnet_cli.tasks import Projection

Format = Literal["exr", "png", "tiff", "npy", "jpg"]


@dataclass(frozen=True)
class Wish:
    """What is to become of the files; `None` keeps what they are."""

    to: Format
    quantity: Quantity | None = None
    axis: Axis | None = None
    """`None` keeps it; but distance is radial where a cylinder becomes a sphere, planar where a sphere becomes one."""
    white: Literal["near", "far"] | None = None
    down: bool = False
    """Whether the green axis of normals is to point down."""
    kind: Literal["cylindrical", "equirectangular"] | None = None
    crop: bool = False
    """Of a sphere only what is known; otherwise all of it."""
    width: int | None = None
    """Pixels around the whole sphere, or of the cylinder's width; `None` keeps the resolution at the horizon."""
    vertical: float | None = None
    """Degrees from bottom to top of a cylinder; `None` takes what is known of the sphere."""
    scale: DepthScale | None = None
    """What disparity made of distance is to mean in metres, and the range of distance in 16 bits."""
    step: float | None = None
    """Metres a step of 16 bits stands for in distance, 0 being unknown."""
    bits: Literal[8, 16, 32] | None = None


def change(content: Content, wish: Wish) -> tuple[Content, list[str]]:
    """The content as it is wanted, and in words what that cost.

    Raises:
        UserError: a view that is needed and not known, or from which there is no way to the other; disparity of unknown
            scale where metres are needed.
    """
    grid = _grid(content, wish)
    view = grid.view if grid else content.view
    changed = replace(content, view=view)
    notes: list[str] = []
    if grid is not None:
        changed.coverage = grid.coverage
        if content.image is not None:
            changed.image = grid.smooth(content.image)
        if content.normal is not None:
            changed.normal = grid.nearest(content.normal)
    if content.depth is not None:
        changed.depth = _changed_depth(content.depth, content.view, view, grid, wish, notes)
    return changed, notes


def _changed_depth(
    depth: DepthMap, old: View | None, new: View | None, grid: Grid | None, wish: Wish, notes: list[str]
) -> DepthMap:
    if wish.scale is not None and depth.quantity == "distance":
        depth = replace(depth, scale=None)  # what it once was as disparity no longer matters
    quantity = wish.quantity or depth.quantity
    axis = wish.axis or depth.axis
    if wish.axis is None and grid is not None and "distance" in (quantity, depth.quantity):
        axis = "radial" if isinstance(grid.view, Equirectangular) else "planar"
    scale = wish.scale if quantity == "disparity" != depth.quantity else None
    if axis != depth.axis:
        # A cylinder and a sphere measure planar distance alike, from the same axis, so in it pixels can move.
        depth = change_depth(depth, "distance", "planar", require_view(old, f"{depth.axis} to {axis}"), None)
    if grid is not None:
        depth = replace(depth, values=grid.nearest(depth.values))
    if (quantity, axis) != (depth.quantity, depth.axis):
        depth = change_depth(depth, "distance", axis, new, None)
        if scale is not None and (lost := beyond(distances(depth), scale)):
            notes.append(f"{lost} pixels lie outside of {scale.near:g} to {scale.far:g} m and were cut off")
        depth = change_depth(depth, quantity, axis, new, scale)
    if grid is not None:
        # Infinite is the sky; outside of the old picture nothing is known.
        depth = replace(depth, values=np.where(grid.covered, depth.values, 0).astype(np.float32))
    return depth


def _grid(content: Content, wish: Wish) -> Grid | None:
    """How the view changes; `None` if it does not."""
    if wish.kind is None:
        return None
    view = require_view(content.view, f"a picture to be {wish.kind}")
    if kind_of(view) == wish.kind:
        return None
    height, width = content.size
    if isinstance(view, Equirectangular):
        return to_cylinder(view, height, width, content.coverage, wish.vertical, wish.width)
    if isinstance(view, Projection) and view.kind == "cylindrical":
        return to_sphere(view, height, width, wish.width, wish.crop)
    raise UserError("a perspective picture is no panorama", "--projection turns cylinders into spheres and back")
