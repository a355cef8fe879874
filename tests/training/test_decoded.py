"""Errors of decoded maps: what they do not see, what they see, and what a recipe learns from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from jointnet_cli.model.branch import Conditioning
from jointnet_cli.training.decoded import FAR, direction_errors, disparity_errors
from jointnet_cli.training.determinism import RankSampler

from .conftest import Tiny, losses_at, opened

DENSE = ["model=runs/base/model", "masks.image_known=1", "masks.maps_known=0", "masks.equal=0", "masks.unequal=0"]


def landscape(seed: int, side: int = 16) -> Tensor:
    """Disparity (2, side, side) that grows downwards, under a sky."""
    rows = torch.linspace(-0.3, 0.9, side)[:, None].expand(2, side, side)
    rough = 0.1 * torch.rand(2, side, side, generator=torch.Generator().manual_seed(seed))
    return torch.where(rows > 0, rows + rough, 0)


def directions(seed: int, side: int = 8) -> Tensor:
    """Unit vectors (2, 3, side, side), zero in the uppermost row."""
    vectors = F.normalize(torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(seed)), dim=1)
    vectors[:, :, 0] = 0
    return vectors


@given(seed=st.integers(0, 1000), scale=st.floats(0.2, 3), shift=st.floats(-0.5, 0.5))
def test_neither_scale_nor_shift_of_disparity_counts(seed: int, scale: float, shift: float) -> None:
    truth = landscape(seed)
    land = truth > FAR
    errors = disparity_errors(torch.where(land, truth * scale + shift, 0), truth)
    assert errors.shape == (2,) and errors.max() < 1e-3


def test_an_error_of_disparity_counts_more_the_farther_it_is() -> None:
    truth = landscape(0)
    near, far = truth.clone(), truth.clone()
    near[:, -2] += 0.05
    far[:, 5] += 0.05
    assert (disparity_errors(far, truth) > 2 * disparity_errors(near, truth)).all()


def test_what_stands_in_the_sky_counts() -> None:
    truth = landscape(0)
    assert disparity_errors(torch.where(truth > 0, truth, 0.5), truth) == pytest.approx([0.5 * 4 / 16] * 2, abs=1e-3)


def test_a_flat_prediction_has_a_finite_gradient() -> None:
    flat = torch.full((2, 16, 16), 0.3, requires_grad=True)
    disparity_errors(flat, landscape(0)).sum().backward()
    assert flat.grad is not None and flat.grad.isfinite().all() and flat.grad.any()
    nothing = torch.zeros(2, 3, 8, 8, requires_grad=True)
    direction_errors(nothing, directions(0)).sum().backward()
    assert nothing.grad is not None and nothing.grad.isfinite().all()


@given(seed=st.integers(0, 1000), angle=st.floats(0.1, 3.1))
def test_directions_are_compared_by_their_angle(seed: int, angle: float) -> None:
    truth = directions(seed)
    x, y, z = truth.unbind(1)
    cos, sin = torch.tensor(angle).cos(), torch.tensor(angle).sin()
    turned = torch.stack([x * cos - y * sin, x * sin + y * cos, z], dim=1)
    tilt = (x.square() + y.square()).sqrt()[:, 1:]  # of the axis that they are turned around
    expected = (2 * torch.tensor(angle / 2).sin() * tilt).mean(dim=(1, 2))
    assert direction_errors(turned, truth) == pytest.approx(expected.tolist(), abs=0.01)
    assert direction_errors(0.5 * truth, truth) == pytest.approx([0.25 * 7 / 8 + 0.01] * 2, abs=0.01)


class Answers(nn.Module):
    """A network that predicts a fixed velocity, times one number that trains."""

    def __init__(self, velocity: Tensor) -> None:
        super().__init__()
        self.velocity, self.weight = velocity, nn.Parameter(torch.ones(()))

    def forward(self, latents: Tensor, timestep: Tensor, given: Conditioning, known: Any = None) -> Tensor:
        return self.weight * self.velocity


@pytest.mark.slow
def test_a_recipe_learns_from_the_decoded_maps_of_dense_predictions(tiny: Tiny, base_run: Path) -> None:
    """At the last timestep of this schedule the velocity is the clean latents' negative: the right answer has no error."""
    stage = opened(tiny("inpaint", *DENSE, "masks.one_step=1", "masks.decoded_weight=3"))
    clean = next(stage.batches(RankSampler(stage.settings.batch_size), 0)).clean
    right = losses_at(stage, Answers(-clean))
    assert set(right) == {"rgb", "depth", "decoded_depth"} and right["decoded_depth"] < 1e-3
    wrong = Answers(-clean.roll(1, 0))
    error = losses_at(stage, wrong)["decoded_depth"]
    error.backward()
    assert error > 0.03 and wrong.weight.grad
    assert not any(parameter.requires_grad for parameter in stage.model.vae.parameters())
    light = opened(tiny("inpaint", *DENSE, "masks.one_step=1", "masks.decoded_weight=1"))
    assert 3 * float(losses_at(light, wrong)["decoded_depth"]) == pytest.approx(float(error))


@pytest.mark.slow
def test_only_predictions_from_pure_noise_are_decoded(tiny: Tiny, base_run: Path) -> None:
    """Half of the items are such; the others' answers do not count."""
    shares = ["masks.image_known=0.5", "masks.one_step=1", "masks.decoded_weight=1", "train.batch_size=64"]
    stage = opened(tiny("inpaint", *DENSE, *shares))
    clean = next(stage.batches(RankSampler(64), 0)).clean

    class Partly(Answers):
        def forward(self, latents: Tensor, timestep: Tensor, given: Conditioning, known: Any = None) -> Tensor:
            last = timestep == stage.noise_schedule.config.num_train_timesteps - 1
            assert 16 < last.sum() < 48
            return torch.where(last.view(-1, 1, 1, 1, 1), self.velocity, self.velocity + 5)

    assert losses_at(stage, Partly(-clean))["decoded_depth"] < 1e-3
