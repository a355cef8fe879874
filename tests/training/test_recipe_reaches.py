"""The settings of `[objective]` reach the losses of the stages that train a denoiser."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from jointnet_cli.training.determinism import RankSampler, SampleRNG
from jointnet_cli.training.objective import add_noise
from jointnet_cli.training.recipe import Objective
from jointnet_cli.training.stages.stage import Stage

from .conftest import Tiny, loss_of, opened
from .test_objective import scheduler

COUNT = 4000
Opened = tuple[Any, Callable[[], Tensor]]
"""A stage, and a function that says which samples of its last loss had no caption."""


class Zeros(nn.Module):
    """Predicts zeros, and keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.given: list[Any] = []

    def forward(self, latents: Tensor, *given: Any) -> Tensor:
        self.given = [latents, *given]
        return torch.zeros_like(latents)


def base_stage(tiny: Tiny, run: Path, network: Zeros, *settings: str) -> Opened:
    stage = opened(tiny("base", *settings), run)
    return stage, lambda: (network.given[2] == stage.tokens[stage.rows[""]]).all(dim=1)


def joint_stage(tiny: Tiny, run: Path, network: Zeros, *settings: str) -> Opened:
    stage = opened(tiny("joint-depth", *settings))
    empty = stage.texts([""], torch.device("cpu")).text
    return stage, lambda: (network.given[2].text == empty).flatten(1).all(dim=1)


STAGES = pytest.mark.parametrize("opened", [base_stage, joint_stage])


def losses(stage: Stage, network: nn.Module, count: int) -> dict[str, Tensor]:
    batch = next(stage.batches(RankSampler(count), 0))
    with torch.no_grad():
        return loss_of(stage, network, batch, stage.settings.seed)


@pytest.mark.usefixtures("base_run")
@STAGES
@pytest.mark.parametrize("share", [0, 0.15, 1])
def test_the_share_of_samples_without_a_caption(
    tiny: Tiny, tmp_path: Path, opened: Callable[..., Opened], share: float
) -> None:
    network = Zeros()
    stage, dropped = opened(tiny, tmp_path, network, f"objective.text_dropout={share}")
    losses(stage, network, COUNT)
    deviation = math.sqrt(share * (1 - share) / COUNT)
    assert len(dropped()) == COUNT
    assert abs(dropped().double().mean().item() - share) <= 4 * deviation


@pytest.mark.usefixtures("base_run")
@STAGES
def test_noise_offset_and_min_snr_gamma(tiny: Tiny, tmp_path: Path, opened: Callable[..., Opened]) -> None:
    network = Zeros()
    settings = ("objective.noise_offset=0.5", "objective.min_snr_gamma=2.0", "objective.text_dropout=0", "train.seed=3")
    stage, _ = opened(tiny, tmp_path, network, *settings)
    found = losses(stage, network, 64)
    batch, draws = next(stage.batches(RankSampler(64), 0)), SampleRNG(3, range(64))
    draws.uniform()  # for the captions
    noise = draws.normal(*batch.clean.shape[1:]) + 0.5 * draws.normal(*batch.clean.shape[1:3], 1, 1)
    timestep = draws.integers(1000)
    schedule = scheduler("v_prediction")
    assert torch.equal(network.given[1], timestep)
    assert torch.allclose(network.given[0], schedule.add_noise(batch.clean, noise, timestep), atol=1e-6)
    velocity = schedule.get_velocity(batch.clean, noise, timestep)
    ratio = schedule.alphas_cumprod[timestep].double()
    ratio = ratio / (1 - ratio) + 1
    weight = ratio.clamp(max=2) / ratio
    wanted = (velocity.double().square().mean(dim=(2, 3, 4)) * weight[:, None]).mean(dim=0)
    assert [loss.item() for loss in found.values()] == pytest.approx(wanted.tolist(), rel=1e-4)


def test_every_timestep_is_drawn_alike_often() -> None:
    schedule = scheduler("v_prediction")
    clean = torch.zeros(100_000, 1, 1, 1, 1)
    counts = add_noise(clean, schedule, Objective(), SampleRNG(0, range(len(clean)))).timestep.bincount(minlength=1000)
    assert len(counts) == 1000 and counts[0] > 0 and counts[-1] > 0
    # 100 of each with a standard deviation of 10.
    assert counts.min() > 50 and counts.max() < 150
