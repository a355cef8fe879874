"""Random known regions for masked-input training (paper 4.1)."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from jointnet_cli.training.recipe import Masks


def random_masks(clean: Tensor, shares: Masks, generator: Generator) -> Tensor:
    """Masks (B, N, 1, h, w) for latents (B, N, C, h, w): 1 = unknown. Branch 0 is RGB.

    Every item draws its kind: RGB given, the dense maps given, one random rectangle for all, one for each, or, with what
    is left, nothing given at all, which keeps joint generation alive.
    """
    count, branches, _, height, width = clean.shape
    masks = torch.ones(count, branches, 1, height, width)
    bounds = torch.tensor([shares.image_known, shares.maps_known, shares.equal, shares.unequal]).cumsum(0)
    kinds = torch.bucketize(torch.rand(count, generator=generator), bounds, right=True)
    masks[kinds == 0, 0] = 0
    masks[kinds == 1, 1:] = 0
    for item in torch.nonzero((kinds == 2) | (kinds == 3)).flatten().tolist():
        shared = rectangle(height, width, generator)
        for branch in range(branches):
            masks[item, branch, 0] = shared if kinds[item] == 2 else rectangle(height, width, generator)
    return masks


def rectangle(height: int, width: int, generator: Generator) -> Tensor:
    """A mask (h, w) that is 1 (unknown) inside a random rectangle and 0 outside, or the reverse."""
    draw = torch.rand(5, generator=generator).tolist()
    high, wide = (
        max(1, round((0.2 + 0.8 * part) * side)) for part, side in zip(draw[:2], (height, width), strict=True)
    )
    top, left = int(draw[2] * (height - high + 1)), int(draw[3] * (width - wide + 1))
    mask = torch.zeros(height, width)
    mask[top : top + high, left : left + wide] = 1
    return mask if draw[4] < 0.7 else 1 - mask
