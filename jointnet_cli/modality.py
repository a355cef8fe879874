"""What depth and normals mean: physical array <-> the model's three-channel map in [-1, 1].

Depth is learned as relative inverse depth (disparity): near = 1, far and sky = 0, per image up to scale and shift.
Normals are unit vectors in camera space, x right, y up, z towards the viewer; a zero vector marks the sky.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

Modality = Literal["rgb", "depth", "normal"]
MODALITIES: tuple[str, ...] = get_args(Modality)

NEAR_QUANTILE = 0.985
"""Pixels nearer than this quantile share disparity 1, so that one close leaf does not flatten the rest."""

SKY_LENGTH = 0.3
"""A decoded normal shorter than this is sky, which has none."""


def relative_disparity(inverse_depth: Tensor) -> Tensor:
    """Inverse depth in any unit (B, H, W), sky = 0, to relative disparity in [0, 1]: far = 0, near = 1."""
    flat = inverse_depth.flatten(1)
    low = flat.amin(dim=1)
    high = torch.quantile(flat, NEAR_QUANTILE, dim=1)
    span = (high - low).clamp(min=1e-6)
    return ((inverse_depth - low[:, None, None]) / span[:, None, None]).clamp(0, 1)


def inverse_depth(depth: Tensor) -> Tensor:
    """Distance in metres, `inf` for the sky, to inverse depth in 1/metres, 0 for the sky."""
    return torch.where(torch.isfinite(depth), 1 / depth.clamp(min=1e-3), 0.0)


def to_map(values: Tensor, modality: str) -> Tensor:
    """A physical array to the map that the VAE encodes, (B, 3, H, W) in [-1, 1].

    Args:
        values: `rgb` (B, 3, H, W) sRGB in [0, 1]; `depth` (B, H, W) relative disparity in [0, 1]; `normal` (B, 3, H, W).
        modality: one of `MODALITIES`.
    """
    if modality == "depth":
        return (values * 2 - 1)[:, None].expand(-1, 3, -1, -1)
    return values if modality == "normal" else values * 2 - 1


def from_map(decoded: Tensor, modality: str) -> Tensor:
    """The decoded map (B, 3, H, W) to the physical array that `to_map` takes.

    Disparity is the mean of the three channels, clamped; normals go through `unit_normals`.
    """
    if modality == "depth":
        return ((decoded.mean(dim=1) + 1) / 2).clamp(0, 1)
    if modality == "normal":
        return unit_normals(decoded)
    return ((decoded + 1) / 2).clamp(0, 1)


def unit_normals(vectors: Tensor) -> Tensor:
    """Vectors (B, 3, H, W) at unit length; those shorter than `SKY_LENGTH` mark no surface and become zero."""
    length = vectors.norm(dim=1, keepdim=True)
    return torch.where(length >= SKY_LENGTH, vectors / length.clamp(min=SKY_LENGTH), 0.0)


def flip(latents_or_map: Tensor, modality: str) -> Tensor:
    """Mirror a map left to right; the x axis of normals turns with it."""
    flipped = latents_or_map.flip(-1)
    if modality == "normal":
        flipped = flipped * torch.tensor([-1.0, 1.0, 1.0], device=flipped.device).view(3, 1, 1)
    return flipped
