"""The variance that a base model predicts beside the noise, trained by the variational bound (Nichol & Dhariwal, 2021)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from diffusers import DDPMScheduler
from torch import Tensor


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
        """The weighted bound, (B, N, C, h, w). No gradient reaches `predicted`, so that it trains on the noise alone.

        Args:
            predicted: (B, N, C, h, w) noise or velocity.
            values: (B, N, C, h, w), about [-1, 1]: where the logarithm of the variance lies between its two bounds.
        """
        steps = self.scheduler.config.num_train_timesteps
        return self.weight * steps * self.bits(predicted.detach(), values)

    def bits(self, predicted: Tensor, values: Tensor) -> Tensor:
        """The bound in bits a number: KL(q || p) of the two Gaussians, at timestep 0 the likelihood of 8-bit levels."""
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
        """The logarithm of the variance that the sampler reads from these values (`learned_range`)."""
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
        """A number a timestep to one an item, (B, 1, 1, 1, 1)."""
        return table.to(self.clean)[self.timestep].view(-1, 1, 1, 1, 1)

    def _clean_from(self, predicted: Tensor) -> Tensor:
        """The clean content that a prediction amounts to; it is not clipped."""
        signal = self._at(self.scheduler.alphas_cumprod)
        noise = (1 - signal).sqrt()
        if self.scheduler.config.prediction_type == "v_prediction":
            return signal.sqrt() * self.noisy - noise * predicted
        return (self.noisy - noise * predicted) / signal.sqrt()


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
    """The logarithm of the probability of 8-bit pixels in [-1, 1] under Gaussians; the outer levels take all beyond."""
    half = 1 / 255
    upper = torch.special.ndtr((pixels + half - mean) / deviation)
    lower = torch.special.ndtr((pixels - half - mean) / deviation)
    upper = torch.where(pixels > 1 - half, 1.0, upper)
    lower = torch.where(pixels < half - 1, 0.0, lower)
    return (upper - lower).clamp(min=1e-12).log()
