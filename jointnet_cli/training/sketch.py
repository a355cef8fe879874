"""The network that a recipe trains and a micro-batch for it, in their shapes alone: no weights are read, none are made."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from jointnet_cli.data.shards.shard_set import ShardSet
from jointnet_cli.model.branch import Conditioning
from jointnet_cli.model.checkpoint import extend
from jointnet_cli.model.folder import RGB, ModelFolder, read_json
from jointnet_cli.model.hub import find_model
from jointnet_cli.model.joint import JointNet
from jointnet_cli.training.recipe import BaseRecipe, JointRecipe, TextEncoder, VaeRecipe
from jointnet_cli.training.stages.base import TextToImage
from jointnet_cli.training.stages.from_scratch import build_text_encoder, build_unet, build_vae
from jointnet_cli.training.stages.vae import Autoencoding

TOKENS = 77


@dataclass(frozen=True)
class Sketch:
    """A network on the meta device."""

    network: nn.Module
    forward: Callable[[], Tensor]
    """Makes one micro-batch and runs the network on it."""


def draw(recipe: VaeRecipe | BaseRecipe | JointRecipe, side: int) -> Sketch:
    """The sketch of a recipe on square images of a side in pixels.

    Raises:
        UserError: the model or the VAE that the recipe starts from is not there.
    """
    with torch.device("meta"):
        if isinstance(recipe, VaeRecipe):
            return _draw_vae(recipe, side)
        return _draw_base(recipe, side) if isinstance(recipe, BaseRecipe) else _draw_joint(recipe, side)


def image_side(recipe: VaeRecipe | BaseRecipe | JointRecipe) -> int:
    """The side of the images that a recipe trains on, in pixels; one sample is read where only the shards tell."""
    if isinstance(recipe, JointRecipe) and not recipe.data.cache:
        return recipe.data.size or find_model(recipe.model, recipe.base, weights=False).size
    if isinstance(recipe, VaeRecipe) and recipe.data.crop:
        return recipe.data.crop
    return min(ShardSet.open(recipe.data.shards).sample(0).image.shape[:2])


def _draw_vae(recipe: VaeRecipe, side: int) -> Sketch:
    network = Autoencoding(build_vae(recipe.vae))
    if recipe.decoder_only:
        network.vae.encoder.requires_grad_(False)
        network.vae.quant_conv.requires_grad_(False)
    batch, latent = recipe.train.batch_size, side // 2 ** (len(recipe.vae.block_out_channels) - 1)

    def forward() -> Tensor:
        noise = torch.randn(batch, recipe.vae.latent_channels, latent, latent)
        decoded: Tensor = network(torch.randn(batch, 3, side, side), noise)[0]
        return decoded

    return Sketch(network, forward)


def _draw_base(recipe: BaseRecipe, side: int) -> Sketch:
    config = read_json(Path(recipe.vae) / "config.json", "block_out_channels", "latent_channels")
    channels, side = config["latent_channels"], side // 2 ** (len(config["block_out_channels"]) - 1)
    text, batch = recipe.text_encoder, recipe.train.batch_size
    encoder = build_text_encoder(_Vocabulary(text), width=text.width, layers=text.layers, heads=text.heads)
    network = TextToImage(encoder, JointNet({RGB: build_unet(recipe.unet, channels, side, text.width)}))

    def forward() -> Tensor:
        latents, tokens = torch.randn(batch, 1, channels, side, side), _zeros(batch, text.tokens)
        predicted: Tensor = network(latents, _zeros(batch), tokens)
        return predicted

    return Sketch(network, forward)


def _draw_joint(recipe: JointRecipe, side: int) -> Sketch:
    facts = find_model(recipe.model, recipe.base, weights=False)
    config = json.loads((facts.path / "unet" / "config.json").read_text())
    unet = UNet2DConditionModel.from_config(config)
    extended = len(facts.branches) > 1
    network: Any = extend(
        facts.architecture if extended else recipe.network.architecture,
        unet,
        facts.branches[1:] if extended else recipe.data.maps[1:],
        rank=facts.rank or recipe.network.rank,
    )
    masked = recipe.masked_input or facts.masked_input
    if masked:
        network.add_masked_input()
    network.set_trainable(recipe.train_rgb)
    batch, side = recipe.train.batch_size, side // facts.factor
    branches, channels = len(network.names), network.channels

    def forward() -> Tensor:
        latents = torch.randn(batch, branches, channels, side, side)
        known = torch.randn(batch, branches, 1 + channels, side, side) if masked else None
        predicted: Tensor = network(latents, _zeros(batch), _conditioning(facts, unet.config, batch), known)
        return predicted

    return Sketch(network, forward)


def _conditioning(facts: ModelFolder, unet: Any, batch: int) -> Conditioning:
    """What the branches are told, in the shapes of the base model's family."""
    text = torch.randn(batch, _tokens(facts), unet.encoder_hid_dim or unet.cross_attention_dim)
    if unet.addition_embed_type != "text_time":
        return Conditioning(text)
    pooled = unet.projection_class_embeddings_input_dim - 6 * unet.addition_time_embed_dim
    return Conditioning(text, {"text_embeds": torch.randn(batch, pooled), "time_ids": torch.randn(batch, 6)})


def _zeros(*shape: int) -> Tensor:
    return torch.zeros(*shape, dtype=torch.int64)


def _tokens(facts: ModelFolder) -> int:
    """Length of a prompt."""
    settings = read_json(facts.base / next(iter(facts.family.tokenizers)) / "tokenizer_config.json")
    return min(int(settings.get("model_max_length", TOKENS)), TOKENS)


class _Vocabulary:
    """What a text encoder's shapes depend on of a tokenizer that is yet to be learned."""

    bos_token_id = eos_token_id = pad_token_id = 0

    def __init__(self, text: TextEncoder) -> None:
        self._size, self.model_max_length = text.vocabulary, text.tokens

    def __len__(self) -> int:
        return self._size
