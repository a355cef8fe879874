"""Given content of a canvas."""

from __future__ import annotations

import pytest
import torch
from helpers.schedules import VELOCITY
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from jointnet_cli.sampling.known import Known, Region
from jointnet_cli.sampling.schedule import SCHEDULERS, make_schedule


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def known() -> Known:
    mask = (draw(2, 1, 6, 7, seed=1) > 0).float()
    return Known(draw(2, 5, 6, 7), mask, draw(2, 5, 6, 7, seed=2))


@pytest.mark.parametrize("name", SCHEDULERS)
def test_blending_noises_the_given_and_leaves_the_rest(known: Known, name: str) -> None:
    schedule = make_schedule(name, VELOCITY, 7)
    scheduler, canvas = schedule.scheduler, draw(2, 5, 6, 7, seed=3)
    unknown = known.mask.expand_as(canvas) == 1
    assert unknown.any() and not unknown.all()
    for step, timestep in enumerate(scheduler.timesteps):
        before = canvas.clone()
        blended = known.blend(canvas, schedule, step)
        assert torch.equal(canvas, before)
        assert torch.equal(blended[unknown], canvas[unknown])
        # What the network sees of it is at the timestep's noise level: x_t = sqrt(a) x + sqrt(1 - a) n.
        seen = scheduler.scale_model_input(blended, timestep)
        level = scheduler.alphas_cumprod[int(timestep)]
        expected = level.sqrt() * known.latents + (1 - level).sqrt() * known.noise
        assert torch.allclose(seen[~unknown], expected[~unknown], atol=2e-3)
        scheduler.step(canvas, timestep, canvas)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_after_the_last_step_the_given_is_exact(known: Known, name: str) -> None:
    canvas = draw(2, 5, 6, 7, seed=3)
    blended = known.blend(canvas, make_schedule(name, VELOCITY, 4), 4)
    unknown = known.mask.expand_as(canvas) == 1
    assert torch.equal(blended[unknown], canvas[unknown])
    assert torch.equal(blended[~unknown], known.latents[~unknown])


def test_masked_input_is_the_mask_and_then_the_given_latents(known: Known) -> None:
    assert known.masked_input.shape == (2, 6, 6, 7)
    assert torch.equal(known.masked_input[:, :1], known.mask)
    unknown = known.mask.expand_as(known.latents) == 1
    told = known.masked_input[:, 1:]
    assert torch.equal(told[~unknown], known.latents[~unknown])
    assert not told[unknown].any()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99), st.floats(-10, 10, width=32))
def test_what_lies_under_the_mask_is_not_told(seed: int, value: float) -> None:
    mask = (draw(2, 1, 4, 5, seed=seed) > 0).float()
    clean, noise, canvas = (draw(2, 3, 4, 5, seed=seed + i) for i in (1, 2, 3))
    schedule = make_schedule("ddim", VELOCITY, 3)
    one, other = Known(clean, mask, noise), Known(torch.where(mask > 0.5, value, clean), mask, noise)
    assert torch.equal(one.masked_input, other.masked_input)
    for step in range(4):
        assert torch.equal(one.blend(canvas, schedule, step), other.blend(canvas, schedule, step))


def test_regions_of_all_branches_make_the_known(known: Known) -> None:
    regions = [Region(latents, mask) for latents, mask in zip(known.latents, known.mask, strict=True)]
    made = Known.of(regions, known.noise)
    assert torch.equal(made.latents, known.latents)
    assert torch.equal(made.mask, known.mask)
    assert made.noise is known.noise
    half = Known.of(regions, known.noise.half())
    assert half.latents.dtype == half.mask.dtype == half.masked_input.dtype == torch.float16


@pytest.mark.parametrize("given", [[True, False, False], [False, True, True], [False, False, False]])
def test_whole_modalities(given: list[bool]) -> None:
    clean = draw(3, 5, 4, 6)
    regions = [Region.whole(x) if whole else Region.nothing(x) for x, whole in zip(clean, given, strict=True)]
    made = Known.of(regions, draw(3, 5, 4, 6, seed=9))
    assert made.mask.shape == (3, 1, 4, 6)
    for branch, whole in enumerate(given):
        assert (made.mask[branch] == (0 if whole else 1)).all()
        assert torch.equal(made.latents[branch], clean[branch] if whole else torch.zeros(5, 4, 6))
