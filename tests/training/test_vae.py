"""The autoencoder: what it learns, and how its latents are scaled."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import nn

from jointnet_cli.data.shards.latents import load_pixels
from jointnet_cli.data.shards.shard_set import ShardSet
from jointnet_cli.errors import UserError
from jointnet_cli.training.adversarial import FeatureDiscriminator, adversarial_losses
from jointnet_cli.training.recipe import Vae
from jointnet_cli.training.stages.from_scratch import build_vae
from jointnet_cli.training.stages.vae import fold_statistics, reconstruction_losses

from .conftest import SIZE, VAE_STEPS, Tiny, log_of, losses_at, opened

SETTINGS = Vae(latent_channels=4, block_out_channels=[8, 8, 16], norm_num_groups=4)


@pytest.fixture
def vae() -> AutoencoderKL:
    """An untrained autoencoder with latents of uneven means and deviations."""
    torch.manual_seed(0)
    vae = build_vae(SETTINGS).eval()
    with torch.no_grad():
        vae.quant_conv.weight[:4] *= torch.tensor([0.5, 1, 4, 9]).view(4, 1, 1, 1)
        vae.quant_conv.bias.copy_(torch.tensor([3.0, 0, -2, 1, *[-1.0] * 4]))
    return vae


@torch.no_grad()
def test_folding_normalises_the_latents_and_keeps_the_round_trip(vae: AutoencoderKL) -> None:
    pictures = torch.rand(6, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    noise = torch.randn(6, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    before = vae.encode(pictures).latent_dist
    decoded = vae.decode(before.mean).sample
    sampled = vae.decode(before.mean + before.std * noise).sample
    deviation = before.mean.std(dim=(0, 2, 3))
    assert before.mean.mean(dim=(0, 2, 3)).abs().max() > 1 and deviation.max() > 5 * deviation.min()

    fold_statistics(vae, before.mean)
    after = vae.encode(pictures).latent_dist
    assert after.mean.mean(dim=(0, 2, 3)).abs().max() < 1e-4
    assert torch.allclose(after.mean.std(dim=(0, 2, 3)), torch.ones(4), atol=1e-4)
    assert torch.allclose(after.std, before.std / deviation.view(1, -1, 1, 1), rtol=1e-3)
    assert torch.allclose(vae.decode(after.mean).sample, decoded, atol=1e-4)
    assert torch.allclose(vae.decode(after.mean + after.std * noise).sample, sampled, atol=1e-4)


def test_reconstruction_losses() -> None:
    settings = Vae(squared_weight=0, gradient_weight=0, coarse_weight=0)
    flat = torch.full((1, 3, 16, 16), 0.5)
    board = flat * (1 - 2 * ((torch.arange(16)[:, None] + torch.arange(16)) % 2))
    assert reconstruction_losses(torch.zeros(1, 3, 16, 16), Vae()).item() == 0
    assert reconstruction_losses(flat, settings).item() == pytest.approx(0.5)
    for name, of_flat, of_board in (
        ("squared_weight", 0.25, 0.25),
        ("gradient_weight", 0.0, 2.0),  # a checkerboard steps by 1 in both directions,
        ("coarse_weight", 0.5, 0.0),  # and its blocks have no mean
    ):
        weighed = settings.model_copy(update={name: 1.0})
        assert reconstruction_losses(flat, weighed).item() == pytest.approx(0.5 + of_flat)
        assert reconstruction_losses(board, weighed).item() == pytest.approx(0.5 + of_board)


def test_training_reduces_the_reconstruction_loss(vae_run: Path) -> None:
    lines = log_of(vae_run)
    losses = [line["reconstruction"] for line in lines]
    assert len(losses) == VAE_STEPS and all(line["kl"] > 0 for line in lines)
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])


@torch.no_grad()
def test_the_trained_autoencoder_has_unit_latents(vae_run: Path) -> None:
    vae = AutoencoderKL.from_pretrained(vae_run / "model")
    assert vae.config.scaling_factor == 1
    latents = vae.encode(load_pixels(ShardSet.open("shards/worlds", 8), ["rgb"]).maps["rgb"].float()).latent_dist.mean
    assert latents.mean(dim=(0, 2, 3)).abs().max() < 0.01
    assert torch.allclose(latents.std(dim=(0, 2, 3)), torch.ones(4), atol=0.01)


def test_preview_shows_pictures_above_their_reconstructions(vae_run: Path) -> None:
    picture = Image.open(vae_run / f"previews/{VAE_STEPS:07}.png")
    assert picture.size == (8 * SIZE, 2 * 3 * SIZE)


class Recorder(nn.Module):
    """Keeps the pictures it is given and returns them as their reconstruction."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.seen = self.judged = torch.empty(0)

    def forward(
        self, pictures: torch.Tensor, noise: torch.Tensor, judged: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        self.judged = judged
        assert noise.shape == (len(pictures), 4, *(side // 4 for side in pictures.shape[-2:]))
        self.seen = pictures
        return pictures, {}


def test_decoder_and_discriminator_each_learn_from_their_own_loss() -> None:
    torch.manual_seed(0)
    discriminator = FeatureDiscriminator((6, 10))
    real, decoded = ([torch.rand(4, 6, 8, 8), torch.rand(4, 10, 4, 4)] for _ in range(2))
    for level in decoded:
        level.requires_grad_()
    fooled, told = adversarial_losses(discriminator, decoded, real)
    said = discriminator(decoded)
    assert [answer.shape for answer in said] == [(4, 1, 8, 8), (4, 1, 4, 4)]
    assert fooled.item() == pytest.approx(-sum(answer.mean().item() for answer in said) / 2, abs=1e-6)
    fooled.backward()
    assert all(level.grad is not None and level.grad.abs().sum() > 0 for level in decoded)
    assert all(weights.grad is None for weights in discriminator.parameters())
    for level in decoded:
        level.grad = None
    told.backward()
    assert all(level.grad is None for level in decoded)
    assert all(weights.grad is not None for weights in discriminator.parameters())


def test_a_discriminator_tells_blurred_worlds_from_true_ones(tiny: Tiny) -> None:
    stage = opened(tiny("vae", "vae.adversarial_weight=0.1"))
    (perceptual,) = stage.network.features
    assert perceptual is not None
    pictures = (stage.pixels.maps["rgb"].float() + 1) / 2
    blurred = torch.nn.functional.avg_pool2d(pictures, 5, stride=1, padding=2, count_include_pad=False)
    real, made = perceptual.levels(pictures), perceptual.levels(blurred)
    torch.manual_seed(0)
    discriminator = FeatureDiscriminator(perceptual.channels)
    optimizer = torch.optim.Adam(discriminator.parameters(), 1e-3)
    for _ in range(20):
        _, told = adversarial_losses(discriminator, made, real)
        optimizer.zero_grad()
        told.backward()
        optimizer.step()
    assert told.item() < 0.5


def test_a_discriminator_is_trained_beside_the_decoder_and_not_exported(
    tiny: Tiny, vae_run: Path, tmp_path: Path
) -> None:
    settings = (f"start={vae_run / 'model'}", "decoder_only=true", "vae.adversarial_weight=0.1", "train.max_steps=3")
    stage = opened(tiny("vae", *settings))
    before = {name: weights.clone() for name, weights in stage.network.named_parameters()}
    optimizer = torch.optim.AdamW([weights for weights in stage.network.parameters() if weights.requires_grad], 1e-2)
    for step in range(3):
        losses = losses_at(stage, stage.network, step)
        assert losses.keys() == {"reconstruction", "kl", "features", "adversarial", "discriminator"}
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    changed = {
        name.split(".")[0 if "disc" in name else 1]
        for name, x in stage.network.named_parameters()
        if (x != before[name]).any()
    }
    assert changed == {"decoder", "post_quant_conv", "discriminator"}
    stage.export(tmp_path, {})
    assert not any("discriminator" in name for name in AutoencoderKL.from_pretrained(tmp_path).state_dict())


def test_batches_are_crops_of_the_samples_but_for_the_held_out(tiny: Tiny) -> None:
    stage = opened(tiny("vae", "data.flip=false", "train.batch_size=12"))
    network = Recorder()
    losses = losses_at(stage, network)
    assert losses["reconstruction"].item() == 0 and network.seen.shape == (12, 3, 24, 24)
    used = set()
    for number, crop in enumerate(network.seen):
        maps = stage.pixels.maps[["rgb", "depth", "normal"][number % 3]].float().expand(-1, 3, -1, -1)
        windows = maps.unfold(2, 24, 1).unfold(3, 24, 1)  # (N, 3, 9, 9, 24, 24)
        same = (windows == crop[None, :, None, None]).all(dim=(1, 4, 5)).flatten(1).any(1)
        assert same.any(), number
        used |= set(same.nonzero().flatten().tolist())
    assert network.judged.tolist() == [0, 3, 6, 9]
    assert used == set(range(6))  # two of the eight samples are held out


def test_mirrored_normals_point_the_other_way(tiny: Tiny) -> None:
    stage = opened(tiny("vae", "data.crop=32"))
    network = Recorder()
    mirrored = 0
    for step in range(4):
        losses_at(stage, network, step)
        for number, picture in enumerate(network.seen):
            if (step * len(network.seen) + number) % 3 != 2:
                continue
            maps = stage.pixels.maps["normal"].float()
            turned = maps.flip(-1) * torch.tensor([-1.0, 1, 1]).view(3, 1, 1)
            plain, flipped = ((side == picture).all(dim=(1, 2, 3)).any().item() for side in (maps, turned))
            assert plain != flipped
            mirrored += flipped
    assert mirrored > 0


def test_features_need_rgb_in_every_batch(tiny: Tiny) -> None:
    with pytest.raises(UserError, match="every batch needs an RGB crop") as caught:
        opened(tiny("vae", "vae.feature_weight=0.1", "train.batch_size=2"))
    assert caught.value.hint == "--set train.batch_size=3, or more"


def test_an_export_leaves_the_network_as_it_is(tiny: Tiny, tmp_path: Path) -> None:
    stage = opened(tiny("vae"))
    before = {name: value.clone() for name, value in stage.network.state_dict().items()}
    stage.export(tmp_path, {})
    assert all(torch.equal(value, before[name]) for name, value in stage.network.state_dict().items())


@pytest.mark.parametrize("override", ["data.crop=40", "data.crop=30", "data.maps=['depth', 'normal']"])
def test_data_that_does_not_fit_is_refused_at_once(tiny: Tiny, override: str) -> None:
    with pytest.raises(UserError, match=r"data\.(crop|maps)"):
        opened(tiny("vae", override))


def test_the_chroma_term_sees_colour_and_not_brightness() -> None:
    plain = Vae(squared_weight=0, gradient_weight=0, coarse_weight=0, chroma_weight=0)
    weighed = plain.model_copy(update={"chroma_weight": 1.0})
    grey = torch.full((1, 3, 8, 8), 0.5)
    assert reconstruction_losses(grey, weighed).item() == pytest.approx(reconstruction_losses(grey, plain).item())
    red = torch.zeros(1, 3, 8, 8)
    red[:, 0] = 0.6
    gained = reconstruction_losses(red, weighed).item() - reconstruction_losses(red, plain).item()
    assert gained == pytest.approx(0.6 + 0.3)  # |red - green| and |blue - (red + green) / 2|


def test_a_perceptual_distance_joins_the_loss(tiny: Tiny) -> None:
    plain, weighed = (opened(tiny("vae", f"vae.perceptual_weight={weight}")) for weight in (0, 2))
    before, losses = losses_at(plain, plain.network), losses_at(weighed, weighed.network)
    assert losses.keys() == before.keys() | {"perceptual"}
    assert torch.equal(losses["reconstruction"], before["reconstruction"])
    losses["perceptual"].backward()
    gradient = weighed.network.vae.decoder.conv_out.weight.grad  # type: ignore[union-attr]
    assert losses["perceptual"].item() > 0 and gradient.abs().max() > 0 and gradient.isfinite().all()
    assert losses_at(weighed, Recorder())["perceptual"].item() == 0


def test_an_unknown_perceptual_distance_is_refused_at_once(tiny: Tiny) -> None:
    with pytest.raises(UserError, match="no perceptual distance 'lips'"):
        opened(tiny("vae", "vae.perceptual_weight=1", "vae.perceptual=lips"))
