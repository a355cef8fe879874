"""Correlations by hand, and the control's pairing."""

from __future__ import annotations

import numpy as np
import pytest

from jointnet_cli.evaluation.metrics.consistency import partners, pearson, spearman

RAMP = np.arange(12, dtype=np.float32).reshape(3, 4)


def test_correlations() -> None:
    assert pearson(RAMP, 3 * RAMP + 2) == pytest.approx(1)
    assert pearson(RAMP, -RAMP) == pytest.approx(-1)
    assert spearman(RAMP, np.exp(RAMP)) == pytest.approx(1)
    assert pearson(RAMP, np.exp(RAMP)) < 0.8
    assert pearson(np.array([1, 2, 3, 4.0]), np.array([1, 3, 2, 4.0])) == pytest.approx(0.8)


def test_a_flat_map_correlates_with_nothing() -> None:
    assert pearson(RAMP, np.full_like(RAMP, 0.3)) == spearman(np.zeros_like(RAMP), RAMP) == 0


@pytest.mark.parametrize("count", [2, 3, 64])
def test_nobody_is_their_own_partner(count: int) -> None:
    others = partners(count)
    assert sorted(others) == list(range(count))
    assert all(partner != number for number, partner in enumerate(others))
