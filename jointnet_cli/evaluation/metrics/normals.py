"""Errors of normals, and the normals of a depth map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.errors import UserError

ANGLES = (11.25, 22.5, 30.0)
"""Degrees; the usual bounds."""


@dataclass(frozen=True)
class NormalErrors:
    """Angles between predicted and true normals of one image, degrees."""

    mean: float
    median: float
    within_11_25: float
    """Share of the pixels that are off by less."""
    within_22_5: float
    within_30: float


def normal_errors(predicted: NDArray[np.floating], truth: NDArray[np.floating]) -> NormalErrors:
    """Compare normals (H, W, 3), zero where there is no surface.

    What counts are the pixels with a true normal; where the prediction sees no surface there, it is a right angle off.

    Raises:
        UserError: another size, no true normal, or a predicted value that is not finite.
    """
    if predicted.shape != truth.shape:
        raise UserError(f"the predicted normals are {predicted.shape[:2]} and the true ones {truth.shape[:2]}")
    valid = np.linalg.norm(truth, axis=-1) > 0
    if not valid.any():
        raise UserError("the truth has no normal")
    a, b = predicted[valid].astype(np.float64), truth[valid].astype(np.float64)
    if not np.isfinite(a).all():
        raise UserError("the predicted normals have values that are not finite")
    # Of the arc cosine alone small angles would be lost in rounding.
    angles = np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), (a * b).sum(axis=-1)))
    angles[np.linalg.norm(a, axis=-1) == 0] = 90
    shares = [float((angles < bound).mean()) for bound in ANGLES]
    return NormalErrors(float(angles.mean()), float(np.median(angles)), *shares)


def normals_of(inverse_depth: NDArray[np.floating], intrinsics: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return camera-space normals (H, W, 3) of inverse planar depth (H, W), by central differences.

    On a plane inverse depth is linear in the pixel's place, so planes have their exact normals whatever their slope. A pixel
    without depth, 0, and its neighbours have none.

    Args:
        inverse_depth: in any unit.
        intrinsics: (3, 3) of a pinhole camera, in pixels; the first pixel's centre is at (0.5, 0.5).
    """
    height, width = inverse_depth.shape
    q = inverse_depth.astype(np.float64)
    down, right = np.gradient(q)
    x = (np.arange(width) + 0.5 - intrinsics[0, 2]) / intrinsics[0, 0]
    y = (np.arange(height) + 0.5 - intrinsics[1, 2])[:, None] / intrinsics[1, 1]
    across, along = intrinsics[0, 0] * right, intrinsics[1, 1] * down
    vectors = np.stack([-across, along, q - x * across - y * along], axis=-1)
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    there = _surrounded(q > 0)[..., None] & (length > 0)
    return np.where(there, vectors / np.where(length > 0, length, 1), 0).astype(np.float32)


def pinhole(height: int, width: int, field: float) -> NDArray[np.float64]:
    """Return intrinsics (3, 3) of a centred camera with a horizontal field of view in degrees."""
    focal = width / 2 / np.tan(np.radians(field) / 2)
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])


def _surrounded(there: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels that are there with the four beside them; what is outside of the image does not matter."""
    wide = np.pad(there, 1, constant_values=True)
    return there & wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
