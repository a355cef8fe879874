"""Known regions: what of which modality is given, and how the loop is told (paper 4.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor


@dataclass(frozen=True)
class Known:
    """Given content of a canvas.

    Two ways to condition: `blend` puts the noised content in place at every step (RePaint, any model); `masked_input`
    is what models with masked input read besides.
    """

    latents: Tensor
    """(N, C, H, W) clean latents of what is given; anything where it is not."""
    mask: Tensor
    """(N, 1, H, W): 1 = unknown, 0 = given."""
    masked_latents: Tensor
    """(N, C, H, W) latents of the picture with its unknown region greyed out."""
    noise: Tensor
    """(N, C, H, W) noise that the given content is corrupted with, the same at all steps."""

    @property
    def masked_input(self) -> Tensor:
        """(N, 1 + C, H, W) input of a masked-input model."""
        return torch.cat([self.mask, self.masked_latents], dim=1)

    def blend(self, latents: Tensor, scheduler: Any, timestep: Tensor) -> Tensor:
        """The canvas at a timestep with the given region replaced by its own noised content."""
        given = scheduler.add_noise(self.latents, self.noise, timestep.reshape(1).to(self.latents.device))
        return torch.where(self.mask > 0.5, latents, given)

    def paste(self, latents: Tensor) -> Tensor:
        """The finished canvas with the given region put back clean."""
        return torch.where(self.mask > 0.5, latents, self.latents)


def channelwise(clean: Tensor, given: list[bool], grey: Tensor, generator: Generator) -> Known:
    """Whole modalities given or unknown: dense prediction, or images from dense maps.

    Args:
        clean: (N, C, H, W) latents; rows that are not given are ignored.
        given: per branch, whether it is known.
        grey: (N, C, H, W) latents of a grey picture, which stand in for what is unknown.
        generator: draws the noise, on the CPU.
    """
    unknown = torch.tensor([not known for known in given], device=clean.device).view(-1, 1, 1, 1)
    mask = unknown.to(clean.dtype).expand(-1, 1, *clean.shape[-2:])
    noise = torch.randn(clean.shape, generator=generator).to(clean)
    return Known(clean, mask, torch.where(unknown, grey, clean), noise)
