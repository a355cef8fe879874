"""Random known regions for masked-input training (paper 4.1)."""

from __future__ import annotations

import torch
from torch import Tensor

from jointnet_cli.training.determinism import SampleRNG
from jointnet_cli.training.recipe import Masks


def random_masks(clean: Tensor, shares: Masks, rng: SampleRNG) -> Tensor:
    """Return masks (B, N, 1, h, w) for latents (B, N, C, h, w): 1 = unknown. Branch 0 is RGB.

    Every item draws its kind: RGB given, dense maps given (some of them or all), one random rectangle for all, one for
    each, or, with what is left, nothing given at all, which keeps joint generation alive.
    """
    _, branches, _, height, width = clean.shape
    bounds = torch.tensor([shares.image_known, shares.maps_known, shares.equal, shares.unequal]).cumsum(0)
    uniform = rng.uniform()
    kind = torch.bucketize(uniform, bounds.to(uniform.device), right=True)[:, None, None, None, None]
    own = rectangles(height, width, rng.uniform(branches, 5))[:, :, None]
    is_rgb = (torch.arange(branches, device=kind.device) == 0)[:, None, None, None]
    known = ((kind == 0) & is_rgb) | ((kind == 1) & _some_maps(rng.uniform(branches)))
    cut = torch.where(kind == 2, own[:, :1], own)
    return torch.where((kind == 2) | (kind == 3), cut, 1 - known.float())


def dense_prediction(masks: Tensor) -> Tensor:
    """Return which items of masks (B, N, 1, h, w) have RGB given whole and nothing else, (B,)."""
    is_dense = torch.arange(masks.shape[1], device=masks.device) > 0
    return (masks.flatten(2) == is_dense[:, None]).all(dim=(1, 2))


def _some_maps(draw: Tensor) -> Tensor:
    """Which branches are given where maps are, (B, N, 1, 1, 1), from numbers (B, N) in [0, 1): some dense maps, or all."""
    chosen = draw < 0.5
    chosen[:, 0] = False
    dense = torch.arange(draw.shape[1], device=draw.device) > 0
    return torch.where(chosen.any(dim=1, keepdim=True), chosen, dense)[:, :, None, None, None]


def rectangles(height: int, width: int, draw: Tensor) -> Tensor:
    """Masks (…, h, w) that are 1 (unknown) inside a rectangle and 0 outside, or the reverse, from numbers (…, 5) in [0, 1)."""
    high, wide, top, left, hole = draw.unbind(-1)
    rows, columns = _span(height, high, top), _span(width, wide, left)
    inside = rows[..., :, None] & columns[..., None, :]
    return (inside == (hole < 0.7)[..., None, None]).float()


def _span(side: int, size: Tensor, place: Tensor) -> Tensor:
    """Return whether each of `side` cells lies within a span of at least a fifth of them, (…, side)."""
    length = ((0.2 + 0.8 * size) * side).round().clamp(min=1)
    start = (place * (side - length + 1)).floor()
    cells = torch.arange(side, device=size.device)
    return (cells >= start[..., None]) & (cells < (start + length)[..., None])
