"""Numbers of a set of images, from their features and logits: Fréchet distance and Inception Score."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.intervals import SET_RESAMPLES, set_estimate
from jointnet_cli.evaluation.metrics.features import FeatureSpace
from jointnet_cli.evaluation.metrics.metric import Predictions
from jointnet_cli.evaluation.report import Cell, Column, Estimate
from jointnet_cli.evaluation.runner import Record, Runner
from jointnet_cli.files.atomic import atomic_file

Rows = NDArray[np.float64]


class RealFeatures:
    """The features of real images, to which other sets are compared by Fréchet distance (Heusel et al., 2017).

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
        """Return the squared Fréchet distance between the Gaussians of other features (N, D), N > 1, and of the real ones."""
        return self.distances(features)(np.arange(len(features)))

    def distances(self, features: NDArray[np.floating]) -> Callable[[NDArray[np.int64]], float]:
        """Return the distance as a function of the indices of a choice of other features (N, D); indices may repeat.

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
    """Return exp of the mean Kullback-Leibler divergence of each image's classes from those of all (Salimans et al., 2016).

    It lies between 1 and the number of classes, and never exceeds the number of images in a split.

    Args:
        logits: (N, C).
        splits: parts of the set, in a fixed shuffled order, whose mean is taken; 10 with 30,000 images is usual.
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


class Distribution:
    """Fréchet distance and Inception Score of one feature network.

    Args:
        space: the network.
        real: what the Fréchet distance is taken from, if there is anything.
        splits: of the Inception Score.
        resamples: of the bootstrap, at most `SET_RESAMPLES`.
    """

    def __init__(self, space: FeatureSpace, real: Predictions | None, *, splits: int, resamples: int) -> None:
        self._space, self._real, self._splits = space, real, splits
        self._resamples = min(resamples, SET_RESAMPLES)
        self._features: RealFeatures | None = None

    @property
    def columns(self) -> list[Column]:
        distance = [Column(self._space.frechet, "lower", 2)] if self._real else []
        return distance + ([Column(self._space.score, "higher", 2)] if self._space.score else [])

    def __call__(self, predictions: Predictions, runner: Runner) -> Mapping[str, Cell]:
        """Return the cells of a set; the real images themselves have no Fréchet distance.

        Raises:
            UserError: fewer than two real images can be read.
        """
        features, logits = self._embed(predictions, runner)
        cells: dict[str, Cell] = {}
        if predictions is self._real:
            self._features = self._of_real(features)
        elif self._real:
            self._features = self._features or self._of_real(self._embed(self._real, runner)[0])
            if len(features) > 1:
                cells[self._space.frechet] = self._estimate(len(features), self._features.distances(features))
        if self._space.score and logits is not None and len(logits) >= self._splits:
            statistic = lambda draw: inception_score(logits[draw], self._splits)  # noqa: E731
            cells[self._space.score] = self._estimate(len(logits), statistic)
        return cells

    def _of_real(self, features: NDArray[np.float32]) -> RealFeatures:
        if len(features) < 2:
            raise UserError("a Fréchet distance needs at least two real images")
        return RealFeatures(features)

    def _estimate(self, count: int, statistic: Callable[[NDArray[np.int64]], float]) -> Estimate:
        return set_estimate(count, statistic, resamples=self._resamples)

    def _embed(
        self, predictions: Predictions, runner: Runner
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Return features (N, D) and logits (N, C) of the images; each image keeps its own in a file."""
        space = self._space
        key = f"{predictions.key} {space.name} {space.key}"

        def see(number: int) -> Record:
            features, logits = space.run(predictions.tensor(number))
            parts = [features] if logits is None else [features, logits]
            with atomic_file(runner.path(key, number, ".npy")) as temporary:
                np.save(temporary, np.concatenate([part[0].float().numpy() for part in parts]))
            return {"number": number, "features": features.shape[1]}

        records = runner.run(key, predictions.records, see, f"{predictions.name}, {space.name}")
        if not records:
            return np.empty((0, 1), np.float32), None
        rows = np.stack([np.load(runner.path(key, number, ".npy"), allow_pickle=False) for number in records])
        width = next(iter(records.values()))["features"]
        return rows[:, :width], rows[:, width:] if space.score else None
