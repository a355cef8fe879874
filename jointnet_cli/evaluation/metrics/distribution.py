"""Numbers of a set of pictures, from their features and logits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]


class RealFeatures:
    """The features of real pictures, to which sets of others are compared by Fréchet distance (Heusel et al., 2017).

    Args:
        features: (N, D), at least two.
    """

    def __init__(self, features: NDArray[np.floating]) -> None:
        real = features.astype(np.float64)
        self.mean = real.mean(axis=0)
        covariance = np.cov(real, rowvar=False).reshape(len(self.mean), len(self.mean))
        self.variance = float(np.trace(covariance))
        values, vectors = np.linalg.eigh(covariance)
        self._root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T

    def distance(self, features: NDArray[np.floating]) -> float:
        """The squared Fréchet distance between the Gaussians of other features (N, D), at least two, and of the real ones."""
        return self.distances(features)(np.arange(len(features)))

    def distances(self, features: NDArray[np.floating]) -> Callable[[NDArray[np.int64]], float]:
        """The same of any choice of other features (N, D), given their indices; some may repeat.

        With the covariances S of the real and A'A of the others, the trace of (S A'A)^(1/2) is the sum of the square
        roots of the eigenvalues of S^(1/2) A'A S^(1/2), or of A S A', whichever matrix is smaller. A S^(1/2), and where the
        latter is smaller the products of its rows, are computed once for all choices.
        """
        others = features.astype(np.float64)
        seen = (others - others.mean(axis=0)) @ self._root
        products = seen @ seen.T if len(seen) < seen.shape[1] else None

        def distance(draw: NDArray[np.int64]) -> float:
            chosen = others[draw]
            mean = chosen.mean(axis=0)
            if products is not None:
                shared = products[np.ix_(draw, draw)]
                shared = shared - shared.mean(axis=0) - shared.mean(axis=1, keepdims=True) + shared.mean()
            else:
                centred = seen[draw] - seen[draw].mean(axis=0)
                shared = centred.T @ centred
            cross = np.sqrt(np.linalg.eigvalsh(shared / (len(draw) - 1)).clip(min=0)).sum()
            variance = np.square(chosen - mean).sum() / (len(draw) - 1)
            return float(np.square(mean - self.mean).sum() + self.variance + variance - 2 * cross)

        return distance


def inception_score(logits: NDArray[np.floating], splits: int = 1) -> float:
    """exp of the mean Kullback-Leibler divergence of each picture's classes from those of all (Salimans et al., 2016).

    It lies between 1 and the number of classes, and is no more than the number of pictures in a split.

    Args:
        logits: (N, C).
        splits: the mean over so many parts of the set, in a fixed shuffled order; 10 with 30,000 pictures is usual.
    """
    values = logits.astype(np.float64)
    values = values - values.max(axis=1, keepdims=True)
    log_p = values - np.log(np.exp(values).sum(axis=1, keepdims=True))
    order = np.random.default_rng(0).permutation(len(log_p)) if splits > 1 else np.arange(len(log_p))
    return float(np.mean([_score(log_p[part]) for part in np.array_split(order, splits)]))


def _score(log_p: Rows) -> float:
    p = np.exp(log_p)
    marginal = np.log(p.mean(axis=0).clip(min=1e-300))
    return float(np.exp((p * (log_p - marginal)).sum(axis=1).mean()))
