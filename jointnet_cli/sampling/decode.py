"""From latents to maps, and back, for canvases of any width."""

from __future__ import annotations

import torch
from torch import Tensor

from jointnet_cli.model.checkpoint import JointModel

MARGIN = 16
"""Latent columns that a decoded piece sees beyond its sides: more than the decoder's reach."""


@torch.inference_mode()
def decode_canvas(model: JointModel, latents: Tensor, *, wrap: bool = False, piece: int = 128) -> Tensor:
    """Decode latents (B, C, h, w) to maps (B, 3, H, W), in pieces of columns so that memory does not grow with the width.

    With `wrap` the canvas closes left to right: the columns at either end are decoded with the other end beside them.
    """
    width = latents.shape[-1]
    if not wrap and width <= piece + 2 * MARGIN:
        return model.decode(latents)
    columns = []
    for start in range(0, width, piece):
        end = min(start + piece, width)
        left, right = start - MARGIN, end + MARGIN
        if not wrap:
            left, right = max(left, 0), min(right, width)
        seen = latents[..., torch.arange(left, right, device=latents.device) % width]
        decoded = model.decode(seen)
        columns.append(decoded[..., (start - left) * model.factor : (end - left) * model.factor])
    return torch.cat(columns, dim=-1)
