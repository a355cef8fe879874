"""Maps of every modality as tensors: encode, decode, resize, align."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from jointnet_cli.modality import MODALITIES, NEAR_QUANTILE, SKY_LENGTH


def relative_disparity(inverse_depth: Tensor) -> Tensor:
    """Convert inverse depth in any unit (B, H, W), sky = 0, to relative disparity in [0, 1]: far = 0, near = 1."""
    flat = inverse_depth.flatten(1)
    low = flat.amin(dim=1)
    high = torch.quantile(flat, NEAR_QUANTILE, dim=1)
    span = (high - low).clamp(min=1e-6)
    return ((inverse_depth - low[:, None, None]) / span[:, None, None]).clamp(0, 1)


def inverse_depth(depth: Tensor) -> Tensor:
    """Convert distance in metres, `inf` for the sky, to inverse depth in 1/metres, 0 for the sky."""
    return torch.where(torch.isfinite(depth), 1 / depth.clamp(min=1e-3), 0.0)


def to_map(values: Tensor, modality: str) -> Tensor:
    """Convert a physical array to the map that the VAE encodes, (B, 3, H, W) in [-1, 1].

    Args:
        values: `rgb` (B, 3, H, W) sRGB in [0, 1]; `depth` (B, H, W) relative disparity in [0, 1]; `normal` (B, 3, H, W).
        modality: one of `MODALITIES`.
    """
    match MODALITIES[modality].values:
        case "disparity":
            return (values * 2 - 1)[:, None].expand(-1, 3, -1, -1)
        case "direction":
            return values
        case "color":
            return values * 2 - 1


def from_map(decoded: Tensor, modality: str) -> Tensor:
    """Convert the decoded map (B, 3, H, W) to the physical array that `to_map` takes.

    Disparity is the mean of the three channels, clamped; normals go through `unit_normals`.
    """
    match MODALITIES[modality].values:
        case "disparity":
            return ((decoded.mean(dim=1) + 1) / 2).clamp(0, 1)
        case "direction":
            return unit_normals(decoded)
        case "color":
            return ((decoded + 1) / 2).clamp(0, 1)


def unit_normals(vectors: Tensor) -> Tensor:
    """Return vectors (B, 3, H, W) at unit length; those shorter than `SKY_LENGTH` mark no surface and become zero."""
    length = vectors.norm(dim=1, keepdim=True)
    return torch.where(length >= SKY_LENGTH, vectors / length.clamp(min=SKY_LENGTH), 0.0)


def flip(latents_or_map: Tensor, modality: str) -> Tensor:
    """Mirror a map left to right; the x axis of normals turns with it."""
    flipped = latents_or_map.flip(-1)
    if MODALITIES[modality].values == "direction":
        flipped = flipped * torch.tensor([-1.0, 1.0, 1.0], device=flipped.device).view(3, 1, 1)
    return flipped


def fit_scale_shift(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return least-squares scale and shift that take source to target, both flat (P,); a flat source has scale 0.

    In float64, whose rounding no file shows: the same members give the same bytes however sums are split among threads.
    """
    source, target = source.double(), target.double()
    centred = source - source.mean()
    scale = (centred * target).sum() / centred.square().sum().clamp(min=1e-12)
    return scale, target.mean() - scale * source.mean()


def align_members(members: Sequence[Tensor], modality: str) -> tuple[Tensor, Tensor]:
    """Return the ensemble's answer and how far its members are from it.

    Args:
        members: maps of one photo, each (1, H, W) disparity in [0, 1], or (1, 3, H, W) normals or colors.
        modality: disparity is brought to the first member's scale and shift before the median is taken; normals are
            averaged and made unit vectors; of colors the median is taken.

    Returns:
        A map as the members are, and its uncertainty (1, H, W): the standard deviation of the aligned disparities or of
        the colors, or the root mean square of the angles to the mean normal in radians. A member that sees no surface
        where the others do is a right angle off.
    """
    match MODALITIES[modality].values:
        case "direction":
            normals = torch.stack(list(members))
            mean = unit_normals(normals.mean(dim=0))
            angles = (normals * mean).sum(dim=2).clamp(-1, 1).acos()
            there = mean.norm(dim=1) > 0
            return mean, torch.where(there, angles.square().mean(dim=0).sqrt(), 0.0)
        case "disparity":
            aligned = [members[0]]
            for member in members[1:]:
                scale, shift = fit_scale_shift(member.flatten(), members[0].flatten())
                aligned.append(member * scale + shift)
            median, spread = _median(aligned)
            return median.clamp(0, 1), spread
        case "color":
            median, spread = _median(members)
            return median, spread.mean(dim=1)


def _median(members: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the median of tensors of one shape and their standard deviation, value by value."""
    # Of an even number `Tensor.median` takes the lower middle one, which would make everything farther.
    ordered = torch.stack(list(members)).sort(dim=0).values
    median = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    return median, ordered.std(dim=0, correction=0)


Size = tuple[int, int]


def to_tensor(array: NDArray[np.float32]) -> Tensor:
    """Convert (H, W, 3) or (H, W) to (1, 3, H, W) or (1, H, W)."""
    tensor = torch.from_numpy(np.ascontiguousarray(array, np.float32))
    return (tensor.permute(2, 0, 1) if tensor.ndim == 3 else tensor)[None]


def to_array(values: Tensor) -> NDArray[np.float32]:
    """Convert (1, 3, H, W) or (1, H, W) to (H, W, 3) or (H, W)."""
    values = values[0].permute(1, 2, 0) if values.ndim == 4 else values[0]
    return values.float().contiguous().numpy()


def resize(values: Tensor, size: Size, modality: str) -> Tensor:
    """Return a physical array, RGB or normals (1, 3, H, W) or disparity (1, H, W), smoothly at another size."""
    if values.shape[-2:] == size:
        return values
    match MODALITIES[modality].values:
        case "disparity":
            return F.interpolate(values[:, None], size, mode="bilinear", antialias=True)[:, 0]
        case "direction":
            return unit_normals(F.interpolate(values, size, mode="bilinear", antialias=True))
        case "color":
            return F.interpolate(values, size, mode="bicubic", antialias=True).clamp(0, 1)


def upsample(values: Tensor, size: Size, modality: str) -> Tensor:
    """Enlarge before refinement: RGB by Lanczos, dense maps by the nearest pixel, which invents no values (paper 5.2)."""
    if values.shape[-2:] == size:
        return values
    if modality == "rgb":
        return torch.stack([_lanczos(plane, size) for plane in values[0]])[None].clamp(0, 1)
    planes = values if values.ndim == 4 else values[:, None]
    return F.interpolate(planes, size, mode="nearest-exact").view(*values.shape[:-2], *size)


def downsample_mask(mask: Tensor, size: Size) -> Tensor:
    """Return a mask (H, W) at another size: a pixel is marked if any pixel it stands for is."""
    return F.adaptive_max_pool2d((mask > 0.5).float()[None], size)[0]


def _lanczos(plane: Tensor, size: Size) -> Tensor:
    picture = Image.fromarray(plane.contiguous().numpy()).resize(size[::-1], Image.Resampling.LANCZOS)
    return torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.float32).view(size)
