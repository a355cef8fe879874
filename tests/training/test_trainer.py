"""The trainer's learning rate and budget."""

from __future__ import annotations

import pytest

from jointnet_cli.training.checkpoints import Clock
from jointnet_cli.training.optimizers import learning_rate, progress_of
from jointnet_cli.training.recipe import Train

BUDGET = Train(batch_size=1, learning_rate=2.0, max_steps=100, max_minutes=10, warmup_steps=4)


def test_progress_is_that_of_the_nearer_end() -> None:
    assert progress_of(BUDGET, Clock(25, 1)) == 0.25
    assert progress_of(BUDGET, Clock(25, 5)) == 0.5
    assert progress_of(BUDGET, Clock(25, 11)) == 1
    assert progress_of(BUDGET.model_copy(update={"max_minutes": None}), Clock(25, 1e6)) == 0.25


def test_warm_up_then_constant() -> None:
    rates = [learning_rate(BUDGET, Clock(step)) for step in (0, 1, 3, 4, 99)]
    assert rates == pytest.approx([0.5, 1.0, 2.0, 2.0, 2.0])
    assert learning_rate(BUDGET.model_copy(update={"warmup_steps": 0}), Clock(0)) == 2


def test_cosine_falls_to_the_final_rate() -> None:
    cosine = BUDGET.model_copy(update={"schedule": "cosine", "final_learning_rate": 0.1})
    assert learning_rate(cosine, Clock(50)) == pytest.approx(2 * (0.1 + 0.9 * 0.5))
    assert learning_rate(cosine, Clock(5, minutes=10)) == pytest.approx(0.2)
    rates = [learning_rate(cosine, Clock(step)) for step in range(4, 101)]
    assert rates == sorted(rates, reverse=True) and rates[-1] == pytest.approx(0.2)
