"""The denoising objective (paper eq. 1): noise the latents, predict, compare."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import DDPMScheduler
from torch import Generator, Tensor

from jointnet_cli.training.recipe import Objective


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


def noised(clean: Tensor, scheduler: DDPMScheduler, objective: Objective, generator: Generator) -> Noised:
    """Corrupt latents (B, N, C, h, w) with independent noise for every branch at one random timestep an item."""
    count = len(clean)
    noise = torch.randn(clean.shape, generator=generator)
    if objective.noise_offset:
        noise = noise + objective.noise_offset * torch.randn((*clean.shape[:3], 1, 1), generator=generator)
    noise = noise.to(clean.device)
    steps = scheduler.config.num_train_timesteps
    timestep = torch.randint(steps, (count,), generator=generator).to(clean.device)
    velocity = scheduler.config.prediction_type == "v_prediction"
    target = scheduler.get_velocity(clean, noise, timestep) if velocity else noise
    weight = timestep_weights(scheduler, timestep, objective.min_snr_gamma)
    return Noised(scheduler.add_noise(clean, noise, timestep), timestep, target, weight)


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
    """The mean squared error of every branch, (N,).

    Args:
        predicted: (B, N, C, h, w).
        batch: what `noised` made.
        unknown: (B, N, 1, h, w), 1 where the network has to find the content; what is given is not counted.
    """
    error = (predicted.float() - batch.target).square() * batch.weight.view(-1, 1, 1, 1, 1)
    if unknown is None:
        return error.mean(dim=(0, 2, 3, 4))
    share = unknown.mean(dim=(0, 2, 3, 4)).clamp(min=1e-6)
    return (error * unknown).mean(dim=(0, 2, 3, 4)) / share
