"""Given content of a canvas."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from jointnet_cli.sampling.known import Known, channelwise
from jointnet_cli.sampling.schedule import SCHEDULERS, make_scheduler

SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "rescale_betas_zero_snr": True,
    "num_train_timesteps": 1000,
}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def known() -> Known:
    mask = (draw(2, 1, 6, 7, seed=1) > 0).float()
    clean = draw(2, 5, 6, 7)
    return Known(clean, mask, clean * (1 - mask), draw(2, 5, 6, 7, seed=2))


@pytest.mark.parametrize("name", SCHEDULERS)
def test_blending_noises_the_given_and_leaves_the_rest(known: Known, name: str) -> None:
    scheduler = make_scheduler(name, SCHEDULE, 7)
    canvas = draw(2, 5, 6, 7, seed=3)
    unknown = known.mask.expand_as(canvas) == 1
    levels = scheduler.alphas_cumprod
    for timestep in scheduler.timesteps:
        before = canvas.clone()
        blended = known.blend(canvas, scheduler, timestep)
        assert torch.equal(canvas, before)
        assert torch.equal(blended[unknown], canvas[unknown])
        # What the network sees of it is at the timestep's noise level: x_t = sqrt(a) x + sqrt(1 - a) n.
        seen = scheduler.scale_model_input(blended, timestep)
        level = levels[int(timestep)]
        expected = level.sqrt() * known.latents + (1 - level).sqrt() * known.noise
        assert torch.allclose(seen[~unknown], expected[~unknown], atol=2e-3)
        scheduler.step(canvas, timestep, canvas)


def test_pasting_is_exact(known: Known) -> None:
    canvas = draw(2, 5, 6, 7, seed=3)
    pasted = known.paste(canvas)
    unknown = known.mask.expand_as(canvas) == 1
    assert torch.equal(pasted[unknown], canvas[unknown])
    assert torch.equal(pasted[~unknown], known.latents[~unknown])
    assert unknown.any() and not unknown.all()


def test_masked_input_is_the_mask_and_then_the_latents(known: Known) -> None:
    assert known.masked_input.shape == (2, 6, 6, 7)
    assert torch.equal(known.masked_input[:, :1], known.mask)
    assert torch.equal(known.masked_input[:, 1:], known.masked_latents)


@pytest.mark.parametrize("given", [[True, False, False], [False, True, True], [False, False, False]])
def test_whole_modalities(given: list[bool]) -> None:
    clean, grey = draw(3, 5, 4, 6), draw(3, 5, 4, 6, seed=4)
    made = channelwise(clean, given, grey, torch.Generator().manual_seed(9))
    assert made.mask.shape == (3, 1, 4, 6)
    for branch, present in enumerate(given):
        assert (made.mask[branch] == (0 if present else 1)).all()
        assert torch.equal(made.masked_latents[branch], clean[branch] if present else grey[branch])
        assert torch.equal(made.latents[branch], clean[branch])
    assert torch.equal(made.noise, draw(3, 5, 4, 6, seed=9))
