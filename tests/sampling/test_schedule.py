"""Schedulers by name, the timesteps of a run, and what clean latents and noise are at them."""

from __future__ import annotations

from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from jointnet_cli.errors import UserError
from jointnet_cli.sampling.schedule import (
    SCHEDULERS,
    check_scheduler,
    make_schedule,
    make_scheduler,
    mended_timesteps,
)

CONFIG = {"beta_schedule": "scaled_linear", "timestep_spacing": "trailing", "num_train_timesteps": 1000}
PREDICTIONS = pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
NAMES = pytest.mark.parametrize("name", SCHEDULERS)
SPACINGS = pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
STRENGTHS = st.floats(0, 1)
WRONG_TRAILING = [61, 103, 121, 122, 201, 206, 242, 244, 402, 412, 484, 488, 994, 995, 998]
"""Step counts for which diffusers 0.42 returns one timestep too many (trailing spacing, 1,000 training timesteps).

62 of the 1,000 counts are wrong; these are some of them."""


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


def test_a_scheduler_s_own_settings_go_before_the_base_model_s() -> None:
    made = make_schedule("dpm++", {**CONFIG, "algorithm_type": "sde-dpmsolver++"}, 3).scheduler
    assert made.config.algorithm_type == "dpmsolver++"


def test_the_paper_s_steps() -> None:
    leading = make_schedule("ddim", {**CONFIG, "timestep_spacing": "leading", "steps_offset": 1}, 50)
    assert leading.scheduler.timesteps.tolist() == list(range(981, 0, -20))


def usual(name: str, config: dict[str, Any]) -> Any:
    """diffusers' scheduler as it comes."""
    class_name, settings = SCHEDULERS[name]
    return getattr(diffusers, class_name).from_config(config, **settings)


def is_right(timesteps: np.ndarray, steps: int, trained: int) -> bool:
    inside = len(timesteps) and timesteps[0] <= trained - 1 and timesteps[-1] >= 0
    return bool(len(timesteps) == steps and (np.diff(timesteps) < 0).all() and inside)


