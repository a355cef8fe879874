"""Depth metrics against values computed by hand, and what they must not depend on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.shards import find_shards, read_shards
from hypothesis import given, settings
from hypothesis import strategies as st

from jointnet_cli.data.shards.shard_set import ShardSet
from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.baselines import mean_disparity
from jointnet_cli.evaluation.cases import WORLDS_CAP
from jointnet_cli.evaluation.metrics.depth import FIT_PIXELS, DepthErrors, align, depth_errors
from jointnet_cli.sampling.presets import Sampling

QUICK = Sampling(steps=2)

# The residual (0.2, -0.6, 0.6, -0.2) is orthogonal to 1 and to (1, 2, 3, 4): the least-squares fit changes nothing.
PREDICTED = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
TRUTH = torch.tensor([[1.2, 1.4, 3.6, 3.8]])


def errors_of(predicted: torch.Tensor, truth: torch.Tensor, *, depth_cap: float = WORLDS_CAP) -> DepthErrors:
    return depth_errors(predicted, truth, depth_cap=depth_cap)[0]


def test_errors_by_hand() -> None:
    errors = errors_of(PREDICTED, TRUTH)
    # The fit changes nothing; true disparity over aligned is 1.2, 0.7, 1.2, 0.95.
    assert errors.abs_rel == pytest.approx((0.2 + 0.3 + 0.2 + 0.05) / 4)
    assert errors.delta1 == 0.75
    near_quantile = 3.6 + 0.955 * 0.2  # of four values, the 0.985 quantile lies 0.955 of the way from the third on
    assert errors.rmse == pytest.approx((0.8 / 4) ** 0.5 / (near_quantile - 1.2), rel=1e-5)


@pytest.mark.parametrize("guess", [-50.0, 0.0, 50.0])
@pytest.mark.parametrize("farther", [0.0, 0.0124])
def test_sky_and_what_is_beyond_the_cap_do_not_count(farther: float, guess: float) -> None:
    bare = errors_of(PREDICTED, TRUTH)
    errors = errors_of(
        torch.cat([PREDICTED, torch.tensor([[guess]])], dim=1), torch.cat([TRUTH, torch.tensor([[farther]])], dim=1)
    )
    assert (errors.abs_rel, errors.delta1) == pytest.approx((bare.abs_rel, bare.delta1))


def test_no_prediction_is_farther_than_the_cap() -> None:
    cap = 1 / 1.1  # 1 becomes 1.1: true disparity over aligned is 1.2 / 1.1, 0.7, 1.2, 0.95
    expected = (1.2 / 1.1 - 1 + 0.3 + 0.2 + 0.05) / 4
    assert errors_of(PREDICTED, TRUTH, depth_cap=cap).abs_rel == pytest.approx(expected)


@pytest.mark.parametrize(("ratio", "delta1"), [(1.24, 1.0), (1.26, 2 / 3)])
def test_delta1_counts_ratios_below_1_25(ratio: float, delta1: float) -> None:
    """A constant prediction becomes the truth's mean, 1: one of three pixels is nearer by `ratio`."""
    truth = torch.tensor([[ratio, 1 - (ratio - 1) / 2, 1 - (ratio - 1) / 2]])
    assert errors_of(torch.full((1, 3), 0.37), truth).delta1 == pytest.approx(delta1)


def test_a_constant_becomes_the_mean() -> None:
    truth = torch.tensor([[1.0, 2.0, 3.0, 6.0]])  # mean 3
    errors = errors_of(torch.full((1, 4), 0.37), truth)
    assert errors.abs_rel == pytest.approx((2 / 3 + 1 / 3 + 0 + 1) / 4)
    assert errors.delta1 == 0.25


def picture(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Disparity of a prediction and of the truth, which has some sky."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(24, 24, generator=generator, dtype=torch.float64) + 0.05
    predicted = truth + 0.3 * torch.rand(24, 24, generator=generator, dtype=torch.float64)
    truth[:4] = 0
    return predicted, truth


def values(errors: DepthErrors) -> tuple[float, float, float]:
    return errors.abs_rel, errors.delta1, errors.rmse


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 50), scale=st.floats(0.01, 100), shift=st.floats(0, 10), flipped=st.booleans())
def test_scale_and_shift_of_the_prediction_do_not_matter(seed: int, scale: float, shift: float, flipped: bool) -> None:
    predicted, truth = picture(seed)
    scaled = scale * (2 - predicted if flipped else predicted) + shift  # above 0, as disparity that counts is
    assert values(errors_of(scaled, truth)) == pytest.approx(values(errors_of(predicted, truth)), rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 50), scale=st.floats(0.01, 100), shift=st.floats(0, 10))
def test_the_truth_itself_has_no_error(seed: int, scale: float, shift: float) -> None:
    truth = picture(seed)[1]
    assert values(errors_of(truth * scale + shift, truth)) == pytest.approx((0, 1, 0), abs=1e-6)


def test_the_alignment_is_the_median_of_nine_fits_by_value() -> None:
    """Each fit is NumPy's of the same draw; a tenth of the pixels are outliers, by which the mean is another one."""
    generator = torch.Generator().manual_seed(1)
    truth = torch.rand(FIT_PIXELS + 200, generator=generator, dtype=torch.float64)
    predicted = 2 * truth + 0.5
    predicted[:20] = 1000 * torch.rand(20, generator=generator, dtype=torch.float64)
    found = align(predicted, truth, torch.Generator().manual_seed(7))
    draws = torch.Generator().manual_seed(7)
    chosen = [torch.randperm(len(truth), generator=draws)[:FIT_PIXELS] for _ in range(9)]
    fits = np.array([np.polyfit(predicted[draw], truth[draw], 1) for draw in chosen])
    assert found == pytest.approx(np.median(fits, axis=0).tolist(), rel=1e-6)
    assert abs(fits.mean(axis=0)[0] / found[0] - 1) > 1e-4


def test_a_few_outliers_move_the_median_fit_less_than_one_fit() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(128, 128, generator=generator) + 0.05
    assert errors_of(truth, truth).abs_rel == pytest.approx(0, abs=1e-5)  # more pixels than one fit takes


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(UserError, match="no valid pixel"):
        errors_of(PREDICTED, torch.zeros(1, 4))
    with pytest.raises(UserError, match="finite"):
        errors_of(PREDICTED.log() / 0, TRUTH)


def test_mean_disparity_is_the_mean(training_shards: Path) -> None:
    first, second = (mean_disparity(ShardSet.open(training_shards, count)) for count in (1, 2))
    samples = read_shards(find_shards(training_shards), ("depth",))
    next(samples)
    depth = next(samples).inverse_depth
    assert depth is not None
    span = np.quantile(depth, 0.985) - depth.min()
    assert torch.allclose(2 * second - first, torch.from_numpy(((depth - depth.min()) / span).clip(0, 1)), atol=1e-4)
