"""Random known regions for masked-input training (paper 4.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from jointnet_cli.training.draws import Draws
from jointnet_cli.training.recipe import Masks


def random_masks(clean: Tensor, shares: Masks, draws: Draws) -> Tensor:
    """Masks (B, N, 1, h, w) for latents (B, N, C, h, w): 1 = unknown. Branch 0 is RGB.

    Every item draws its kind: RGB given, the dense maps given, one random rectangle for all, one for each, or, with what
    is left, nothing given at all, which keeps joint generation alive.
    """
    count, branches, _, height, width = clean.shape
    masks = torch.ones(count, branches, 1, height, width)
    bounds = torch.tensor([shares.image_known, shares.maps_known, shares.equal, shares.unequal]).cumsum(0)
    kinds = torch.bucketize(draws.uniform(), bounds, right=True)
    rectangles = draws.uniform(branches, 5)
    masks[kinds == 0, 0] = 0
    masks[kinds == 1, 1:] = 0
    for item in torch.nonzero((kinds == 2) | (kinds == 3)).flatten().tolist():
        for branch in range(branches):
            own = branch if kinds[item] == 3 else 0
            masks[item, branch, 0] = rectangle(height, width, rectangles[item, own].tolist())
    return masks


def rectangle(height: int, width: int, draw: Sequence[float]) -> Tensor:
    """A mask (h, w) that is 1 (unknown) inside a rectangle and 0 outside, or the reverse, from five numbers in [0, 1)."""
    high, wide = (
        max(1, round((0.2 + 0.8 * part) * side)) for part, side in zip(draw[:2], (height, width), strict=True)
    )
    top, left = int(draw[2] * (height - high + 1)), int(draw[3] * (width - wide + 1))
    mask = torch.zeros(height, width)
    mask[top : top + high, left : left + wide] = 1
    return mask if draw[4] < 0.7 else 1 - mask