@NAMES
@SPACINGS
@pytest.mark.parametrize(("trained", "offset"), [(1000, 0), (1000, 1), (100, 1), (17, 0), (3, 1)])
def test_every_number_of_steps_is_exact_and_goes_down(name: str, spacing: str, trained: int, offset: int) -> None:
    config = {
        **stable_diffusion("epsilon"),
        "timestep_spacing": spacing,
        "num_train_timesteps": trained,
        "steps_offset": offset,
    }
    scheduler, plain = make_scheduler(name, config), usual(name, config)
    counts = {*range(1, trained + 1, max(1, trained // 25)), *WRONG_TRAILING, trained - 1, trained}
    for steps in (count for count in counts if count <= trained):
        scheduler.set_timesteps(steps)
        plain.set_timesteps(steps)
        timesteps, found = scheduler.timesteps.numpy(), plain.timesteps.numpy()
        assert is_right(timesteps, steps, trained), steps
        assert scheduler.num_inference_steps == steps
        if hasattr(scheduler, "sigmas"):
            # Noise levels follow the timesteps and end without noise.
            levels = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod).sqrt()
            expected = np.append(np.interp(timesteps, np.arange(trained), levels), 0)
            assert np.allclose(scheduler.sigmas, expected, rtol=1e-5)
        if is_right(found, steps, trained):
            assert np.array_equal(timesteps, found), steps
            assert not hasattr(scheduler, "sigmas") or torch.equal(scheduler.sigmas, plain.sigmas)


@pytest.mark.parametrize("trained", [1000, 999, 250, 61, 7, 2, 1])
def test_the_arithmetic_of_all_numbers_of_steps(trained: int) -> None:
    """Mend the timesteps of each spacing formula of diffusers, for every number of steps."""
    for steps in range(1, trained + 1):
        ratio, more = trained // steps, trained // (steps + 1)
        found = {
            "trailing": np.arange(trained, 0, -trained / steps).round() - 1,
            "leading": np.arange(steps)[::-1] * ratio + 1,
            "leading, multistep": np.arange(1, steps + 1)[::-1] * more + 1,
            "linspace": np.linspace(0, trained - 1, steps).round()[::-1],
            "linspace, multistep": np.linspace(0, trained - 1, steps + 1).round()[::-1][:-1],
        }
        for spacing, timesteps in found.items():
            mended = mended_timesteps(timesteps, steps, trained)
            assert is_right(mended, steps, trained), (spacing, steps)
            assert mended.dtype == timesteps.dtype
            assert np.array_equal(mended, timesteps) or not is_right(timesteps, steps, trained)
        exact = [round(trained * (steps - i) / steps) - 1 for i in range(steps)]
        assert np.abs(mended_timesteps(found["trailing"], steps, trained) - exact).max() <= 1


@NAMES
def test_sixty_one_trailing_steps(name: str) -> None:
    """61 steps give 61 timesteps. A rounding error in diffusers (61 * (1000 / 61) < 1000) adds a 62nd timestep of -1."""
    schedule = make_schedule(name, CONFIG, 61)
    assert schedule.steps == 61
    assert schedule.scheduler.timesteps[:4].tolist() == [999, 983, 966, 950]
    assert schedule.scheduler.timesteps[-3:].tolist() == [48, 32, 15]
    assert name == "ddim" or schedule.scheduler.sigmas.dtype == torch.float32


@NAMES
@SPACINGS
def test_as_many_steps_as_training_timesteps_are_all_of_them(name: str, spacing: str) -> None:
    config = {**CONFIG, "timestep_spacing": spacing, "steps_offset": 1}
    assert make_schedule(name, config, 1000).scheduler.timesteps.tolist() == list(range(999, -1, -1))


@pytest.mark.parametrize("name", ["ddim", "euler"])
def test_an_offset_does_not_lead_out_of_the_schedule(name: str) -> None:
    config = {**CONFIG, "timestep_spacing": "leading", "steps_offset": 30, "num_train_timesteps": 100}
    assert make_schedule(name, config, 4).scheduler.timesteps.tolist() == [99, 74, 49, 24]


@pytest.mark.parametrize("spacing", ["trailing", "linspace"])
@pytest.mark.parametrize("steps", [1, 5, 61, 990, 996, 999, 1000])
def test_a_schedule_that_begins_late_has_all_its_steps(spacing: str, steps: int) -> None:
    """DPM++ leaves out the timesteps without signal of a cosine schedule that states a bound."""
    config = {"beta_schedule": "squaredcos_cap_v2", "timestep_spacing": spacing, "lambda_min_clipped": -5.1}
    timesteps = make_schedule("dpm++", config, steps).scheduler.timesteps.numpy()
    assert is_right(timesteps, steps, 1000)
    assert timesteps[0] == (995 if steps < 999 else 999)


@pytest.mark.parametrize("name", ["dpm++", "unipc", "euler"])
def test_noise_levels_that_a_base_spaces_itself_are_left_alone(name: str) -> None:
    config = {**stable_diffusion("epsilon"), "use_karras_sigmas": True}
    ours, plain = make_schedule(name, config, 50).scheduler, usual(name, config)
    plain.set_timesteps(50)
    assert torch.equal(ours.sigmas, plain.sigmas) and torch.equal(ours.timesteps, plain.timesteps)


@pytest.mark.parametrize("steps", [1, 8, 20, 30, 50])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_ddim_steps_are_diffusers_own(steps: int, spacing: str) -> None:
    config = {**stable_diffusion("epsilon"), "timestep_spacing": spacing, "clip_sample": False}
    schedule, plain = make_schedule("ddim", config, steps), usual("ddim", config)
    plain.set_timesteps(steps)
    canvas, prediction = draw(2, 5, 3, 4), draw(2, 5, 3, 4, seed=1)
    for step, timestep in enumerate(plain.timesteps):
        expected = plain.step(prediction, timestep, canvas).prev_sample
        assert torch.equal(schedule.step(prediction, canvas, step), expected), step


@pytest.mark.parametrize(
    ("spacing", "steps"), [("linspace", 2), ("linspace", 7), ("linspace", 23), ("trailing", 7), ("leading", 600)]
)
def test_ddim_steps_to_the_schedule_s_next_noise_level(spacing: str, steps: int) -> None:
    """diffusers steps to the timestep 1000 // steps earlier, which need not be the next one."""
    config = {**stable_diffusion("epsilon"), "timestep_spacing": spacing, "clip_sample": False, "steps_offset": 1}
    schedule = make_schedule("ddim", config, steps)
    clean, noise = draw(2, 5, 3, 4), draw(2, 5, 3, 4, seed=1)
    for step in range(steps):
        after = schedule.step(noise, schedule.noised(clean, noise, step), step)
        # One timestep off is within rounding, but not after the last step.
        interval = schedule.scheduler.timesteps[step] - schedule.scheduler.timesteps[step + 1 : step + 2]
        close = 0.01 if (abs(interval - 1000 // steps) == 1).any() else 1e-4
        assert torch.allclose(after, schedule.noised(clean, noise, step + 1), atol=close), step


@pytest.mark.parametrize("name", ["dpm++", "unipc", "euler"])
def test_schedulers_with_noise_levels_step_as_in_diffusers(name: str) -> None:
    schedule, plain = make_schedule(name, stable_diffusion("epsilon"), 7), usual(name, stable_diffusion("epsilon"))
    plain.set_timesteps(7)
    canvas, prediction = draw(2, 5, 3, 4), draw(2, 5, 3, 4, seed=1)
    for step, timestep in enumerate(plain.timesteps):
        expected = plain.step(prediction, timestep, canvas).prev_sample
        assert torch.equal(schedule.step(prediction, canvas, step), expected), step
    assert schedule.scheduler.num_inference_steps == 7


@NAMES
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_exact_predictions_lead_to_the_clean_latents_and_foresee_them(name: str, prediction: str) -> None:
    """Values far beyond 1, which a scheduler that clips would not reach."""
    schedule = make_schedule(name, {**CONFIG, "prediction_type": prediction, "clip_sample": False}, 20, strength=0.5)
    clean, noise = 3 * draw(1, 4, 2, 2), draw(1, 4, 2, 2, seed=1)
    canvas = schedule.start(noise, clean)
    for step in range(schedule.begin, schedule.steps):
        level = schedule.scheduler.alphas_cumprod[schedule.scheduler.timesteps[step].long()]
        velocity = level.sqrt() * noise - (1 - level).sqrt() * clean
        answer = {"epsilon": noise, "v_prediction": velocity, "sample": clean}[prediction]
        seen = schedule.scheduler.scale_model_input(canvas, schedule.scheduler.timesteps[step])
        assert torch.allclose(schedule.predict_clean(seen, answer, step), clean, atol=2e-4)
        canvas = schedule.step(answer, canvas, step)
    assert torch.allclose(canvas, clean, atol=2e-4)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(list(SCHEDULERS)), st.integers(1, 60), STRENGTHS)
def test_strength_is_the_fraction_of_steps_at_the_clean_end_that_run(name: str, steps: int, strength: float) -> None:
    schedule = make_schedule(name, CONFIG, steps, strength)
    assert schedule.steps == steps
    assert schedule.steps - schedule.begin == max(round(strength * steps), strength > 0)


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
    with pytest.raises(ValueError, match=r"^a run that joins late needs latents to start from$"):
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
    foreseen = schedule.predict_clean(seen, velocity if prediction == "v_prediction" else noise, step)
    # The signal is 7 % at Stable Diffusion's last timestep: rounding grows by its inverse.
    assert torch.allclose(foreseen, clean, atol=5e-3)
    assert not torch.allclose(schedule.predict_clean(seen, noise - velocity, step), clean, atol=5e-3)


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
    with pytest.raises(UserError, match=r"^unknown scheduler lms") as fault:
        check_scheduler("lms")
    assert fault.value.hint == "schedulers: ddim, dpm++, unipc, euler"
    assert check_scheduler("euler") == "euler"
