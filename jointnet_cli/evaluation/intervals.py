"""95 % intervals of measured numbers, by bootstrap over items."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.evaluation.report import Estimate

TAILS = (0.025, 0.975)
"""The quantiles that bound an interval."""

SET_RESAMPLES = 200
"""Most resamples for numbers of a set, each of which takes an eigendecomposition."""


def mean_estimate(values: Sequence[float], *, resamples: int = 1000) -> Estimate:
    """Return the mean of one number per item, with the percentile interval of the means of resamples."""
    numbers = np.asarray(values, dtype=np.float64)
    if len(numbers) < 2:
        return Estimate(float(numbers[0]) if len(numbers) else np.nan, np.nan, np.nan, len(numbers))
    resampled = [numbers[draw].mean() for draw in _draws(len(numbers), resamples)]
    low, high = np.quantile(resampled, TAILS)
    return Estimate(float(numbers.mean()), float(low), float(high), len(numbers))


def set_estimate(
    count: int, statistic: Callable[[NDArray[np.int64]], float], *, resamples: int = SET_RESAMPLES
) -> Estimate:
    """Return a number of a whole set, such as a Fréchet distance, with its interval.

    A resample holds some items twice and lacks others, which biases such numbers: the Fréchet distance of a resample is
    larger than that of the set. So the interval is the percentiles of the resamples' deviations from their own mean, added
    to the value of the set.

    Args:
        count: items of the set.
        statistic: from the indices (P,) of a choice of items to its number; a resample repeats some indices.
        resamples: number of choices.
    """
    value = float(statistic(np.arange(count))) if count else np.nan
    if count < 2:
        return Estimate(value, np.nan, np.nan, count)
    resampled = np.array([statistic(draw) for draw in _draws(count, resamples)])
    low, high = value + np.quantile(resampled - resampled.mean(), TAILS)
    return Estimate(value, float(low), float(high), count)


def share_estimate(right: NDArray[np.int64], asked: NDArray[np.int64], *, resamples: int) -> Estimate | None:
    """Return the share of right answers over items that were asked different numbers of questions; `None` for no questions."""
    right, asked = right[asked > 0], asked[asked > 0]
    if not len(asked):
        return None
    found = set_estimate(len(asked), lambda draw: float(right[draw].sum() / asked[draw].sum()), resamples=resamples)
    return replace(found, low=max(found.low, 0.0), high=min(found.high, 1.0))


def _draws(count: int, resamples: int) -> Iterator[NDArray[np.int64]]:
    """Yield the indices of every resample, one at a time: those of a large set do not fit in memory together."""
    generator = np.random.default_rng(0)
    for _ in range(resamples):
        yield generator.integers(0, count, count)
