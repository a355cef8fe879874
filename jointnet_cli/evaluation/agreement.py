"""Correlations of two maps, and the pairing of a control.

Depth that is predicted anew from a picture alone, without its prompt and from other noise, is correlated with the depth that
came with the picture, and as a control with that of another picture.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
