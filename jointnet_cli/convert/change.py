"""Change the projection of content, then the quantity and axis of its depth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.convert.content import Axis, Content, DepthMap, Quantity, TargetOptions, View, kind_of, require_view
from jointnet_cli.convert.sphere import Grid, latitudes, to_cylinder, to_sphere
from jointnet_cli.errors import UserError
from jointnet_cli.files.maps import with_endless_sky
from jointnet_cli.projection import Projection, Sphere
from jointnet_cli.scene.cameras import rays
from jointnet_cli.scene.scene import FAR, NEAR, DepthScale


def change(content: Content, target: TargetOptions) -> tuple[Content, list[str]]:
    """Return the converted content, and notes on what was lost.

    Raises:
        UserError: an unknown or unsupported projection; disparity of unknown scale where metres are needed.
    """
    grid = _grid(content, target)
    view = grid.view if grid else content.view
    changed = replace(content, view=view)
    notes: list[str] = []
    if grid is not None:
        changed.coverage, changed.used = grid.coverage, content.used | {"--projection"}
        if content.image is not None:
            changed.image = grid.smooth(content.image)
        if content.normal is not None:
            changed.normal = grid.nearest(content.normal)
    if content.depth is not None:
        changed.depth = _changed_depth(content.depth, content.view, view, grid, target, notes)
    return changed, notes


def _changed_depth(
    depth: DepthMap, old: View | None, new: View | None, grid: Grid | None, target: TargetOptions, notes: list[str]
) -> DepthMap:
    if target.metres.scale is not None and depth.quantity == "distance":
        depth = replace(depth, scale=None)  # the new scale replaces the one it had as disparity
    quantity = target.quantity or depth.quantity
    axis = target.axis or depth.axis
    if target.axis is None and grid is not None and "distance" in (quantity, depth.quantity):
        axis = "radial" if isinstance(grid.view, Sphere) else "planar"
    scale = target.metres.scale if quantity == "disparity" != depth.quantity else None
    if axis != depth.axis:
        # A cylinder and a sphere measure planar distance alike, from the same axis, so in it pixels can move.
        depth = change_depth(depth, "distance", "planar", require_view(old, f"{depth.axis} to {axis}"), None)
    if grid is not None:
        depth = replace(depth, values=grid.nearest(depth.values))
    if (quantity, axis) != (depth.quantity, depth.axis):
        depth = change_depth(depth, "distance", axis, new, None)
        if scale is not None and (lost := beyond(distances(depth), scale)):
            notes.append(f"{lost} pixels lie outside of {scale.near:g} to {scale.far:g} m and were clipped")
        depth = change_depth(depth, quantity, axis, new, scale)
    if grid is not None:
        # Infinite is the sky; outside of the old image nothing is known.
        depth = replace(depth, values=np.where(grid.covered, depth.values, 0).astype(np.float32))
    return depth


def _grid(content: Content, target: TargetOptions) -> Grid | None:
    """Return the grid of the new projection; `None` if it does not change."""
    if target.projection is None:
        return None
    view = require_view(content.view, f"--projection {target.projection}")
    if kind_of(view) == target.projection:
        return None
    height, width = content.size
    if isinstance(view, Sphere):
        return to_cylinder(view, height, width, content.coverage, target.vertical, target.width)
    if isinstance(view, Projection) and view.kind == "cylindrical":
        return to_sphere(view, height, width, target.width, target.crop)
    raise UserError("a perspective image cannot be reprojected", "--projection converts between cylinders and spheres")


def change_depth(
    depth: DepthMap, quantity: Quantity, axis: Axis, view: View | None, scale: DepthScale | None
) -> DepthMap:
    """Return the same surface as another quantity, along another axis.

    Args:
        depth: the map.
        quantity: of the result.
        axis: of the result.
        view: required where the axis changes.
        scale: of the result's disparity; `None` takes that of `depth`, or the range of the distances where that is
            unknown or would clip something.

    Raises:
        UserError: disparity of unknown scale; an unknown view that is required.
    """
    if (quantity, axis) == (depth.quantity, depth.axis):
        return depth
    metres = distances(depth)
    if axis != depth.axis:
        if view is None:
            raise ValueError("an axis changes only in a known view")
        longer = ray_lengths(view, *metres.shape).astype(np.float64)
        # What lies on the axis itself, at the poles of a sphere, has no radial distance to be scaled.
        metres = (metres * longer if axis == "radial" else metres / longer).astype(np.float32)
    if quantity == "distance":
        return DepthMap(metres, "distance", axis, depth.scale)
    if scale is None:
        scale = covering(metres, depth.scale)
    return DepthMap(disparity_of(metres, scale), "disparity", axis, scale)


def distances(depth: DepthMap) -> NDArray[np.float32]:
    """Return (H, W) metres along the map's own axis; infinite for sky and for what is unknown.

    Raises:
        UserError: disparity of unknown scale.
    """
    if depth.quantity == "distance":
        return with_endless_sky(depth.values)
    if depth.scale is None:
        raise UserError(
            "disparity is relative: its scale in metres is unknown",
            f"pass --near and --far in metres (for {NEAR:g} and {FAR:g}, say --near {NEAR:g} --far {FAR:g}), "
            "or --depth-scale and --depth-shift",
        )
    return depth.scale.distance(depth.values)


def disparity_of(metres: NDArray[np.float32], scale: DepthScale) -> NDArray[np.float32]:
    """Return relative disparity in [0, 1] of distances, 0 for the sky, clipped to the range of the scale."""
    return np.clip(scale.disparity(np.where(np.isfinite(metres), metres, np.inf)), 0, 1)


def beyond(metres: NDArray[np.float32], scale: DepthScale) -> int:
    """Return how many pixels `disparity_of` clips by more than rounding; the sky does not count."""
    disparity = scale.disparity(metres[np.isfinite(metres)])
    return int(np.count_nonzero((disparity < -1e-6) | (disparity > 1 + 1e-6)))


def covering(metres: NDArray[np.float32], known: DepthScale | None) -> DepthScale:
    """Return a scale whose range holds all distances: `known`, widened if necessary.

    Raises:
        UserError: no pixel has a distance, and no scale is known.
    """
    hit = metres[np.isfinite(metres)].astype(np.float64)
    if not hit.size and known is None:
        raise UserError("no pixel has a distance", "give --near and --far in metres")
    if known is not None and not beyond(metres, known):
        return known
    near, far = float(hit.min()), float(hit.max())
    if known is not None:
        near, far = min(near, known.near), max(far, known.far)
    # A map of a single distance takes any range that begins there.
    return DepthScale.from_range(near, far if far > near else near * FAR / NEAR, "fitted")


def ray_lengths(view: View, height: int, width: int) -> NDArray[np.float32]:
    """Return the radial distance (H, W) of points at planar distance 1, in panoramas from the vertical axis."""
    if isinstance(view, Sphere):
        column = 1 / np.cos(latitudes(view, height))
        return np.broadcast_to(column[:, None], (height, width)).astype(np.float32)
    lengths: NDArray[np.float32] = np.linalg.norm(rays(view, height, width), axis=-1)
    return lengths
