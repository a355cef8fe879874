"""Do the maps of one result belong to its picture, to each other, and do the ends of a panorama meet?

Each measure takes the maps of one result or, as a control, those of another: what landscapes have in common, near below and
far above, is no consistency.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.engine import NOMINAL_FOV
from jointnet_cli.evaluation.agreement import pearson, spearman
from jointnet_cli.evaluation.edges import edge_auc
from jointnet_cli.evaluation.normal import normal_errors, normals_of, pinhole
from jointnet_cli.evaluation.seams import column_steps, seam_ratios

SHIFTS = (0.0, *np.geomspace(0.01, 3, 16).tolist())
"""What may have to be added to relative disparity to be proportional to inverse depth."""
ENDS = 1e-3
"""Disparity so near 0 or 1 is sky, or cut off: it says nothing of a slope."""


@dataclass(frozen=True)
class Sample:
    """A picture with its maps, all of one size."""

    image: NDArray[np.float32]
    """(H, W, 3) sRGB in [0, 1]."""
    disparity: NDArray[np.float32]
    """(H, W) relative, in [0, 1]."""
    normal: NDArray[np.float32] | None = None
    """(H, W, 3) camera-space unit vectors, zero on the sky."""
    again: NDArray[np.float32] | None = None
    """(H, W) relative disparity that was predicted from the picture alone."""
    intrinsics: NDArray[np.float64] | None = None
    """(3, 3) in pixels; `None` is a centred camera of the nominal field of view."""


def consistency(sample: Sample, other: Sample) -> dict[str, float | None]:
    """The measures of a result against the maps of `other`: of itself, or of another for control.

    - `edges`: `edges.edge_auc` of the picture and the other's disparity.
    - `normals`: `angle_to_normals` of the disparity and the other's normals, degrees.
    - `pearson`, `spearman`: correlations of the disparity and the one predicted again from the other's picture.

    `None` where there is no such map, or nothing in it to measure.
    """
    return {
        "edges": edge_auc(sample.image, other.disparity),
        "normals": None
        if other.normal is None
        else angle_to_normals(sample.disparity, other.normal, sample.intrinsics),
        "pearson": None if other.again is None else pearson(sample.disparity, other.again),
        "spearman": None if other.again is None else spearman(sample.disparity, other.again),
    }


def angle_to_normals(
    disparity: NDArray[np.float32], normal: NDArray[np.float32], intrinsics: NDArray[np.float64] | None = None
) -> float | None:
    """The mean angle in degrees between the normals that follow from disparity and those of a map.

    Relative disparity is inverse depth up to scale and shift. Normals do not depend on the scale; of `SHIFTS` the one with
    the least angle counts. What is compared are the pixels that have a normal in the map and disparity strictly between 0 and
    1, with the four beside them.

    Returns:
        `None` if there are no such pixels.
    """
    height, width = disparity.shape
    camera = pinhole(height, width, NOMINAL_FOV) if intrinsics is None else intrinsics
    sloped = (disparity > ENDS) & (disparity < 1 - ENDS)
    angles = []
    for shift in SHIFTS:
        derived = normals_of(np.where(sloped, disparity + np.float32(shift), 0), camera)
        shared = np.where((derived != 0).any(axis=-1, keepdims=True), normal, 0)
        if not shared.any():
            return None
        angles.append(normal_errors(derived, shared).mean)
    return min(angles)


def wrap_seam(picture: NDArray[np.float32], other: NDArray[np.float32], grid: int) -> float:
    """The step from a closed panorama's last column to the first one of `other`, over the mean step between latent pixels.

    A step is the mean absolute difference of two columns; `other` is the panorama itself, or another for control. 1 is no
    seam.

    Args:
        picture: (H, W) or (H, W, 3).
        other: of the same height.
        grid: pixels of a latent pixel.
    """
    steps = column_steps(picture)
    steps[0] = np.abs(picture[:, -1].astype(np.float64) - other[:, 0]).mean()
    return seam_ratios(steps, [0], grid=grid)["to_mean"]
