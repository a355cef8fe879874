"""Whether the parts of a result belong together: edges, normals of depth, correlation, wrap seam."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from jointnet_cli.evaluation.methods import Prediction
from jointnet_cli.evaluation.metrics.metric import Predictions, means
from jointnet_cli.evaluation.metrics.normals import normal_errors, normals_of, pinhole
from jointnet_cli.evaluation.metrics.panoramas import column_steps, seam_ratios
from jointnet_cli.evaluation.report import Cell, Column
from jointnet_cli.evaluation.runner import Runner
from jointnet_cli.projection import NOMINAL_FOV

OTHER_NOISE = 1_000_000
"""Added to a sample's seed when its depth is predicted, lest the same noise make the maps alike."""


def pearson(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Return linear correlation of two maps in [-1, 1]; a flat map correlates 0 with anything."""
    a, b = (np.ravel(values).astype(np.float64) for values in (first, second))
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norm if norm > 1e-12 else 0.0


def spearman(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Return correlation of ranks, which asks only whether the order from near to far is the same."""
    return pearson(_ranks(first), _ranks(second))


def _ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return ranks of values (P,); equal values share their mean rank."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[group]
    return ranks


def partners(count: int) -> list[int]:
    """Return for every sample another one, by a fixed shuffle in which nobody keeps their own."""
    order = np.random.default_rng(0).permutation(count)
    partners = np.empty(count, dtype=int)
    partners[order] = np.roll(order, 1)
    return [int(partner) for partner in partners]


SHARE = 0.05
"""Of a map's pixels, those that count as its edges."""

TOLERANCE = 128
"""An image edge may be a pixel off for so many pixels of the shorter side, and for less at least one."""


def edge_strength(disparity: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return absolute second differences along both axes, summed, (H, W).

    The disparity of a plane is linear in the image, whatever its slope: only jumps, creases and curved surfaces have any.
    """
    wide = np.pad(disparity.astype(np.float64), 1, mode="reflect", reflect_type="odd")
    inner = wide[1:-1, 1:-1]
    return np.abs(wide[1:-1, :-2] - 2 * inner + wide[1:-1, 2:]) + np.abs(wide[:-2, 1:-1] - 2 * inner + wide[2:, 1:-1])


def contrast(image: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the length of the gradient (central differences) in the colour channel where it is longest, (H, W)."""
    down, right = np.gradient(image.astype(np.float64), axis=(0, 1))
    strength: NDArray[np.float64] = np.hypot(down, right).max(axis=-1)
    return strength


def edge_auc(image: NDArray[np.floating], disparity: NDArray[np.floating]) -> float | None:
    """Return how likely the image has more contrast at an edge of the depth than elsewhere: 0.5 is chance, 1 always.

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


def consistency(sample: Prediction, other: Prediction, grid: int) -> dict[str, float | None]:
    """Measure a result against the maps of `other`: of itself, or of another result for control. `grid` has no effect.

    - `edges`: `edge_auc` of the image and the other's disparity.
    - `normals`: `angle_to_normals` of the disparity and the other's normals, degrees.
    - `pearson`, `spearman`: correlations of the disparity and the one predicted again from the other's image.

    `None` where there is no such map, or nothing in it to measure.
    """
    assert sample.image is not None and sample.depth is not None and other.depth is not None
    camera = sample.measured.get("intrinsics")
    return {
        "edges": edge_auc(sample.image, other.depth),
        "normals": None if other.normal is None else angle_to_normals(sample.depth, other.normal, camera),
        "pearson": None if other.again is None else pearson(sample.depth, other.again),
        "spearman": None if other.again is None else spearman(sample.depth, other.again),
    }


def angle_to_normals(
    disparity: NDArray[np.float32], normal: NDArray[np.float32], intrinsics: NDArray[np.float64] | None = None
) -> float | None:
    """Return the mean angle in degrees between the normals that follow from disparity and those of a map.

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


def wrap_seam(image: NDArray[np.float32], other: NDArray[np.float32], grid: int) -> float:
    """Return the step from a panorama's last column to the first of `other`, over the mean step between latent pixels.

    A step is the mean absolute difference of two columns; `other` is the panorama itself, or another for control. 1 is no
    seam.

    Args:
        image: (H, W) or (H, W, 3).
        other: of the same height.
        grid: pixels of a latent pixel.
    """
    steps = column_steps(image)
    steps[0] = np.abs(image[:, -1].astype(np.float64) - other[:, 0]).mean()
    return seam_ratios(steps, [0], grid=grid)["to_mean"]


SAMPLE_COLUMNS = {
    "edges": Column("edge AUC", "higher"),
    "normals": Column("depth to normals, °", "lower", digits=2),
    "pearson": Column("re-predicted depth, Pearson", "higher"),
    "spearman": Column("re-predicted depth, Spearman", "higher"),
}
SEAM_COLUMNS = {"image": Column("image wrap seam", "lower"), "depth": Column("depth wrap seam", "lower")}


def seams(panorama: Prediction, other: Prediction, grid: int) -> dict[str, float | None]:
    """Return `wrap_seam` of the image and the depth of a panorama against the first column of `other`."""
    return {name: wrap_seam(getattr(panorama, name), getattr(other, name), grid) for name in SEAM_COLUMNS}


class Consistency:
    """Means of a measure of each result against itself, or as a control against another result of the same size.

    Args:
        columns: by the key of the measure.
        maps: the parts of predictions that the measure reads.
        measure: from two predictions and the pixels of a latent pixel to its numbers; `None` does not count.
        resamples: of the bootstrap.
        shuffled: whether this is the control.
    """

    def __init__(
        self,
        columns: Mapping[str, Column],
        maps: Sequence[str],
        measure: Callable[[Prediction, Prediction, int], Mapping[str, float | None]],
        resamples: int,
        *,
        shuffled: bool = False,
    ) -> None:
        self._columns, self._maps, self._measure = columns, maps, measure
        self._resamples, self._shuffled = resamples, shuffled
        self.columns = tuple(columns.values())

    def control(self) -> Consistency:
        """Return the metric of the control."""
        return Consistency(self._columns, self._maps, self._measure, self._resamples, shuffled=True)

    def __call__(self, predictions: Predictions, runner: Runner) -> Mapping[str, Cell]:
        numbers = list(predictions.records)
        records = {}
        # A single result has no other.
        for own, other in enumerate(partners(len(numbers)) if self._shuffled else range(len(numbers))):
            sample = predictions.read(numbers[own], self._maps)
            partner = sample if own == other else predictions.read(numbers[other], self._maps)
            if (own == other) == self._shuffled or not _same_size(sample, partner):
                continue
            records[own] = dict(self._measure(sample, partner, predictions.grid))
        return means(records, self._columns, self._resamples)


def _same_size(first: Prediction, second: Prediction) -> bool:
    assert first.depth is not None and second.depth is not None
    return first.depth.shape == second.depth.shape
