"""Known regions: what of which modality is given, and how the loop is told (paper 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from jointnet_cli.model.checkpoint import JointModel
from jointnet_cli.model.vae import encode_canvas
from jointnet_cli.sampling.schedule import Schedule
from jointnet_cli.tensors import downsample_mask


@dataclass(frozen=True)
class Region:
    """What is given of one branch's canvas."""

    latents: Tensor
    """(C, H, W) clean latents; what lies under the mask is not told."""
    mask: Tensor
    """(1, H, W): 1 = unknown, 0 = given."""

    @classmethod
    def whole(cls, latents: Tensor) -> Self:
        """Return the region of a branch that is given whole."""
        return cls(latents, torch.zeros_like(latents[:1]))

    @classmethod
    def nothing(cls, like: Tensor) -> Self:
        """Return the region of a canvas (C, H, W) of which nothing is given."""
        return cls(torch.zeros_like(like), torch.ones_like(like[:1]))

    @classmethod
    def beside(cls, regions: Sequence[Self]) -> Self:
        """Return the region of canvases that lie side by side."""
        latents, mask = (torch.cat([getattr(each, name) for each in regions], dim=-1) for name in ("latents", "mask"))
        return cls(latents, mask)


@dataclass(frozen=True)
class Known:
    """Given content of a canvas.

    Two ways to condition: `blend` puts the noised content in place after every step (RePaint, any model); `masked_input`
    is what models with masked input read besides.
    """

    latents: Tensor
    """(N, C, H, W) clean latents; what lies under the mask is not told."""
    mask: Tensor
    """(N, 1, H, W): 1 = unknown, 0 = given."""
    noise: Tensor
    """(N, C, H, W) noise that the given content is corrupted with at all steps: the canvas's own."""

    @classmethod
    def of(cls, regions: Sequence[Region], noise: Tensor) -> Self:
        """Return the canvas of the branches' regions."""
        latents = torch.stack([region.latents for region in regions])
        mask = torch.stack([region.mask for region in regions])
        return cls(latents.to(noise), mask.to(noise), noise)

    @property
    def masked_input(self) -> Tensor:
        """(N, 1 + C, H, W) input of a masked-input model: the mask, and the latents with zeros under it."""
        return torch.cat([self.mask, self.latents * (1 - self.mask)], dim=1)

    def blend(self, canvas: Tensor, schedule: Schedule, step: int) -> Tensor:
        """Return the canvas before a step with the known region replaced by its own noised content; clean after the last."""
        return torch.where(self.mask > 0.5, canvas, schedule.noised(self.latents, self.noise, step))


def encode_region(model: JointModel, maps: Tensor, unknown: Tensor, *, wrap: bool = False) -> Region:
    """Return the region of a map (1, 3, H, W) in [-1, 1] that is given outside of a mask (H, W) of any size, 1 = unknown.

    A latent pixel is unknown if any pixel of the mask that it stands for is. `wrap` as in `decode_canvas`.
    """
    latents = encode_canvas(model, maps, wrap=wrap)
    height, width = latents.shape[-2:]
    return Region(latents, downsample_mask(unknown, (height, width))[None])
