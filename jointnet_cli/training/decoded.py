"""Errors of decoded maps: what a dense prediction in one step is judged by (Garcia et al., 2025).

The latents' squared error weighs what the decoder makes large or small alike: a far hill's few per cent of disparity are
a great error of its depth. Neither scale nor shift of a disparity counts, as in the evaluation's protocol.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from jointnet_cli.modality import MODALITIES
from jointnet_cli.model.vae import decode_latents

FAR = 0.02
"""Relative disparity below which it is sky or as far: its depth is left out, and errors of depth are no greater there."""


def decoded_errors(vae: AutoencoderKL | None, predicted: Tensor, clean: Tensor, name: str) -> Tensor:
    """Return the errors (B,) of predicted latents of a dense modality against clean ones, both (B, C, h, w), decoded."""
    with torch.no_grad():
        truth = decode_latents(vae, clean).float()
    made = decode_latents(vae, predicted).float()
    if MODALITIES[name].values == "direction":
        return direction_errors(made, truth)
    return disparity_errors(*((maps.mean(dim=1) + 1) / 2 for maps in (made, truth)))


def disparity_errors(predicted: Tensor, truth: Tensor) -> Tensor:
    """Return the mean error (B,) of the logarithm of aligned disparity (B, H, W); of the sky, that of disparity itself.

    Scale and shift are the least-squares ones, where there is no sky.
    """
    estimate, target = predicted.flatten(1), truth.clamp(0, 1).flatten(1)
    there = (target > FAR).float()
    count = there.sum(dim=1, keepdim=True).clamp(min=1)
    middle, target_middle = ((values * there).sum(dim=1, keepdim=True) / count for values in (estimate, target))
    offset = (estimate - middle) * there
    scale = (offset * (target - target_middle)).sum(dim=1, keepdim=True) / offset.square().sum(1, True).clamp(min=1e-4)
    aligned = (scale * (estimate - middle) + target_middle).clamp(min=0)
    ratio = ((aligned + FAR) / (target + FAR)).log().abs()
    sky = (estimate - target).abs() * (1 - there)
    errors: Tensor = (ratio * there).sum(dim=1) / count[:, 0] + sky.mean(dim=1)
    return errors


def direction_errors(predicted: Tensor, truth: Tensor) -> Tensor:
    """Return the mean distance (B,) of true directions (B, 3, H, W) to the predicted ones, plus the squared error of lengths.

    Sky, of length 0, has no direction. The best length of an unsure prediction is the probability of a surface.
    """
    length, target = (vectors.norm(dim=1).clamp(min=1e-3) for vectors in (predicted, truth))
    there = (target > 0.5).float()
    cosine = (predicted * truth).sum(dim=1) / (length * target)
    chord = (2 - 2 * cosine).clamp(min=1e-4).sqrt()
    directions = (chord * there).sum(dim=(1, 2)) / there.sum(dim=(1, 2)).clamp(min=1)
    errors: Tensor = directions + (length - target.clamp(max=1)).square().mean(dim=(1, 2))
    return errors
