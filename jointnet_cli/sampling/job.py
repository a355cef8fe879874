"""From a request to clean latents: text, noise, known regions and tiles are put together and denoised."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from jointnet_cli.model.checkpoint import JointModel
from jointnet_cli.sampling.known import Known, channelwise
from jointnet_cli.sampling.layout import Layout
from jointnet_cli.sampling.loop import Guide, Progress, denoise
from jointnet_cli.sampling.schedule import make_scheduler


@dataclass(frozen=True, kw_only=True)
class Job:
    """One canvas to denoise."""

    prompt: str
    seed: int
    layout: Layout
    scheduler: str
    steps: int
    guidance: float
    negative_prompt: str = ""
    given: Mapping[str, Tensor] = field(default_factory=dict)
    """Clean latents (C, H, W) of the branches that are known whole."""
    tile_batch: int | None = None


@torch.inference_mode()
def run(
    model: JointModel, job: Job, *, timings: dict[str, float] | None = None, progress: Progress | None = None
) -> Tensor:
    """Denoise a job's canvas.

    All that is random is drawn on the CPU from one generator: noise, then the known region's noise, then tile offsets;
    the same job gives the same latents.

    Returns:
        (N, C, H, W) clean latents, a row a branch. Seconds for `text` and `denoise` are added to `timings`.
    """
    clock = time.perf_counter()
    texts = model.encode_text([job.prompt, job.negative_prompt])
    timings = {} if timings is None else timings
    clock = _lap(timings, "text", clock)
    generator = torch.Generator().manual_seed(job.seed)
    shape = (len(model.joint.names), model.joint.channels, job.layout.height, job.layout.width)
    noise = torch.randn(shape, generator=generator).to(texts)
    latents = denoise(
        model.joint,
        noise,
        make_scheduler(job.scheduler, model.scheduler, job.steps),
        Guide(texts[0], texts[1], job.guidance),
        job.layout,
        _known(model, job, shape, generator),
        generator=generator,
        tile_batch=job.tile_batch,
        progress=progress,
    )
    _lap(timings, "denoise", clock)
    return latents


def _known(model: JointModel, job: Job, shape: tuple[int, ...], generator: torch.Generator) -> Known | None:
    """What is given; a model with masked input is told so also when that is nothing."""
    if not job.given and not model.joint.has_masked_input:
        return None
    grey = model.grey(*shape[-2:]).expand(shape)
    clean = torch.stack([job.given.get(name, grey[0]).to(grey) for name in model.joint.names])
    return channelwise(clean, [name in job.given for name in model.joint.names], grey, generator)


def _lap(timings: dict[str, float], phase: str, since: float) -> float:
    now = time.perf_counter()
    timings[phase] = timings.get(phase, 0.0) + now - since
    return now
