"""The objective against its formulas."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler
from torch import Generator, Tensor
from torch.distributions import Normal, kl_divergence

from jointnet_cli.errors import UserError
from jointnet_cli.training.captions import drop_captions
from jointnet_cli.training.determinism import SampleRNG
from jointnet_cli.training.objective import (
    LearnedVariance,
    NoisyBatch,
    add_noise,
    branch_losses,
    level_log_likelihood,
    timestep_weights,
    training_schedule,
)
from jointnet_cli.training.recipe import Noise, Objective
from jointnet_cli.training.stages.from_scratch import build_schedule

ALL = torch.arange(1000)


def scheduler(prediction: str, zero_terminal_snr: bool = True) -> DDPMScheduler:
    settings = Noise.model_construct(prediction=prediction, zero_terminal_snr=zero_terminal_snr)
    return DDPMScheduler.from_config(build_schedule(settings))


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def draws(count: int, seed: int = 0) -> SampleRNG:
    return SampleRNG(seed, range(count))


def test_zero_terminal_snr() -> None:
    assert scheduler("v_prediction").alphas_cumprod[-1] == 0
    assert scheduler("v_prediction", zero_terminal_snr=False).alphas_cumprod[-1] == pytest.approx(0.0047, abs=2e-4)


@pytest.mark.parametrize("prediction", ["v_prediction", "epsilon"])
def test_targets(prediction: str) -> None:
    schedule = scheduler(prediction, zero_terminal_snr=prediction == "v_prediction")
    clean = torch.randn(512, 2, 4, 3, 3, generator=generator(1))
    batch = add_noise(clean, schedule, Objective(), draws(len(clean)))
    assert batch.timestep.shape == (512,) and 0 <= batch.timestep.min() < batch.timestep.max() < 1000
    alpha = schedule.alphas_cumprod[batch.timestep].view(-1, 1, 1, 1, 1)
    signal, sigma = alpha.sqrt(), (1 - alpha).sqrt()
    noise = (batch.latents - signal * clean) / sigma
    noise_again = sigma * batch.latents + signal * batch.target if prediction == "v_prediction" else batch.target
    # From z = a x + s n and v = a n - s x follows n = s z + a v.
    clear = (sigma > 0.1).flatten()
    assert torch.allclose(noise[clear], noise_again[clear], atol=1e-4)
    if prediction == "v_prediction":
        assert torch.allclose(signal * batch.latents - sigma * batch.target, clean, atol=1e-5)
    assert noise_again.mean().abs() < 0.02 and noise_again.std() == pytest.approx(1, abs=0.02)


def test_the_last_timestep_is_pure_noise() -> None:
    schedule = scheduler("v_prediction")
    clean, noise = torch.randn(2, 1, 1, 4, 2, 2, generator=generator())
    last = torch.tensor([999])
    assert torch.equal(schedule.add_noise(clean, noise, last), noise)
    assert torch.equal(schedule.get_velocity(clean, noise, last), -clean)


def test_noise_is_independent_between_branches_and_items() -> None:
    clean = torch.zeros(64, 3, 4, 16, 16)
    noise = add_noise(clean, scheduler("epsilon"), Objective(), draws(len(clean))).target
    for first, second in ((noise[:, 0], noise[:, 1]), (noise[:, 1], noise[:, 2]), (noise[:32], noise[32:])):
        assert torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1].abs() < 0.02


def test_noise_offset_shifts_whole_channels() -> None:
    clean = torch.zeros(256, 2, 4, 16, 16)
    noise = add_noise(clean, scheduler("epsilon"), Objective(noise_offset=0.5), draws(len(clean))).target
    means = noise.mean(dim=(3, 4))
    assert means.std() == pytest.approx((0.5**2 + 1 / 256) ** 0.5, rel=0.1)
    assert torch.corrcoef(means.permute(1, 0, 2).flatten(1))[0, 1].abs() < 0.1  # each branch has its own
    assert torch.corrcoef(means.flatten(0, 1).T)[0, 1].abs() < 0.15


def test_the_draws_decide_everything() -> None:
    clean = torch.ones(8, 2, 4, 4, 4)
    first, second, other = (
        add_noise(clean, scheduler("epsilon"), Objective(), draws(len(clean), seed)) for seed in (5, 5, 6)
    )
    assert torch.equal(first.latents, second.latents) and torch.equal(first.timestep, second.timestep)
    assert not torch.equal(first.latents, other.latents)


def test_noise_its_offset_and_the_timestep_are_drawn_in_this_order() -> None:
    schedule = scheduler("epsilon")
    clean = torch.randn(3, 2, 4, 5, 6, generator=generator())
    drawn = draws(3, 7)
    noise = drawn.normal(2, 4, 5, 6) + 0.25 * drawn.normal(2, 4, 1, 1)
    timestep = drawn.integers(1000)
    timestep[1] = 999
    last = torch.tensor([False, True, False])
    batch = add_noise(clean, schedule, Objective(noise_offset=0.25, min_snr_gamma=0.5), draws(3, 7), last)
    assert torch.equal(batch.timestep, timestep)
    assert torch.allclose(batch.target, noise)
    alpha = schedule.alphas_cumprod[timestep]
    assert alpha[1] == 0 and batch.weight[1] == 0
    assert torch.allclose(batch.weight[::2], (0.5 * (1 / alpha - 1)).clamp(max=1)[::2]) and batch.weight.min() < 0.9
    alpha = alpha.view(3, 1, 1, 1, 1)
    assert torch.allclose(batch.latents, alpha.sqrt() * clean + (1 - alpha).sqrt() * noise, atol=1e-6)


def test_a_batch_is_noised_where_its_latents_are() -> None:
    clean = torch.zeros(2, 1, 4, 3, 3, device="meta")
    batch = add_noise(
        clean, scheduler("v_prediction"), Objective(min_snr_gamma=5), draws(2), torch.tensor([True, False])
    )
    tensors = [batch.latents, batch.timestep, batch.target, batch.weight]
    assert [value.device.type for value in tensors] == ["meta"] * 4
    assert timestep_weights(scheduler("epsilon"), batch.timestep, None).device.type == "meta"


def test_captions_are_dropped_below_the_share() -> None:
    captions = [f"caption {number}" for number in range(40)]
    uniform = draws(40).uniform().tolist()
    share = sorted(uniform)[10]  # ten numbers are below this share, and one is equal to it
    wanted = [caption if number >= share else "" for caption, number in zip(captions, uniform, strict=True)]
    assert drop_captions(captions, share, draws(40)) == wanted and wanted.count("") == 10
    assert drop_captions(captions, 0, draws(40)) == captions and drop_captions(captions, 1, draws(40)) == [""] * 40
    assert drop_captions(captions, 0, SampleRNG(0, range(40), device="meta")) == captions  # the list is made on the CPU
    with pytest.raises(ValueError, match="longer"):
        drop_captions(captions, 0, draws(41))


@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_timestep_weights_of_velocity(gamma: float) -> None:
    schedule = scheduler("v_prediction")
    weights = timestep_weights(schedule, ALL, gamma)
    alpha = schedule.alphas_cumprod.double()
    implied = alpha / (1 - alpha) + 1
    assert torch.allclose(weights.double(), implied.clamp(max=gamma) / implied, rtol=1e-4)
    assert weights[-1] == 1  # pure noise is learned too
    clipped = implied > gamma
    assert clipped.any() and (weights[clipped] < 1).all() and torch.allclose(weights[~clipped], torch.tensor(1.0))
    assert (weights.diff() >= -1e-6).all()


def test_timestep_weights_of_noise() -> None:
    schedule = scheduler("epsilon", zero_terminal_snr=False)
    weights = timestep_weights(schedule, ALL, 5.0)
    alpha = schedule.alphas_cumprod.double()
    snr = alpha / (1 - alpha)
    assert torch.allclose(weights.double(), snr.clamp(max=5) / snr, rtol=1e-4)
    assert (weights[snr < 5] == 1).all() and weights[0] < 0.01
    assert timestep_weights(scheduler("epsilon"), ALL, 5.0)[-1] == 0  # at SNR 0 noise is predicted without error


def test_without_gamma_all_timesteps_weigh_alike() -> None:
    assert torch.equal(timestep_weights(scheduler("v_prediction"), ALL, None), torch.ones(1000))


def batch_of(target: torch.Tensor, weight: torch.Tensor) -> NoisyBatch:
    return NoisyBatch(torch.zeros_like(target), torch.zeros(len(target), dtype=torch.long), target, weight)


def test_a_perfect_prediction_costs_nothing() -> None:
    clean = torch.randn(4, 3, 4, 8, 8, generator=generator(2))
    batch = add_noise(clean, scheduler("v_prediction"), Objective(min_snr_gamma=5), draws(len(clean)))
    assert torch.equal(branch_losses(batch.target, batch), torch.zeros(3))
    losses = branch_losses(batch.target + torch.tensor([0.0, 1, 2]).view(1, 3, 1, 1, 1), batch)
    assert torch.allclose(losses, batch.weight.mean() * torch.tensor([0.0, 1, 4]), rtol=1e-4)


def test_items_are_weighed() -> None:
    target = torch.zeros(2, 1, 1, 2, 2)
    predicted = torch.tensor([1.0, 3.0]).view(2, 1, 1, 1, 1).expand_as(target)
    assert branch_losses(predicted, batch_of(target, torch.tensor([1.0, 0.5]))).item() == pytest.approx((1 + 4.5) / 2)


def test_only_the_unknown_is_counted() -> None:
    target = torch.zeros(2, 2, 4, 4, 4)
    unknown = torch.zeros(2, 2, 1, 4, 4)
    unknown[0, 0, :, :2] = 1  # half of one item's RGB; the other branch is given whole
    predicted = torch.where(unknown > 0.5, 2.0, 100.0).expand_as(target)
    losses = branch_losses(predicted, batch_of(target, torch.ones(2)), unknown)
    assert losses[0].item() == pytest.approx(4 / 4) and losses[1].item() == 0  # a quarter of the batch
    everything = branch_losses(predicted, batch_of(target, torch.ones(2)), torch.ones_like(unknown))
    assert torch.allclose(everything, branch_losses(predicted, batch_of(target, torch.ones(2))))


def test_what_is_given_has_no_gradient() -> None:
    unknown = (torch.rand(2, 2, 1, 4, 4, generator=generator()) < 0.5).float()
    predicted = torch.randn(2, 2, 3, 4, 4, generator=generator(1)).requires_grad_()
    branch_losses(predicted, batch_of(torch.zeros(2, 2, 3, 4, 4), torch.ones(2)), unknown).sum().backward()
    assert predicted.grad is not None
    assert torch.equal(predicted.grad != 0, (unknown > 0).expand_as(predicted))


LEARNED = {"beta_schedule": "squaredcos_cap_v2", "variance_type": "learned_range"}
"""DeepFloyd-IF's schedule."""


