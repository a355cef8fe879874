"""SyncDiffusion, a baseline of tiled sampling."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from jointnet_cli.errors import UserError
from jointnet_cli.model.checkpoint import JointModel
from jointnet_cli.sampling.layout import Tile
from jointnet_cli.sampling.loop import GuidedDenoiser
from jointnet_cli.sampling.tiles import crop

WEIGHT = 20.0

DECAY = 0.95
"""Step size of the descent at the first step, and its factor from step to step: the paper's setting."""


@dataclass
class SyncDiffusion:
    """Moves tiles down the gradient of the perceptual distance between the RGB images that they and an anchor predict.

    The anchor is the step's first tile. Where tiles overlap, the mean of their gradients counts.
    """

    model: JointModel

    def __post_init__(self) -> None:
        if self.model.vae is None:
            raise UserError("syncdiffusion compares images by an autoencoder's features; this model has none")

    def __call__(self, denoiser: GuidedDenoiser, canvas: Tensor, step: int, tiles: list[Tile]) -> Tensor:
        """Return the canvas (N, C, H, W) after one step of descent. A tile of the whole image is not compared."""
        tiles = [tile for tile in tiles if (tile.height, tile.width) == (tiles[0].height, tiles[0].width)]
        with torch.inference_mode(False), torch.enable_grad():
            canvas = canvas.clone().requires_grad_()
            anchor = self._predict_clean(denoiser, canvas, step, tiles[0]).detach()
            gradient = torch.zeros_like(canvas)
            for tile in tiles[1:]:
                predicted = self._predict_clean(denoiser, canvas, step, tile)
                distance = perceptual_distance(self.model.vae, predicted, anchor)
                gradient += torch.autograd.grad(distance, canvas)[0]
            coverage = sum(torch.autograd.grad(crop(canvas, tile).sum(), canvas)[0] for tile in tiles)
        return canvas.detach() - WEIGHT * DECAY**step * gradient / coverage

    def _predict_clean(self, denoiser: GuidedDenoiser, canvas: Tensor, step: int, tile: Tile) -> Tensor:
        """Return the RGB image (1, 3, H, W) that a tile's noisy latents imply."""
        inputs = crop(denoiser.inputs(canvas, step), tile)
        prediction = denoiser(step, inputs[None])[0]
        latents = denoiser.schedule.predict_clean(inputs[:, : denoiser.network.channels], prediction, step)
        return self.model.decode(latents[:1])


def perceptual_distance(vae: AutoencoderKL, first: Tensor, second: Tensor) -> Tensor:
    """Return how differently two images (B, 3, H, W) look to an encoder, summed over the batch.

    After LPIPS (Zhang et al., 2018): features of every level, of unit length over their channels, mean squared difference over
    the image, summed over levels. The features are those of the model's own image encoder instead of a classifier's, so
    that no further weights are needed.
    """
    total = first.new_zeros(())
    encoder = vae.encoder
    left, right = (encoder.conv_in(image.to(vae.dtype)) for image in (first, second))
    for block in encoder.down_blocks:
        left, right = block(left), block(right)
        unit_left, unit_right = (
            features / features.norm(dim=1, keepdim=True).clamp(min=1e-6) for features in (left, right)
        )
        total = total + (unit_left - unit_right).square().sum(dim=1).mean(dim=(1, 2)).sum()
    return total
