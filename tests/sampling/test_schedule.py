"""Schedulers by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from jointnet_cli.errors import UserError
from jointnet_cli.sampling.schedule import SCHEDULERS, check_scheduler, make_scheduler

CONFIG = {"beta_schedule": "scaled_linear", "timestep_spacing": "trailing", "num_train_timesteps": 1000}


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_steps_begin_at_the_end_of_the_schedule(name: str, steps: int) -> None:
    timesteps = make_scheduler(name, CONFIG, steps).timesteps
    assert len(timesteps) == steps
    assert int(timesteps[0]) == 999
    assert torch.equal(timesteps, timesteps.sort(descending=True).values)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_base_model_s_schedule_is_taken_over(name: str) -> None:
    config: dict[str, Any] = {**CONFIG, "prediction_type": "v_prediction", "beta_end": 0.013}
    made = make_scheduler(name, config, 3)
    assert (made.config.prediction_type, made.config.beta_end) == ("v_prediction", 0.013)
    assert config == {**CONFIG, "prediction_type": "v_prediction", "beta_end": 0.013}


def test_the_paper_s_steps() -> None:
    leading = make_scheduler("ddim", {**CONFIG, "timestep_spacing": "leading", "steps_offset": 1}, 50)
    assert leading.timesteps.tolist() == list(range(981, 0, -20))


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_steps_that_the_schedule_does_not_have(steps: int) -> None:
    with pytest.raises(UserError, match="between 1 and 1000"):
        make_scheduler("ddim", CONFIG, steps)


def test_unknown_names() -> None:
    with pytest.raises(UserError, match="unknown scheduler ddmi") as fault:
        make_scheduler("ddmi", CONFIG, 5)
    assert fault.value.hint == "did you mean ddim?"
    with pytest.raises(UserError) as fault:
        check_scheduler("lms")
    assert all(name in str(fault.value.hint) for name in SCHEDULERS)
    assert check_scheduler("euler") == "euler"
