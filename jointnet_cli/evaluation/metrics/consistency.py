"""Do the parts of a result belong together: edges, correlation, wrap seam."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from jointnet_cli.engine import NOMINAL_FOV
from jointnet_cli.evaluation.metrics.normals import normal_errors, normals_of, pinhole
from jointnet_cli.evaluation.metrics.panoramas import column_steps, seam_ratios

OTHER_NOISE = 1_000_000
"""Added to a sample's seed when its depth is predicted, lest the same noise make the maps alike."""


def pearson(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Linear correlation of two maps in [-1, 1]; a flat map correlates 0 with anything."""
    a, b = (np.ravel(values).astype(np.float64) for values in (first, second))
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norm if norm > 1e-12 else 0.0


def spearman(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Correlation of ranks, which asks only whether the order from near to far is the same."""
    return pearson(_ranks(first), _ranks(second))


def _ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Ranks of values (P,); equal values share their mean rank."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[group]


def partners(count: int) -> list[int]:
    """For every sample another one, by a fixed shuffle in which nobody keeps their own."""
    order = np.random.default_rng(0).permutation(count)
    partners = np.empty(count, dtype=int)
    partners[order] = np.roll(order, 1)
    return [int(partner) for partner in partners]


SHARE = 0.05
"""Of a map's pixels, those that count as its edges."""

TOLERANCE = 128
"""An image edge may be a pixel off for so many pixels of the shorter side, and for less at least one."""


def edge_strength(disparity: NDArray[np.floating]) -> NDArray[np.float64]:
    """Absolute second differences along both axes, summed, (H, W).

    The disparity of a plane is linear in the image, whatever its slope: only jumps, creases and curved surfaces have any.
    """
    wide = np.pad(disparity.astype(np.float64), 1, mode="reflect", reflect_type="odd")
    inner = wide[1:-1, 1:-1]
    return np.abs(wide[1:-1, :-2] - 2 * inner + wide[1:-1, 2:]) + np.abs(wide[:-2, 1:-1] - 2 * inner + wide[2:, 1:-1])


def contrast(image: NDArray[np.floating]) -> NDArray[np.float64]:
    """The length of the gradient (central differences) in the colour channel where it is longest, (H, W)."""
    down, right = np.gradient(image.astype(np.float64), axis=(0, 1))
    return np.hypot(down, right).max(axis=-1)


def edge_auc(image: NDArray[np.floating], disparity: NDArray[np.floating]) -> float | None:
    """How likely the picture has more contrast at an edge of the depth than elsewhere: 0.5 is chance, 1 always.

    The area under the ROC curve of image contrast as a detector of depth edges. These are the pixels whose `edge_strength` is
    among the largest `SHARE`, equal ones included, and more than rounding makes. Contrast is the largest within the
    tolerance. Image edges without depth edges, such as texture and shadows, are no fault, but depth edges without image edges
    are; equal contrasts count half.

    Args:
        image: (H, W, 3) sRGB.
        disparity: (H, W), any scale and shift.

    Returns:
        `None` of a map without edges.
    """
    strength = edge_strength(disparity)
    rounding = np.finfo(np.float32).eps * 8 * np.abs(disparity).max()
    edges = (strength >= np.quantile(strength, 1 - SHARE)) & (strength > rounding)
    if not edges.any():
        return None
    reach = max(1, round(min(disparity.shape) / TOLERANCE))
    found = F.max_pool2d(torch.from_numpy(contrast(image))[None], 2 * reach + 1, stride=1, padding=reach)[0].numpy()
    elsewhere = np.sort(found[~edges])
    below = np.searchsorted(elsewhere, found[edges], side="left") + np.searchsorted(
        elsewhere, found[edges], side="right"
    )
    return float(below.mean() / 2 / len(elsewhere))


SHIFTS = (0.0, *np.geomspace(0.01, 3, 16).tolist())
"""What may have to be added to relative disparity to be proportional to inverse depth."""

ENDS = 1e-3
"""Disparity so near 0 or 1 is sky, or cut off: it says nothing of a slope."""


@dataclass(frozen=True)
class ConsistencySample:
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


def consistency(sample: ConsistencySample, other: ConsistencySample) -> dict[str, float | None]:
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
