"""Noise, targets, weights and losses, with learned variance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from jointnet_cli.errors import UserError
from jointnet_cli.sampling.schedule import clean_estimate
from jointnet_cli.training.determinism import SampleRNG
from jointnet_cli.training.recipe import Objective

TARGETS = ("epsilon", "v_prediction")
"""What a network may predict: the noise, or the velocity."""


@dataclass(frozen=True)
class NoisyBatch:
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
    """Return the noise schedule of a base model's scheduler, whatever its sampler.

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


def add_noise(
    clean: Tensor, scheduler: DDPMScheduler, objective: Objective, rng: SampleRNG, last: Tensor | None = None
) -> NoisyBatch:
    """Corrupt latents (B, N, C, h, w) with independent noise for every branch at one random timestep an item.

    The items that `last` (B,) says are corrupted at the schedule's last timestep, where sampling begins.
    """
    noise = rng.normal(*clean.shape[1:])
    if objective.noise_offset:
        noise = noise + objective.noise_offset * rng.normal(*clean.shape[1:3], 1, 1)
    noise = noise.to(clean.device)
    count = scheduler.config.num_train_timesteps
    timestep = rng.integers(count).to(clean.device)
    if last is not None:
        timestep = torch.where(last.to(clean.device), count - 1, timestep)
    velocity = scheduler.config.prediction_type == "v_prediction"
    target = scheduler.get_velocity(clean, noise, timestep) if velocity else noise
    weight = timestep_weights(scheduler, timestep, objective.min_snr_gamma)
    latents = scheduler.add_noise(clean, noise, timestep)
    variance = None
    if scheduler.config.variance_type == "learned_range":
        variance = LearnedVariance(clean, latents, timestep, scheduler, objective.variance_weight)
    return NoisyBatch(latents, timestep, target, weight, variance)


def timestep_weights(scheduler: DDPMScheduler, timestep: Tensor, gamma: float | None) -> Tensor:
    """Return loss weights (B,) that clip the weight of the clean latents' error (min-SNR, Hang et al., 2023).

    An error in the noise is one of `snr` in the clean latents, an error in the velocity one of `snr + 1`; both are clipped
    at gamma. With velocity the pure-noise timestep of a zero-terminal-SNR schedule keeps weight 1, so it is learned.
    """
    if gamma is None:
        return torch.ones(timestep.shape, device=timestep.device)
    alpha = scheduler.alphas_cumprod.to(timestep.device)[timestep]
    implied = alpha / (1 - alpha)
    if scheduler.config.prediction_type == "v_prediction":
        implied = implied + 1
    weights: Tensor = implied.clamp(max=gamma) / implied.clamp(min=1e-8)
    return weights


def branch_losses(predicted: Tensor, batch: NoisyBatch, unknown: Tensor | None = None) -> Tensor:
    """Return the mean squared error (N,) of every branch, and the bound of its variance where that is predicted.

    Args:
        predicted: (B, N, C, h, w), or (B, N, 2C, h, w) with the variance's values after the C channels of the target.
        batch: what `add_noise` made.
        unknown: (B, N, 1, h, w), 1 where the network has to find the content; what is given is not counted.
    """
    channels = batch.target.shape[2]
    answer, values = predicted.float().split([channels, predicted.shape[2] - channels], dim=2)
    error = (answer - batch.target).square() * batch.weight.view(-1, 1, 1, 1, 1)
    if batch.variance and values.shape[2]:
        error = error + batch.variance.loss(answer, values)
    losses: Tensor = (error if unknown is None else error * unknown).mean(dim=(0, 2, 3, 4))
    return losses


@dataclass(frozen=True)
class LearnedVariance:
    """What the variances predicted for a noised batch are compared with: the true step back, q(x_{t-1} | x_t, x_0)."""

    clean: Tensor
    """(B, N, C, h, w), in [-1, 1] where the model works on pixels."""
    noisy: Tensor
    timestep: Tensor
    """(B,)."""
    scheduler: DDPMScheduler
    weight: float
    """Of the bound's sum over all timesteps, which a batch samples one of."""

    def loss(self, predicted: Tensor, values: Tensor) -> Tensor:
        """Return the weighted bound (B, N, C, h, w); no gradient reaches `predicted`, so that it trains on noise alone.

        Args:
            predicted: (B, N, C, h, w) noise or velocity.
            values: (B, N, C, h, w), about [-1, 1]: where the logarithm of the variance lies between its two bounds.
        """
        steps = self.scheduler.config.num_train_timesteps
        bound: Tensor = self.weight * steps * self.bits(predicted.detach(), values)
        return bound

    def bits(self, predicted: Tensor, values: Tensor) -> Tensor:
        """Return the bound in bits per number: KL(q || p) of two Gaussians, at timestep 0 the likelihood of 8-bit levels."""
        step = self._step()
        clean = self._clean_from(predicted)
        mean = step.of_clean * clean + step.of_noisy * self.noisy
        true_mean = step.of_clean * self.clean + step.of_noisy * self.noisy
        log_variance = self.log_variance(values)
        excess = (step.lower - log_variance).exp() + (true_mean - mean).square() * (-log_variance).exp()
        divergence = 0.5 * (excess - 1 + log_variance - step.lower)
        likelihood = level_log_likelihood(self.clean, mean, (0.5 * log_variance).exp())
        first = (self.timestep == 0).view(-1, 1, 1, 1, 1)
        return torch.where(first, -likelihood, divergence) / math.log(2)

    def log_variance(self, values: Tensor) -> Tensor:
        """Return the logarithm of the variance that the sampler reads from these values (`learned_range`)."""
        step, part = self._step(), (values + 1) / 2
        return part * step.upper + (1 - part) * step.lower

    def _step(self) -> _Step:
        beta = self.scheduler.betas.cpu().double()
        signal = (1 - beta).cumprod(0)
        before = torch.cat([signal.new_ones(1), signal[:-1]])
        variance = beta * (1 - before) / (1 - signal)
        variance[0] = variance[1]  # the first timestep's own is 0
        of_clean = beta * before.sqrt() / (1 - signal)
        of_noisy = (1 - beta).sqrt() * (1 - before) / (1 - signal)
        return _Step(*(self._at(table) for table in (of_clean, of_noisy, variance.log(), beta.log())))

    def _at(self, table: Tensor) -> Tensor:
        """Convert a number a timestep to one an item, (B, 1, 1, 1, 1)."""
        return table.to(self.clean)[self.timestep].view(-1, 1, 1, 1, 1)

    def _clean_from(self, predicted: Tensor) -> Tensor:
        """Return the clean content that a prediction amounts to; it is not clipped."""
        signal = self._at(self.scheduler.alphas_cumprod)
        return clean_estimate(self.noisy, predicted, signal, self.scheduler.config.prediction_type)


class _Step(NamedTuple):
    """The true step back of every item, each (B, 1, 1, 1, 1)."""

    of_clean: Tensor
    """Its mean's share of the clean content."""
    of_noisy: Tensor
    lower: Tensor
    """The logarithm of its variance: of what may be predicted, the smallest."""
    upper: Tensor
    """The logarithm of beta, the largest."""


def level_log_likelihood(pixels: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Return the log probability of 8-bit pixels in [-1, 1] under Gaussians; the outer levels take all beyond."""
    half = 1 / 255
    upper = torch.special.ndtr((pixels + half - mean) / deviation)
    lower = torch.special.ndtr((pixels - half - mean) / deviation)
    upper = torch.where(pixels > 1 - half, 1.0, upper)
    lower = torch.where(pixels < half - 1, 0.0, lower)
    return (upper - lower).clamp(min=1e-12).log()
