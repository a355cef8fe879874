"""Stage `vae`: a small autoencoder from scratch, shared by all modalities (paper 3.2)."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from itertools import count
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F

from jointnet_cli.data.shards.format import read_record
from jointnet_cli.data.shards.latents import load_pixels
from jointnet_cli.data.shards.order import order
from jointnet_cli.data.shards.shard_set import ShardSet
from jointnet_cli.errors import UserError
from jointnet_cli.files.atomic import follow_umask
from jointnet_cli.files.text import to_json
from jointnet_cli.modality import RGB
from jointnet_cli.model.checkpoint import load_network
from jointnet_cli.model.efflite import EFFLITE
from jointnet_cli.model.folder import pixels_per_latent
from jointnet_cli.model.perceptual import Perceptual, open_perceptual
from jointnet_cli.tensors import flip
from jointnet_cli.training.adversarial import FeatureDiscriminator, adversarial_losses
from jointnet_cli.training.batches import Batch, warn_of_replaced
from jointnet_cli.training.determinism import RankSampler, SampleRNG
from jointnet_cli.training.inputs import Inputs
from jointnet_cli.training.previews import Pictures, as_picture
from jointnet_cli.training.recipe import Vae, VaeRecipe
from jointnet_cli.training.runs import Log
from jointnet_cli.training.stages.from_scratch import build_vae
from jointnet_cli.training.stages.stage import copy_weights, default_device, to_device_if_fits, training_device

FACTS = "training.json"
"""File beside the weights with the recipe, steps, minutes and machine."""

HELD_OUT = 64

STATISTICS = 512


def open_distances(settings: Vae, device: torch.device | str) -> tuple[Perceptual | None, Perceptual | None]:
    """Return the perceptual distance of all maps, and that of RGB whose features a discriminator sees.

    `None` stands for one that has no weight.

    Raises:
        UserError: an unknown name, or its weights are not there.
    """
    of_rgb = settings.feature_weight or settings.adversarial_weight
    return (
        open_perceptual(settings.perceptual, device) if settings.perceptual_weight else None,
        open_perceptual(EFFLITE, device) if of_rgb else None,
    )


def read_facts(folder: Path) -> dict[str, Any]:
    """Return how a VAE was trained, as its export wrote it; empty for a VAE from elsewhere.

    Raises:
        UserError: the record is damaged.
    """
    path = folder / FACTS
    return read_record(path, len, "remove it; the VAE itself is not affected") if path.is_file() else {}


def reconstruction_losses(difference: Tensor, settings: Vae) -> Tensor:
    """L1 + squared + gradient + coarse L1 + chroma L1 of the difference (B, 3, H, W) between reconstruction and picture.

    The three channels of landscapes go up and down together, so that plain L1 is nearly all brightness and colour is
    learned late; the chroma term is the L1 of red minus green and of blue minus yellow.
    """
    red, green, blue = difference.unbind(1)
    red_green, blue_yellow = red - green, blue - (red + green) / 2
    steps = difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()
    return (
        difference.abs().mean()
        + settings.squared_weight * difference.square().mean()
        + settings.gradient_weight * steps
        + settings.coarse_weight * F.avg_pool2d(difference, 8).abs().mean()
        + settings.chroma_weight * (red_green.abs().mean() + blue_yellow.abs().mean())
    )


@torch.no_grad()
def fold_statistics(vae: AutoencoderKL, latents: Tensor) -> None:
    """Fold the per-channel mean and deviation of latents (N, C, h, w) into the quantisation layers.

    Afterwards the encoder's latents have zero mean and unit variance, `scaling_factor` is 1, and the round trip is unchanged.
    """
    mean = latents.mean(dim=(0, 2, 3))
    deviation = latents.std(dim=(0, 2, 3))
    channels = len(mean)
    into, out_of = vae.quant_conv, vae.post_quant_conv
    out_of.bias += (out_of.weight[:, :, 0, 0] @ mean).to(out_of.bias.dtype)
    out_of.weight *= deviation.view(1, -1, 1, 1)
    into.weight[:channels] /= deviation.view(-1, 1, 1, 1)
    into.bias[:channels] = (into.bias[:channels] - mean) / deviation
    into.bias[channels:] -= 2 * deviation.log()  # log-variance of the scaled latents


class Autoencoding(nn.Module):
    """The VAE as one function of a picture, and the discriminator, so that one module is prepared and averaged.

    Args:
        vae: the autoencoder.
        features: the network by whose features RGB is compared. It is not trained, and no part of the module's state.
        adversarial: whether a discriminator sees these features.
    """

    def __init__(self, vae: AutoencoderKL, features: Perceptual | None = None, *, adversarial: bool = False) -> None:
        super().__init__()
        self.vae = vae
        self.features = (features,)  # in a tuple, or else it would be a part
        self.discriminator = FeatureDiscriminator(features.channels) if features and adversarial else None

    def forward(self, pictures: Tensor, noise: Tensor, judged: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Pictures (B, 3, H, W) to reconstructions and what is lost besides: the mean KL divergence from the unit normal.

        Features are those of the places `judged` (J,).
        """
        posterior = self.vae.encode(pictures).latent_dist
        decoded = self.vae.decode(posterior.mean + posterior.std * noise).sample
        losses = {"kl": 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()}
        (features,) = self.features
        if features is None:
            return decoded, losses
        made = features.levels((decoded[judged].float() + 1) / 2)
        with torch.no_grad():
            real = features.levels((pictures[judged].float() + 1) / 2)
        losses["features"] = features.distance(made, real).mean()
        if self.discriminator is not None:
            losses["adversarial"], losses["discriminator"] = adversarial_losses(self.discriminator, made, real)
        return decoded, losses


