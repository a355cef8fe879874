"""Depth from one meaning to another: disparity and distance, planar and radial."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.convert.content import Axis, DepthMap, Quantity, View
from jointnet_cli.errors import UserError
from jointnet_cli.output.gpano import Equirectangular
from jointnet_cli.output.maps import with_endless_sky
from jointnet_cli.output.rays import rays
from jointnet_cli.output.scene import FAR, NEAR, DepthScale


def change_depth(
    depth: DepthMap, quantity: Quantity, axis: Axis, view: View | None, scale: DepthScale | None
) -> DepthMap:
    """The same surface as another quantity, along another axis.

    Args:
        depth: what is known.
        quantity: what the values are to be.
        axis: what distances are to be measured along.
        view: needed where the axis changes.
        scale: what the disparity of the result means; `None` takes the one of `depth`, and where that cuts something
            off or is not known, the range of the distances themselves.

    Raises:
        UserError: disparity of which nobody knows what it means in metres; a view that is needed and not known.
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
    """(H, W) metres along the map's own axis; infinite for sky and for what is unknown.

    Raises:
        UserError: disparity whose scale nobody knows.
    """
    if depth.quantity == "distance":
        return with_endless_sky(depth.values)
    if depth.scale is None:
        raise UserError(
            "disparity is relative: nothing says how many metres it means",
            f"give --near and --far in metres (for {NEAR:g} and {FAR:g}, say --near {NEAR:g} --far {FAR:g}), "
            "or --scale and --shift",
        )
    return depth.scale.distance(depth.values)


def disparity_of(metres: NDArray[np.float32], scale: DepthScale) -> NDArray[np.float32]:
    """Relative disparity in [0, 1] of distances; 0 for the sky. What lies outside of the scale's range is cut off."""
    return np.clip(scale.disparity(np.where(np.isfinite(metres), metres, np.inf)), 0, 1)


def beyond(metres: NDArray[np.float32], scale: DepthScale) -> int:
    """How many pixels `disparity_of` cuts off, but for rounding; the sky is none of them."""
    disparity = scale.disparity(metres[np.isfinite(metres)])
    return int(np.count_nonzero((disparity < -1e-6) | (disparity > 1 + 1e-6)))


def covering(metres: NDArray[np.float32], known: DepthScale | None) -> DepthScale:
    """A scale in whose range all distances lie: `known`, widened where it must be.

    Raises:
        UserError: nothing has a distance, and no scale is known.
    """
    hit = metres[np.isfinite(metres)].astype(np.float64)
    if not hit.size and known is None:
        raise UserError("no pixel has a distance", "give --near and --far in metres")
    if known is not None and not beyond(metres, known):
        return known
    near, far = float(hit.min()), float(hit.max())
    if known is not None:
        near, far = min(near, known.near), max(far, known.far)
    # Of a map of one distance any range will do that has it at its near end.
    return DepthScale.from_range(near, far if far > near else near * FAR / NEAR, "fitted")


def ray_lengths(view: View, height: int, width: int) -> NDArray[np.float32]:
    """(H, W) radial distance of what lies at planar distance 1: from the vertical axis in panoramas."""
    if isinstance(view, Equirectangular):
        column = 1 / np.cos(latitudes(view, height))
        return np.broadcast_to(column[:, None], (height, width)).astype(np.float32)
    return np.linalg.norm(rays(view, height, width), axis=-1)


def latitudes(view: Equirectangular, height: int) -> NDArray[np.float64]:
    """(H,) of the centres of the rows, radians, up is positive."""
    return np.pi * (0.5 - (view.top + np.arange(height) + 0.5) / view.full_height)
