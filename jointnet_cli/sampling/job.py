"""From a request to clean latents: text, noise, known regions and tiles are put together and denoised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from jointnet_cli.errors import UserError
from jointnet_cli.model.checkpoint import JointModel
from jointnet_cli.progress import Progress, timed
from jointnet_cli.sampling.known import Known, Region
from jointnet_cli.sampling.layout import Layout
from jointnet_cli.sampling.loop import Guide, denoise
from jointnet_cli.sampling.schedule import make_schedule
from jointnet_cli.sampling.syncdiffusion import SyncDiffusion
from jointnet_cli.sampling.tiles import TileBatch


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
    given: Mapping[str, Region] = field(default_factory=dict)
    """By branch, what is known; nothing of a branch that is missing."""
    start: Mapping[str, Tensor] = field(default_factory=dict)
    """By branch, the clean latents (C, H, W) that SDEdit starts from; of all branches, if `strength` is less than 1."""
    strength: float = 1.0
    """Fraction of the steps that are run."""
    synchronized: bool = False
    """Whether tiles are drawn towards each other's looks before every step (SyncDiffusion)."""
    tile_batch: int | None = None
    """Tiles that go through the network at once; `None` decides by the device."""


@torch.inference_mode()
def run(
    model: JointModel, job: Job, *, timings: dict[str, float] | None = None, progress: Progress | None = None
) -> Tensor:
    """Denoise a job's canvas.

    All that is random is drawn on the CPU from one generator: noise, then tile offsets; the same job gives the same
    latents.

    Returns:
        (N, C, H, W) clean latents, a row a branch. Seconds for `text` and `denoise` are added to `timings`.

    Raises:
        UserError: a seed that does not fit into 64 bits.
    """
    if not 0 <= job.seed < 2**64:
        raise UserError(f"seed {job.seed} does not fit into 64 bits", hint=f"choose between 0 and {2**64 - 1}")
    timings = {} if timings is None else timings
    with timed(timings, "text"):
        # Without guidance the negative prompt is not read, so its length must not change the prompt's chunks.
        texts = model.encode_text([job.prompt, "" if job.guidance == 1 else job.negative_prompt])
    generator = torch.Generator().manual_seed(job.seed)
    shape = (len(model.joint.names), model.joint.channels, job.layout.height, job.layout.width)
    noise = torch.randn(shape, generator=generator).to(texts.text)
    schedule = make_schedule(job.scheduler, model.scheduler, job.steps, job.strength)
    clean = torch.stack([job.start[name] for name in model.joint.names]).to(noise) if job.start else None
    guide = Guide(texts, job.guidance)
    with timed(timings, "denoise"):
        return denoise(
            model.joint,
            schedule.start(noise, clean),
            schedule,
            guide,
            job.layout,
            _known(model, job, noise),
            generator=generator,
            batch=TileBatch(job.tile_batch),
            before_step=SyncDiffusion(model, guide) if job.synchronized else None,
            progress=progress,
        )


def _known(model: JointModel, job: Job, noise: Tensor) -> Known | None:
    """What is given; a model with masked input is told so also when that is nothing."""
    if not job.given and not model.joint.has_masked_input:
        return None
    nothing = Region.nothing(noise[0])
    return Known.of([job.given.get(name, nothing) for name in model.joint.names], noise)