def learned(timesteps: list[int], prediction: str = "epsilon") -> tuple[LearnedVariance, Tensor, Tensor]:
    """Float64 items at these timesteps, with a prediction and the values of its variance."""
    schedule = DDPMScheduler(**LEARNED, prediction_type=prediction)
    shape = (len(timesteps), 2, 3, 4, 4)
    clean, noise, error, values = (torch.randn(shape, generator=generator(seed)).double() for seed in range(4))
    clean, timestep = (0.4 * clean).clamp(-1, 1), torch.tensor(timesteps)
    noisy = schedule.add_noise(clean, noise, timestep)
    target = schedule.get_velocity(clean, noise, timestep) if prediction == "v_prediction" else noise
    return LearnedVariance(clean, noisy, timestep, schedule, 0.001), target + 0.1 * error, values.tanh()


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_bound_is_the_divergence_of_two_gaussians(prediction: str) -> None:
    timesteps = [1, 2, 40, 500, 998]
    variance, predicted, values = learned(timesteps, prediction)
    bits = variance.bits(predicted, values)
    beta = variance.scheduler.betas.double()
    signal = (1 - beta).cumprod(0)
    for item, t in enumerate(timesteps):
        x, truth, p, v = variance.noisy[item], variance.clean[item], predicted[item], values[item]
        a = variance.scheduler.alphas_cumprod[t].double()  # what the noise was added by: float32
        velocity = prediction == "v_prediction"
        found = a.sqrt() * x - (1 - a).sqrt() * p if velocity else (x - (1 - a).sqrt() * p) / a.sqrt()
        # q(x_{t-1} | x_t, x_0), by multiplying q(x_{t-1} | x_0) with q(x_t | x_{t-1}): precisions add.
        before, step = signal[t - 1], 1 - beta[t]
        exact = 1 / (1 / (1 - before) + step / beta[t])
        true, mean = (exact * (before.sqrt() * c / (1 - before) + step.sqrt() * x / beta[t]) for c in (truth, found))
        log = (v + 1) / 2 * beta[t].log() + (1 - v) / 2 * exact.log()
        divergence = kl_divergence(Normal(true, exact.sqrt()), Normal(mean, (log / 2).exp()))
        assert torch.allclose(bits[item], divergence / torch.tensor(2.0).double().log(), rtol=1e-9), t


