"""The only denoising loop: every task is joint denoising of a canvas, with known regions, seen through tiles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor

from jointnet_cli.model.branch import Conditioning
from jointnet_cli.model.joint import JointUNet
from jointnet_cli.sampling.known import Known
from jointnet_cli.sampling.layout import Layout
from jointnet_cli.sampling.tiles import merge

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Guide:
    """Text guidance (Ho & Salimans, 2022)."""

    positive: Tensor
    """(tokens, width) embedding of the prompt."""
    negative: Tensor
    """(tokens, width) embedding of the negative prompt, usually empty."""
    scale: float

    def conditioning(self, count: int) -> Conditioning:
        """For `count` canvases: without guidance the prompt alone, else all negatives, then all positives."""
        texts = [self.positive] if self.scale == 1 else [self.negative, self.positive]
        return Conditioning(torch.stack(texts).repeat_interleave(count, dim=0))

    def combine(self, predicted: Tensor) -> Tensor:
        """The guided prediction from what `conditioning` asked for."""
        if self.scale == 1:
            return predicted
        without, with_text = predicted.chunk(2)
        return without + self.scale * (with_text - without)


@torch.inference_mode()
def denoise(
    model: JointUNet,
    canvas: Tensor,
    scheduler: Any,
    guide: Guide,
    layout: Layout,
    known: Known | None = None,
    *,
    generator: Generator,
    tile_batch: int | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Denoise a canvas from noise to clean latents.

    Args:
        model: the joint network.
        canvas: (N, C, H, W) initial noise of the N branches.
        scheduler: from `make_scheduler`, its timesteps set.
        guide: the text and its guidance scale.
        layout: the tiles.
        known: what is given; `None` for a model without masked input when nothing is given.
        generator: draws the tile offsets, on the CPU.
        tile_batch: tiles that go through the network at once; `None` takes all of a step.
        progress: called with the steps done and their number.

    Returns:
        (N, C, H, W) clean latents.
    """
    canvas = canvas * scheduler.init_noise_sigma
    masked = known.masked_input if known is not None and model.has_masked_input else None
    steps = len(scheduler.timesteps)
    for step, timestep in enumerate(scheduler.timesteps):
        if known is not None:
            canvas = known.blend(canvas, scheduler, timestep)
        across, along = torch.randint(1 << 30, (2,), generator=generator).tolist()
        tiles = layout.at(step, steps, (across, along))
        seen = scheduler.scale_model_input(canvas, timestep)
        if masked is not None:
            seen = torch.cat([seen, masked], dim=1)
        predict = partial(_predict, model, guide, timestep)
        prediction = merge(seen, tiles, layout, predict, tile_batch)
        canvas = scheduler.step(prediction, timestep, canvas, return_dict=False)[0]
        if progress:
            progress(step + 1, steps)
    return canvas if known is None else known.paste(canvas)


def _predict(model: JointUNet, guide: Guide, timestep: Tensor, tiles: Tensor) -> Tensor:
    """Guided predictions (T, N, C, h, w) for tiles (T, N, C [+ 1 + C masked input], h, w), guidance in the same batch."""
    batch = tiles if guide.scale == 1 else torch.cat([tiles, tiles])
    latents, masked = batch[:, :, : model.channels], batch[:, :, model.channels :]
    known = masked if masked.shape[2] else None
    return guide.combine(model(latents, timestep, guide.conditioning(len(tiles)), known))
