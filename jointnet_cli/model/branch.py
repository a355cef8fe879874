"""A diffusers UNet as two halves, so that features can be exchanged between them (paper 3.1, Fig. 2c)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn


@dataclass(frozen=True)
class Conditioning:
    """What both halves of a UNet are told besides their latents."""

    text: Tensor
    """(B, tokens, width) text embeddings."""
    added: dict[str, Tensor] | None = None
    """The base model's further conditions, each (B, …), such as SDXL's `text_embeds` and `time_ids`."""

    @classmethod
    def cat(cls, parts: Sequence[Conditioning]) -> Conditioning:
        """Return all items of several, whose texts have one length."""
        added = parts[0].added
        joined = added and {name: torch.cat([part.added[name] for part in parts if part.added]) for name in added}
        return cls(torch.cat([part.text for part in parts]), joined)

    def rows(self, numbers: Sequence[int]) -> Conditioning:
        """Return the items of these numbers, in that order; a number may come more than once."""
        added = None if self.added is None else {name: value[numbers] for name, value in self.added.items()}
        return Conditioning(self.text[numbers], added)

    def to(self, device: torch.device, dtype: torch.dtype) -> Conditioning:
        """Return a copy on a device, in a type."""
        added = None if self.added is None else {name: value.to(device, dtype) for name, value in self.added.items()}
        return Conditioning(self.text.to(device, dtype), added)


@dataclass(frozen=True)
class Features:
    """What the first half hands to the second, and to the other branches."""

    skips: Sequence[Tensor]
    """The output of `conv_in` and of every layer on the way down, each (B, c, h, w)."""
    middle: Tensor
    """(B, c, h, w) output of the middle block."""


def skip_widths(unet: UNet2DConditionModel) -> list[int]:
    """Return channels of every skip tensor of a UNet, in the order of `Features.skips`."""
    widths = list(unet.config.block_out_channels)
    layers = unet.config.layers_per_block
    layers = [layers] * len(widths) if isinstance(layers, int) else list(layers)
    channels = [widths[0]]
    for level, (width, count) in enumerate(zip(widths, layers, strict=True)):
        downsampler = level < len(widths) - 1
        channels += [width] * (count + downsampler)
    return channels


@dataclass(frozen=True)
class Embedded:
    """Conditions as the blocks of one UNet read them."""

    time: Tensor
    """(B, width) timestep with the base model's added conditions in it."""
    text: Tensor
    """(B, tokens, width) text; some bases project it first."""


def embed(unet: UNet2DConditionModel, sample: Tensor, timestep: Tensor | int, conditioning: Conditioning) -> Embedded:
    """Embed the timestep, scalar or (B,), and the conditions for a UNet; `sample` (B, …) states batch, type and device."""
    timestep = torch.as_tensor(timestep, device=sample.device).reshape(-1).expand(len(sample))
    time = unet.time_embedding(unet.get_time_embed(sample=sample, timestep=timestep))
    added = unet.get_aug_embed(emb=time, encoder_hidden_states=conditioning.text, added_cond_kwargs=conditioning.added)
    time = time if added is None else time + added
    text = unet.process_encoder_hidden_states(
        encoder_hidden_states=conditioning.text, added_cond_kwargs=conditioning.added
    )
    return Embedded(time if unet.time_embed_act is None else unet.time_embed_act(time), text)


def encode(unet: UNet2DConditionModel, hidden: Tensor, conditions: Embedded) -> Features:
    """Run the down and middle blocks; `hidden` (B, c, h, w) is the sum of `conv_in` and whatever else enters there."""
    skips: list[Tensor] = [hidden]
    for block in unet.down_blocks:
        hidden, outputs = block(hidden, conditions.time, **_text_for(block, conditions))
        skips += outputs
    if unet.mid_block is not None:
        hidden = unet.mid_block(hidden, conditions.time, **_text_for(unet.mid_block, conditions))
    return Features(skips, hidden)


def decode(unet: UNet2DConditionModel, features: Features, conditions: Embedded) -> Tensor:
    """Run the up blocks and the output layer; return the prediction (B, out_channels, h, w)."""
    hidden, skips = features.middle, list(features.skips)
    for block in unet.up_blocks:
        count = len(block.resnets)
        own, skips = tuple(skips[-count:]), skips[:-count]
        # Latent sides that the UNet's factor does not divide: upsample to the next skip's own size.
        size = skips[-1].shape[-2:] if skips else None
        hidden = block(hidden, own, conditions.time, upsample_size=size, **_text_for(block, conditions))
    if unet.conv_norm_out is not None:
        hidden = unet.conv_act(unet.conv_norm_out(hidden))
    prediction: Tensor = unet.conv_out(hidden)
    return prediction


def _text_for(block: nn.Module, conditions: Embedded) -> dict[str, Any]:
    return {"encoder_hidden_states": conditions.text} if getattr(block, "has_cross_attention", False) else {}
