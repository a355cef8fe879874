"""Errors of decoded maps: what a dense prediction in one step is judged by (Garcia et al., 2025).

The squared error of latents takes no account of how maps are judged: on a far hill a small error of disparity is a large
error of depth. As in the evaluation's protocol, scale and shift of disparity do not count.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from jointnet_cli.modality import MODALITIES
from jointnet_cli.model.vae import decode_latents

FAR = 0.02
"""Pixels of less relative disparity count as sky. It is added to both disparities before their logarithms are compared, which
bounds the error of far pixels."""


def decoded_errors(vae: AutoencoderKL | None, predicted: Tensor, clean: Tensor, name: str) -> Tensor:
    """Return the errors (B,) of predicted latents of a dense modality against clean ones, both (B, C, h, w), decoded."""
    with torch.no_grad():
        truth = decode_latents(vae, clean)
    made = decode_latents(vae, predicted)
    if MODALITIES[name].values == "direction":
        return direction_errors(made, truth)
    return disparity_errors(*((maps.mean(dim=1) + 1) / 2 for maps in (made, truth)))


def disparity_errors(predicted: Tensor, truth: Tensor) -> Tensor:
    """Return the mean error (B,) of the logarithm of aligned disparity (B, H, W); of the sky, that of disparity itself.

    Scale and shift are fitted by least squares to the pixels that are not sky. They are left out by weights of 0, not by a
    selection as `fit_scale_shift` needs one: a GPU would wait for their number.
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
    """Return the mean distance (B,) of predicted directions (B, 3, H, W) from the true ones, plus the squared error of lengths.

    Sky has length 0 and no direction. Where surface or sky is uncertain, the best length is the probability of a surface.
    """
    length, target = (vectors.norm(dim=1).clamp(min=1e-3) for vectors in (predicted, truth))
    there = (target > 0.5).float()
    cosine = (predicted * truth).sum(dim=1) / (length * target)
    chord = (2 - 2 * cosine).clamp(min=1e-4).sqrt()
    directions = (chord * there).sum(dim=(1, 2)) / there.sum(dim=(1, 2)).clamp(min=1)
    errors: Tensor = directions + (length - target.clamp(max=1)).square().mean(dim=(1, 2))
    return errors