def test_the_sampler_reads_the_same_variance() -> None:
    timesteps = [1, 40, 500, 998]
    variance, _, values = learned(timesteps)
    for item, t in enumerate(timesteps):
        wanted = variance.scheduler._get_variance(t, values[item])
        assert torch.allclose(variance.log_variance(values)[item], wanted, rtol=1e-3), t  # its tables are float32


def test_at_the_first_timestep_the_levels_of_a_pixel_share_all_probability() -> None:
    levels = torch.linspace(-1, 1, 256).double()
    for mean, deviation in ((0.1, 0.01), (-0.9, 0.05), (3.0, 0.5)):
        log = level_log_likelihood(levels, torch.tensor(mean), torch.tensor(deviation))
        assert log.exp().sum().item() == pytest.approx(1, abs=1e-6)
        assert levels[log.argmax()].item() == pytest.approx(min(mean, 1), abs=1 / 255)
    variance, predicted, values = learned([0])
    exact = variance.bits((variance.noisy - variance.clean) * 1e3, values)
    assert torch.isfinite(exact).all() and (exact >= 0).all()
    assert (variance.bits(predicted + 5, values) >= variance.bits(predicted, values)).double().mean() > 0.9


def test_the_variance_trains_itself_alone() -> None:
    variance, predicted, values = learned([0, 3, 700])
    predicted.requires_grad_()
    values.requires_grad_()
    variance.loss(predicted, values).sum().backward()
    assert predicted.grad is None
    assert values.grad is not None and (values.grad != 0).float().mean() > 0.9


