"""The only denoising loop: every task is joint denoising of a canvas, with known regions, seen through tiles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Generator, Tensor

from jointnet_cli.model.branch import Conditioning
from jointnet_cli.model.joint import JointDenoiser
from jointnet_cli.progress import Progress
from jointnet_cli.sampling.known import Known
from jointnet_cli.sampling.layout import Layout, Tile
from jointnet_cli.sampling.schedule import Schedule
from jointnet_cli.sampling.tiles import TileBatch, merge


@dataclass(frozen=True)
class Guide:
    """Text guidance (Ho & Salimans, 2022)."""

    texts: Conditioning
    """Of two items: the prompt, and the negative prompt, usually empty."""
    scale: float

    def conditioning(self, count: int) -> Conditioning:
        """For `count` canvases: without guidance the prompt alone, else all negatives, then all positives."""
        return self.texts.rows([0] * count if self.scale == 1 else [1] * count + [0] * count)

    def combine(self, predicted: Tensor) -> Tensor:
        """The guided prediction from what `conditioning` asked for."""
        if self.scale == 1:
            return predicted
        without, with_text = predicted.chunk(2)
        return without + self.scale * (with_text - without)


See = Callable[[Tensor, int], Tensor]
"""From a canvas (N, C, H, W) and a step to what the network reads of it (N, C [+ 1 + C masked input], H, W)."""


class Nudge(Protocol):
    """Moves a canvas before a step, as a baseline of the paper's tiling does."""

    def __call__(self, canvas: Tensor, see: See, schedule: Schedule, step: int, tiles: list[Tile]) -> Tensor:
        """The canvas (N, C, H, W) that the step is taken from."""


@torch.inference_mode()
def denoise(
    model: JointDenoiser,
    canvas: Tensor,
    schedule: Schedule,
    guide: Guide,
    layout: Layout,
    known: Known | None = None,
    *,
    generator: Generator,
    batch: TileBatch | None = None,
    before_step: Nudge | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Denoise a canvas to clean latents.

    Args:
        model: the joint network.
        canvas: (N, C, H, W) latents of the N branches at the run's first timestep, from `Schedule.start`.
        schedule: the steps.
        guide: the text and its guidance scale.
        layout: the tiles.
        known: what is given; `None` for a model without masked input when nothing is given.
        generator: draws the tile offsets, on the CPU.
        batch: how many tiles go through the network at once; `None` takes all of a step.
        nudge: moves the canvas before each step.
        progress: called with the steps done and their number.

    Returns:
        (N, C, H, W) clean latents.
    """
    masked = known.masked_input if known is not None and model.has_masked_input else None

    def see(canvas: Tensor, step: int) -> Tensor:
        seen: Tensor = schedule.scheduler.scale_model_input(canvas, schedule.scheduler.timesteps[step])
        return seen if masked is None else torch.cat([seen, masked], dim=1)

    for step in range(schedule.begin, schedule.steps):
        across, along = torch.randint(1 << 30, (2,), generator=generator).tolist()
        tiles = layout.at(step, schedule.steps, (across, along))
        if before_step is not None:
            canvas = before_step(canvas, see, schedule, step, tiles)
        timestep = schedule.scheduler.timesteps[step]
        prediction = merge(see(canvas, step), tiles, layout, partial(predict, model, guide, timestep), batch)
        canvas = schedule.step(prediction, canvas, step)
        if known is not None:
            canvas = known.blend(canvas, schedule, step + 1)
        if progress:
            progress(step + 1 - schedule.begin, schedule.steps - schedule.begin)
    return canvas


def predict(model: JointDenoiser, guide: Guide, timestep: Tensor, tiles: Tensor) -> Tensor:
    """Guided predictions (T, N, C, h, w) for tiles (T, N, C [+ 1 + C masked input], h, w), guidance in the same batch.

    Models with a learned variance predict it in further channels, which no scheduler here reads.
    """
    pairs = tiles if guide.scale == 1 else torch.cat([tiles, tiles])
    latents, masked = pairs[:, :, : model.channels], pairs[:, :, model.channels :]
    known = masked if masked.shape[2] else None
    predicted = model(latents, timestep, guide.conditioning(len(tiles)), known)
    return guide.combine(predicted[:, :, : model.channels])
