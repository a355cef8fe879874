"""From a canvas of latents to maps, closed left to right where the canvas is."""

from __future__ import annotations

import torch
from torch import Tensor

from jointnet_cli.model.checkpoint import JointModel

MARGIN = 16
"""Latent columns of the other end that are decoded beside each end of a closed canvas: more than the decoder's reach."""


@torch.inference_mode()
def decode_canvas(model: JointModel, latents: Tensor, *, wrap: bool = False) -> Tensor:
    """Decode latents (B, C, h, w) to maps (B, 3, H, W) in one piece.

    Not in several: the decoder's group norms take their statistics over all it sees, so pieces differ in tone where they meet.
    With `wrap` either end is decoded with the other end beside it, so that no seam shows where they join.
    """
    if not wrap:
        return model.decode(latents)
    width = latents.shape[-1]
    columns = torch.arange(-MARGIN, width + MARGIN, device=latents.device) % width
    decoded = model.decode(latents[..., columns])
    return decoded[..., MARGIN * model.factor : (MARGIN + width) * model.factor]
