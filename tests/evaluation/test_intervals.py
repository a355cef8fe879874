"""Bootstrap intervals against SciPy's and against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import bootstrap

from jointnet_cli.evaluation.intervals import mean_estimate, set_estimate


@pytest.mark.parametrize("count", [7, 60])
def test_the_interval_of_a_mean_is_scipys(count: int) -> None:
    values = np.random.default_rng(0).gamma(2, size=count)
    found = mean_estimate(values.tolist(), resamples=4000)
    peer = bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=1).confidence_interval
    assert found.value == pytest.approx(values.mean()) and found.count == count
    width = peer.high - peer.low
    assert found.low == pytest.approx(peer.low, abs=0.05 * width)
    assert found.high == pytest.approx(peer.high, abs=0.05 * width)


def test_the_interval_of_a_mean_is_the_normal_one() -> None:
    values = np.random.default_rng(1).normal(5, 2, size=400)
    found, error = mean_estimate(values.tolist(), resamples=4000), values.std() / 20
    assert (found.low, found.high) == pytest.approx((found.value - 1.96 * error, found.value + 1.96 * error), abs=0.02)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(3).normal(size=20).tolist()
    assert mean_estimate(values) == mean_estimate(values)


def test_one_item_has_no_interval_and_none_no_number() -> None:
    one, none = mean_estimate([3.0]), mean_estimate([])
    assert one.value == 3 and one.count == 1 and math.isnan(one.low) and math.isnan(one.high)
    assert none.count == 0 and math.isnan(none.value)
    assert set_estimate(1, lambda chosen: float(len(chosen))).value == 1
    assert math.isnan(set_estimate(0, lambda chosen: 1.0).value)


def test_a_set_of_independent_items_has_the_interval_of_their_mean() -> None:
    values = np.random.default_rng(2).normal(size=50)
    mean = mean_estimate(values.tolist(), resamples=2000)
    found = set_estimate(50, lambda chosen: float(values[chosen].mean()), resamples=2000)
    assert (found.value, found.low, found.high) == pytest.approx((mean.value, mean.low, mean.high), abs=0.01)


def test_a_number_that_repetition_moves_lies_within_its_interval() -> None:
    """Distinct items of a resample are 1 - 1/e of all: the plain percentiles would be nowhere near the whole set."""
    found = set_estimate(100, lambda chosen: float(len(set(chosen.tolist()))))
    assert found.value == 100 and 90 < found.low < 100 < found.high < 110
