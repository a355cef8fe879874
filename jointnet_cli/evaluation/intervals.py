"""How certain a measured number is: 95 % intervals by bootstrap over its items."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.evaluation.report import Estimate

TAILS = (0.025, 0.975)
"""The quantiles between which an interval lies."""


def mean_estimate(values: Sequence[float], *, resamples: int = 1000, seed: int = 0) -> Estimate:
    """The mean of one number an item, with the percentile interval of the means of resamples."""
    numbers = np.asarray(values, dtype=np.float64)
    if len(numbers) < 2:
        return Estimate(float(numbers[0]) if len(numbers) else np.nan, np.nan, np.nan, len(numbers))
    resampled = [numbers[draw].mean() for draw in _draws(len(numbers), resamples, seed)]
    low, high = np.quantile(resampled, TAILS)
    return Estimate(float(numbers.mean()), float(low), float(high), len(numbers))


def set_estimate(
    count: int, statistic: Callable[[NDArray[np.int64]], float], *, resamples: int = 200, seed: int = 0
) -> Estimate:
    """A number of a whole set, such as a Fréchet distance, with its interval.

    A resample holds some items twice and lacks others, which moves such numbers to one side: the Fréchet distance of a
    resample is larger than that of the set. So the percentiles are those of the resamples' deviations from their own mean,
    laid about the value of the set.

    Args:
        count: items of the set.
        statistic: the number of a choice of items, given their indices (P,); a resample repeats some.
        resamples: how many choices the interval is taken of.
        seed: decides the choices.
    """
    value = float(statistic(np.arange(count))) if count else np.nan
    if count < 2:
        return Estimate(value, np.nan, np.nan, count)
    resampled = np.array([statistic(draw) for draw in _draws(count, resamples, seed)])
    low, high = value + np.quantile(resampled - resampled.mean(), TAILS)
    return Estimate(value, float(low), float(high), count)


def _draws(count: int, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """The indices of every resample, one at a time: a large set's do not fit in memory together."""
    generator = np.random.default_rng(seed)
    for _ in range(resamples):
        yield generator.integers(0, count, count)