def test_a_network_with_variance_is_told_the_noise_and_its_variance_apart() -> None:
    schedule = DDPMScheduler(**LEARNED)
    clean = torch.randn(6, 2, 3, 4, 4, generator=generator()).clamp(-1, 1)
    batch = add_noise(clean, schedule, Objective(variance_weight=0.01), draws(6))
    answer = torch.randn(6, 2, 6, 4, 4, generator=generator(1)).requires_grad_()
    losses = branch_losses(answer, batch)
    simple = branch_losses(answer[:, :, :3], batch)
    assert batch.variance is not None
    bound = 0.01 * 1000 * batch.variance.bits(answer[:, :, :3], answer[:, :, 3:]).mean(dim=(0, 2, 3, 4))
    assert torch.allclose(losses, simple + bound, rtol=1e-4)
    (together,) = torch.autograd.grad(losses.sum(), answer, retain_graph=True)
    (alone,) = torch.autograd.grad(simple.sum(), answer)
    assert torch.allclose(together[:, :, :3], alone[:, :, :3])  # the noise learns from its own error
    assert together[:, :, 3:].abs().sum() > 0 and not alone[:, :, 3:].any()
    unknown = torch.zeros(6, 2, 1, 4, 4)
    assert not branch_losses(answer, batch, unknown).any()


def test_without_a_learned_variance_there_is_no_bound() -> None:
    batch = add_noise(torch.zeros(2, 1, 3, 4, 4), scheduler("epsilon"), Objective(), draws(2))
    assert batch.variance is None
    six = torch.randn(2, 1, 6, 4, 4, generator=generator())
    assert torch.equal(branch_losses(six, batch), branch_losses(six[:, :, :3], batch))


def test_a_model_that_predicts_the_sample_is_refused() -> None:
    assert training_schedule({"prediction_type": "epsilon"}).config.prediction_type == "epsilon"
    with pytest.raises(UserError, match=r"^the model predicts sample, which has no training objective here$") as caught:
        training_schedule({"prediction_type": "sample"})
    assert caught.value.hint == "start from a model that predicts epsilon or v_prediction"
