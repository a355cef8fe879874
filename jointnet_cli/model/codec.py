"""Maps to what the branches denoise, and back: through a VAE, or as they are where the model works on pixels."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from torch import Tensor


def pixels_per_latent(vae: AutoencoderKL | None) -> int:
    """Pixels a latent pixel stands for, along one side."""
    return 1 if vae is None else 2 ** (len(vae.config.block_out_channels) - 1)


def encode_maps(vae: AutoencoderKL | None, maps: Tensor) -> Tensor:
    """Maps (B, 3, H, W) in [-1, 1] to latents (B, C, h, w) as the denoiser sees them: normalised, the posterior's mean.

    In the VAE's own type, even where a network trains in mixed precision.
    """
    if vae is None:
        return maps
    mean, scale = _normalisation(vae)
    with torch.autocast(vae.device.type, enabled=False):
        return (vae.encode(maps.to(vae.device, vae.dtype)).latent_dist.mean - mean) * scale


def decode_latents(vae: AutoencoderKL | None, latents: Tensor) -> Tensor:
    """Latents (B, C, h, w) to maps (B, 3, H, W), about [-1, 1]."""
    if vae is None:
        return latents.float()
    mean, scale = _normalisation(vae)
    return vae.decode(latents.to(vae.device, vae.dtype) / scale + mean).sample.float()


def _normalisation(vae: AutoencoderKL) -> tuple[Tensor | float, Tensor | float]:
    """What is taken off the VAE's latents and what they are then multiplied by: numbers, or (1, C, 1, 1)."""
    config = vae.config
    mean, std = (config.get(name) for name in ("latents_mean", "latents_std"))
    if mean is None or std is None:
        return config.shift_factor or 0.0, config.scaling_factor
    means, stds = (torch.tensor(values, dtype=vae.dtype, device=vae.device).view(1, -1, 1, 1) for values in (mean, std))
    return means, config.scaling_factor / stds