class VaeStage:
    """Trains on crops of all modalities alike."""

    def __init__(self, recipe: VaeRecipe, inputs: Inputs, log: Log, *, weights: bool = True) -> None:
        self.recipe, self.settings = recipe, recipe.train
        torch.manual_seed(recipe.train.seed)
        with default_device(weights):
            vae = build_vae(recipe.vae)
        if inputs.vae:
            copy_weights(load_network(AutoencoderKL, inputs.vae, weights=weights), vae, "vae")
        self.earlier = read_facts(inputs.vae) if inputs.vae else None
        if recipe.decoder_only:
            vae.encoder.requires_grad_(False)
            vae.quant_conv.requires_grad_(False)
        self._perceptual, features = open_distances(recipe.vae, training_device() if weights else "meta")
        with default_device(weights):
            self.network = Autoencoding(vae, features, adversarial=recipe.vae.adversarial_weight > 0)
        self.networks = [self.network]
        self.factor = pixels_per_latent(vae.config)
        sides = inputs.shards.image_size
        self.crop = recipe.data.crop or sides[-1]
        if self.crop > min(sides) or self.crop % self.factor:
            raise UserError(f"data.crop {self.crop} must be a multiple of {self.factor} and at most {min(sides)}")
        if features and recipe.train.batch_size < len(recipe.data.maps):
            raise UserError(
                "every batch needs an RGB crop, because features of RGB are compared",
                hint=f"--set train.batch_size={len(recipe.data.maps)}, or more",
            )
        if weights:
            self._load_pixels(inputs.shards, log)

    def _load_pixels(self, shards: ShardSet, log: Log) -> None:
        self.pixels = load_pixels(shards, list(self.recipe.data.maps))
        warn_of_replaced(self.pixels.replaced, log)
        near = {name: to_device_if_fits(maps) for name, maps in self.pixels.maps.items()}
        if len({maps.device for maps in near.values()}) == 1:  # or else not all of them fit
            self.pixels.maps = near

    def batches(self, sampler: RankSampler, step: int) -> Iterator[Batch]:
        for number in count(step):
            for micro in range(sampler.accumulation):
                positions = sampler.positions(number, micro)
                yield Batch(positions, self._crops(positions), [])

    def example(self, side: int) -> Batch:
        return Batch(range(self.settings.batch_size), torch.zeros(self.settings.batch_size, 3, side, side), [])

    def conditioning(self, batch: Batch, rng: SampleRNG | None) -> None:
        return None

    def loss(self, network: nn.Module, batch: Batch, conditioning: None, rng: SampleRNG) -> dict[str, Tensor]:
        pictures = batch.clean.to(next(network.parameters()).device)
        side = pictures.shape[-1] // self.factor
        noise = rng.normal(self.recipe.vae.latent_channels, side, side).to(pictures.device)
        settings = self.recipe.vae
        weights = {
            "kl": settings.kl_weight,
            "features": settings.feature_weight,
            "adversarial": settings.adversarial_weight,
            "discriminator": 1.0,
        }
        decoded, found = network(pictures, noise, self._rgb(batch.positions).to(pictures.device))
        losses = {"reconstruction": reconstruction_losses(decoded.float() - pictures, settings)}
        losses |= {name: weights[name] * value.float() for name, value in found.items()}
        if self._perceptual is not None:
            distances = self._perceptual((decoded.float() + 1) / 2, (pictures + 1) / 2)
            losses["perceptual"] = settings.perceptual_weight * distances.mean()
        return losses

    def _rgb(self, positions: range) -> Tensor:
        """Return the places of the RGB crops in a batch, (J,): likely detail in depth and normals would be wrong."""
        names = self.recipe.data.maps
        return torch.tensor([at for at, place in enumerate(positions) if place % len(names) == names.index(RGB)])

    def _crops(self, positions: range) -> Tensor:
        """Return crops (B, 3, c, c) of the samples of some positions, the modalities in turn."""
        names, seed, device = list(self.pixels.maps), self.recipe.train.seed, self.pixels.maps[RGB].device
        samples = len(self.pixels.captions) - min(HELD_OUT, len(self.pixels.captions) // 4)
        picture, which = order(samples, positions, seed).to(device), torch.tensor(positions, device=device) % len(names)
        draw = SampleRNG(seed, positions, "crop", device=device).uniform(3)
        parts = [
            self._cropped(name, picture[which == number], draw[which == number]) for number, name in enumerate(names)
        ]
        turn = torch.cat([(which == number).nonzero().flatten() for number in range(len(names))])
        return torch.cat(parts)[turn.argsort()]

    def _cropped(self, name: str, pictures: Tensor, draw: Tensor) -> Tensor:
        """Return crops (B, 3, c, c) of one modality, of pictures (B,), from three numbers (B, 3) in [0, 1) each."""
        data, maps = self.recipe.data, self.pixels.maps[name]
        height, width = maps.shape[-2:]
        crop = self.crop
        cells = torch.arange(crop, device=maps.device)
        rows = (draw[:, 0] * (height - crop + 1)).long()[:, None] + cells
        columns = (draw[:, 1] * (width - crop + 1)).long()[:, None] + cells
        channels = torch.arange(maps.shape[1], device=maps.device)[:, None, None]
        crops = maps[pictures[:, None, None, None], channels, rows[:, None, :, None], columns[:, None, None, :]]
        crops = crops.float().expand(-1, 3, -1, -1)
        mirrored = (draw[:, 2] < 0.5)[:, None, None, None]
        return torch.where(mirrored, flip(crops, name), crops) if data.flip else crops

    @torch.inference_mode()
    def preview(self) -> Pictures:
        rows = []
        for name, maps in self.pixels.maps.items():
            pictures = maps[-8:].float().expand(-1, 3, -1, -1).cpu()
            decoded = self._round_trip(pictures)
            rows += [as_picture(pictures, name), as_picture(decoded, name)]
        return Pictures(rows)

    @torch.inference_mode()
    def export(self, folder: Path, details: dict[str, object]) -> None:
        vae = deepcopy(self.network.vae)  # the training may go on
        if not self.recipe.decoder_only:
            rgb = self.pixels.maps[RGB][:STATISTICS].float()
            latents = torch.cat([vae.encode(batch.to(vae.device)).latent_dist.mean for batch in rgb.split(32)])
            fold_statistics(vae, latents)
        vae.save_pretrained(folder)
        record = {"recipe": self.recipe.model_dump(mode="json"), **details}
        if self.earlier is not None:
            record["earlier"] = self.earlier
        (folder / FACTS).write_text(to_json(record, indent=2))
        follow_umask(folder)

    def _round_trip(self, pictures: Tensor) -> Tensor:
        vae = self.network.vae
        decoded: Tensor = vae.decode(vae.encode(pictures.to(vae.device)).latent_dist.mean).sample.cpu()
        return decoded
