"""Schedulers by name, the timesteps of a run, and what clean latents and noise are at them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from jointnet_cli.errors import UserError
from jointnet_cli.sampling.schedule import SCHEDULERS, check_scheduler, make_schedule

CONFIG = {"beta_schedule": "scaled_linear", "timestep_spacing": "trailing", "num_train_timesteps": 1000}
PREDICTIONS = pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
NAMES = pytest.mark.parametrize("name", SCHEDULERS)
STRENGTHS = st.floats(0, 1)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def stable_diffusion(prediction: str) -> dict[str, Any]:
    """Stable Diffusion's schedule; for velocity that with zero terminal SNR."""
    return {
        **CONFIG,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "prediction_type": prediction,
        "rescale_betas_zero_snr": prediction == "v_prediction",
    }


@NAMES
@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_steps_begin_at_the_end_of_the_schedule(name: str, steps: int) -> None:
    schedule = make_schedule(name, CONFIG, steps)
    timesteps = schedule.scheduler.timesteps
    assert (schedule.steps, schedule.begin, len(timesteps)) == (steps, 0, steps)
    assert int(timesteps[0]) == 999
    assert torch.equal(timesteps, timesteps.sort(descending=True).values)


@NAMES
def test_the_base_model_s_schedule_is_taken_over(name: str) -> None:
    config: dict[str, Any] = {**CONFIG, "prediction_type": "v_prediction", "beta_end": 0.013}
    made = make_schedule(name, config, 3).scheduler
    assert (made.config.prediction_type, made.config.beta_end) == ("v_prediction", 0.013)
    assert config == {**CONFIG, "prediction_type": "v_prediction", "beta_end": 0.013}


def test_the_paper_s_steps() -> None:
    leading = make_schedule("ddim", {**CONFIG, "timestep_spacing": "leading", "steps_offset": 1}, 50)
    assert leading.scheduler.timesteps.tolist() == list(range(981, 0, -20))


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(list(SCHEDULERS)), st.integers(1, 60), STRENGTHS)
def test_strength_is_the_fraction_of_steps_at_the_clean_end_that_run(name: str, steps: int, strength: float) -> None:
    schedule = make_schedule(name, CONFIG, steps, strength)
    assert schedule.steps == steps
    assert schedule.steps - schedule.begin == round(strength * steps)


@NAMES
@PREDICTIONS
def test_full_strength_starts_from_noise_alone(name: str, prediction: str) -> None:
    schedule = make_schedule(name, stable_diffusion(prediction), 7)
    noise = draw(2, 5, 3, 4)
    assert torch.equal(schedule.start(noise, draw(2, 5, 3, 4, seed=1)), schedule.start(noise))
    assert torch.equal(schedule.start(noise), noise * schedule.scheduler.init_noise_sigma)


@NAMES
def test_no_strength_starts_and_ends_with_what_is_there(name: str) -> None:
    schedule, clean = make_schedule(name, CONFIG, 7, 0.0), draw(2, 5, 3, 4)
    assert schedule.begin == schedule.steps
    assert torch.equal(schedule.start(draw(2, 5, 3, 4, seed=1), clean), clean)


@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_a_run_that_joins_late_needs_a_start(strength: float) -> None:
    with pytest.raises(ValueError, match="latents to start from"):
        make_schedule("ddim", CONFIG, 4, strength).start(draw(1, 1, 2, 2))


@NAMES
@PREDICTIONS
@settings(max_examples=8, deadline=None)
@given(st.integers(1, 20), STRENGTHS)
def test_the_network_sees_a_start_at_its_timestep_s_noise(
    name: str, prediction: str, steps: int, strength: float
) -> None:
    schedule = make_schedule(name, stable_diffusion(prediction), steps, strength)
    if 0 < schedule.begin < steps:
        clean, noise = draw(2, 5, 3, 4), draw(2, 5, 3, 4, seed=1)
        timestep = schedule.scheduler.timesteps[schedule.begin]
        seen = schedule.scheduler.scale_model_input(schedule.start(noise, clean), timestep)
        level = schedule.scheduler.alphas_cumprod[int(timestep)]
        assert torch.allclose(seen, level.sqrt() * clean + (1 - level).sqrt() * noise, atol=2e-3)


@NAMES
@PREDICTIONS
@settings(max_examples=8, deadline=None)
@given(st.integers(1, 20), st.floats(0.05, 1))
def test_what_is_foreseen_is_what_was_noised(name: str, prediction: str, steps: int, strength: float) -> None:
    schedule = make_schedule(name, stable_diffusion(prediction), steps, strength)
    step = min(schedule.begin, steps - 1)
    clean, noise = draw(2, 5, 3, 4), draw(2, 5, 3, 4, seed=1)
    timestep = schedule.scheduler.timesteps[step]
    seen = schedule.scheduler.scale_model_input(schedule.noised(clean, noise, step), timestep)
    level = schedule.scheduler.alphas_cumprod[int(timestep)]
    velocity = level.sqrt() * noise - (1 - level).sqrt() * clean
    foreseen = schedule.foresee(seen, velocity if prediction == "v_prediction" else noise, step)
    # The signal is 7 % at Stable Diffusion's last timestep: rounding grows by its inverse.
    assert torch.allclose(foreseen, clean, atol=5e-3)
    assert not torch.allclose(schedule.foresee(seen, noise - velocity, step), clean, atol=5e-3)


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_steps_that_the_schedule_does_not_have(steps: int) -> None:
    with pytest.raises(UserError, match="between 1 and 1000"):
        make_schedule("ddim", CONFIG, steps)


@pytest.mark.parametrize("strength", [-0.1, 1.5, float("nan")])
def test_strengths_that_cannot_be(strength: float) -> None:
    with pytest.raises(UserError, match="between 0 and 1"):
        make_schedule("ddim", CONFIG, 5, strength)


def test_unknown_names() -> None:
    with pytest.raises(UserError, match="unknown scheduler ddmi") as fault:
        make_schedule("ddmi", CONFIG, 5)
    assert fault.value.hint == "did you mean ddim?"
    with pytest.raises(UserError) as fault:
        check_scheduler("lms")
    assert all(name in str(fault.value.hint) for name in SCHEDULERS)
    assert check_scheduler("euler") == "euler"
