"""The denoising objective (paper eq. 1): noise the latents, predict, compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from jointnet_cli.errors import UserError
from jointnet_cli.training.draws import Draws
from jointnet_cli.training.recipe import Objective
from jointnet_cli.training.variance import LearnedVariance

TARGETS = ("epsilon", "v_prediction")
"""What a network may predict: the noise, or the velocity."""


@dataclass(frozen=True)
class Noised:
    """A batch of latents at random timesteps and what the network should say about it."""

    latents: Tensor
    """(B, N, C, h, w) noisy latents."""
    timestep: Tensor
    """(B,), shared by the branches of an item."""
    target: Tensor
    """(B, N, C, h, w) noise, or velocity for v-prediction."""
    weight: Tensor
    """(B,) loss weight of the timestep."""
    variance: LearnedVariance | None = None
    """How the predicted variance is judged, of a base model that predicts one."""


def training_schedule(config: Mapping[str, Any]) -> DDPMScheduler:
    """The noise schedule of a base model's scheduler, whatever its sampler.

    Raises:
        UserError: the model predicts neither noise nor velocity.
    """
    schedule = DDPMScheduler.from_config(config)
    if schedule.config.prediction_type not in TARGETS:
        raise UserError(
            f"the model predicts {schedule.config.prediction_type}, which has no training objective here",
            hint=f"start from a model that predicts {' or '.join(TARGETS)}",
        )
    return schedule


def drop(captions: Sequence[str], share: float, draws: Draws) -> list[str]:
    """The captions, every one of them empty with probability `share` (classifier-free guidance)."""
    kept = (draws.uniform(device="cpu") >= share).tolist()  # a list on the CPU never waits for a GPU
    return [caption if keep else "" for caption, keep in zip(captions, kept, strict=True)]


def noised(
    clean: Tensor, scheduler: DDPMScheduler, objective: Objective, draws: Draws, last: Tensor | None = None
) -> Noised:
    """Corrupt latents (B, N, C, h, w) with independent noise for every branch at one random timestep an item.

    The items that `last` (B,) says are corrupted at the schedule's last timestep, where sampling begins.
    """
    noise = draws.normal(*clean.shape[1:])
    if objective.noise_offset:
        noise = noise + objective.noise_offset * draws.normal(*clean.shape[1:3], 1, 1)
    noise = noise.to(clean.device)
    count = scheduler.config.num_train_timesteps
    timestep = draws.integers(count).to(clean.device)
    if last is not None:
        timestep = torch.where(last.to(clean.device), count - 1, timestep)
    velocity = scheduler.config.prediction_type == "v_prediction"
    target = scheduler.get_velocity(clean, noise, timestep) if velocity else noise
    weight = timestep_weights(scheduler, timestep, objective.min_snr_gamma)
    latents = scheduler.add_noise(clean, noise, timestep)
    variance = None
    if scheduler.config.variance_type == "learned_range":
        variance = LearnedVariance(clean, latents, timestep, scheduler, objective.variance_weight)
    return Noised(latents, timestep, target, weight, variance)


def timestep_weights(scheduler: DDPMScheduler, timestep: Tensor, gamma: float | None) -> Tensor:
    """Loss weights (B,) that clip the weight of the clean latents' error (min-SNR, Hang et al., 2023).

    An error in the noise is one of `snr` in the clean latents, an error in the velocity one of `snr + 1`; both are clipped
    at gamma. With velocity the pure-noise timestep of a zero-terminal-SNR schedule keeps weight 1, so it is learned.
    """
    if gamma is None:
        return torch.ones(timestep.shape, device=timestep.device)
    alpha = scheduler.alphas_cumprod.to(timestep.device)[timestep]
    implied = alpha / (1 - alpha)
    if scheduler.config.prediction_type == "v_prediction":
        implied = implied + 1
    return implied.clamp(max=gamma) / implied.clamp(min=1e-8)


def branch_losses(predicted: Tensor, batch: Noised, unknown: Tensor | None = None) -> Tensor:
    """The mean squared error of every branch, (N,), and the bound of its variance where the network predicts one.

    Args:
        predicted: (B, N, C, h, w), or (B, N, 2C, h, w) with the variance's values after the C channels of the target.
        batch: what `noised` made.
        unknown: (B, N, 1, h, w), 1 where the network has to find the content; what is given is not counted.
    """
    channels = batch.target.shape[2]
    answer, values = predicted.float().split([channels, predicted.shape[2] - channels], dim=2)
    error = (answer - batch.target).square() * batch.weight.view(-1, 1, 1, 1, 1)
    if batch.variance and values.shape[2]:
        error = error + batch.variance.loss(answer, values)
    return (error if unknown is None else error * unknown).mean(dim=(0, 2, 3, 4))
