"""The only denoising loop: every task is joint denoising of a canvas, with known regions, seen through tiles."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from operator import mul
from typing import Protocol

import torch
from torch import Generator, Tensor

from jointnet_cli.errors import UserError
from jointnet_cli.model.branch import Conditioning
from jointnet_cli.model.checkpoint import JointModel
from jointnet_cli.model.joint import JointDenoiser
from jointnet_cli.progress import Progress, Timer
from jointnet_cli.sampling.known import Known, Region
from jointnet_cli.sampling.layout import Layout, Tile
from jointnet_cli.sampling.presets import MAX_STEPS, Resolved, is_guided
from jointnet_cli.sampling.schedule import Schedule, make_schedule
from jointnet_cli.sampling.tiles import TileBatch, crop, merge


@dataclass(frozen=True, kw_only=True)
class Job:
    """One canvas to denoise."""

    prompt: str
    negative_prompt: str = ""
    seed: int
    layout: Layout
    sampling: Resolved
    given: Mapping[str, Region] = field(default_factory=dict)
    """Known region by branch; nothing is known of a branch that is missing."""
    start: Mapping[str, Tensor] = field(default_factory=dict)
    """Clean latents (C, H, W) by branch that SDEdit starts from; of all branches if `strength` is less than 1."""
    strength: float = 1.0
    """Fraction of the steps that are run."""
    before_step: BeforeStep | None = None
    """Changes the canvas before each step."""


@dataclass(frozen=True)
class Sampled:
    """A denoised canvas."""

    latents: Tensor
    """(N, C, H, W) clean latents, one row per branch."""
    tiles: list[list[Tile]]
    """Those of every step that was run."""
    evaluations: float
    """Passes of one window through all branches: with guidance two a tile, and the whole image for its area."""


@dataclass(frozen=True)
class GuidedDenoiser:
    """The joint network under text guidance (Ho & Salimans, 2022), at the steps of a schedule."""

    network: JointDenoiser
    texts: Conditioning
    """Of prompts, then of as many negative prompts, usually empty."""
    guidance: float
    """Guidance scale; at 1 the network runs on the prompt alone."""
    schedule: Schedule
    masked_input: Tensor | None = None
    """(N, 1 + C, H, W) known regions, for a network with masked input."""
    interval: tuple[int, int] = (0, MAX_STEPS)
    """Least and greatest timestep with guidance (Kynkäänniemi et al., 2024)."""

    def passes(self, step: int) -> int:
        """Return how often the network sees a tile at a step: two times with guidance."""
        return 1 + is_guided(self.guidance, self.interval, float(self.schedule.timestep(step)))

    def inputs(self, canvas: Tensor, step: int) -> Tensor:
        """Return what the network reads of a canvas (N, C, H, W) at a step: (N, C [+ 1 + C masked input], H, W)."""
        scaled = self.schedule.scaled(canvas, step)
        return scaled if self.masked_input is None else torch.cat([scaled, self.masked_input], dim=1)

    def __call__(self, step: int, tiles: Tensor, texts: Sequence[int] = (0,)) -> Tensor:
        """Return guided predictions (T, N, C, h, w) for tiles (T, N, C [+ 1 + C], h, w) of `inputs`, each under its text.

        With guidance, one batch holds all negatives, then all positives. A learned variance is dropped: no scheduler here
        reads it. The network reads its own type; what is added up afterwards has the type of `tiles`.
        """
        channels, guided, prompts = self.network.channels, self.passes(step) == 2, len(self.texts.text) // 2
        items = (torch.cat([tiles, tiles]) if guided else tiles).to(self.texts.text.dtype)
        conditioning = self.texts.rows([*(prompts + text for text in texts), *texts] if guided else list(texts))
        latents, masked = items[:, :, :channels], items[:, :, channels:]
        known = masked if masked.shape[2] else None
        predicted: Tensor = self.network(latents, self.schedule.timestep(step), conditioning, known)[:, :, :channels]
        predicted = predicted.to(tiles.dtype)
        if not guided:
            return predicted
        without, with_text = predicted.chunk(2)
        guided_prediction: Tensor = without + self.guidance * (with_text - without)
        return guided_prediction


class BeforeStep(Protocol):
    """Changes a canvas before a step, such as `SyncDiffusion`."""

    def __call__(self, denoiser: GuidedDenoiser, canvas: Tensor, step: int, tiles: list[Tile]) -> Tensor:
        """Return the canvas (N, C, H, W) that the step is taken from."""


def sample(model: JointModel, job: Job, *, timer: Timer | None = None) -> Sampled:
    """Denoise a job's canvas.

    All random numbers are drawn on the CPU from one generator: noise, then tile offsets. The same job gives the same latents.

    Args:
        model: the model; its network denoises.
        job: what to denoise.
        timer: receives the seconds and the progress of `text` and `denoise`.

    Raises:
        UserError: the seed does not fit into 64 bits.
    """
    (sampled,) = sample_all(model, [job], timer=timer)
    return sampled


@torch.inference_mode()
def sample_all(model: JointModel, jobs: Sequence[Job], *, timer: Timer | None = None) -> list[Sampled]:
    """Denoise the canvases of jobs as `sample` does. Canvases of one tile that are alike share the network's batches.

    Alike are jobs of one size, with the same settings and texts of one length.
    """
    timer = timer or Timer()
    with timer.phase("text"):
        encoded = {pair: model.encode_text(list(pair)) for pair in dict.fromkeys(map(_texts, jobs))}
    texts = [encoded[_texts(job)] for job in jobs]
    groups: dict[Hashable, list[int]] = {}
    for number, (job, text) in enumerate(zip(jobs, texts, strict=True)):
        # Dynamic thresholds are taken over all of a canvas.
        alone = not job.layout.single or job.before_step is not None or model.scheduler.get("thresholding")
        alike = (job.layout, job.sampling, job.strength, bool(job.start), text.text.shape)
        groups.setdefault(number if alone else alike, []).append(number)
    made: dict[int, Sampled] = {}
    for done, group in enumerate(groups.values()):
        together = [jobs[number] for number in group]
        conditions = Conditioning.cat([texts[number].rows([row]) for row in (0, 1) for number in group])
        share = timer.share(done, len(groups))
        made |= zip(group, _sample_alike(model, together, conditions, share), strict=True)
    return [made[number] for number in range(len(jobs))]


def _texts(job: Job) -> tuple[str, str]:
    """Return the prompt and the negative prompt."""
    # Without guidance the negative prompt is not read, so its length must not change the prompt's chunks.
    return job.prompt, "" if job.sampling.guidance == 1 else job.negative_prompt


def _sample_alike(model: JointModel, jobs: Sequence[Job], texts: Conditioning, timer: Timer) -> list[Sampled]:
    """Denoise canvases side by side as one, whose tiles are theirs."""
    first, count = jobs[0], len(jobs)
    layout, settings, width = first.layout, first.sampling, first.layout.width
    generators = [_generator(job.seed) for job in jobs]
    shape = (len(model.joint.names), model.joint.channels, layout.height, width)
    # The canvas is float32 under any network.
    noise = torch.cat([torch.randn(shape, generator=generator) for generator in generators], dim=-1)
    noise = noise.to(texts.text.device)
    schedule = make_schedule(settings.scheduler, model.scheduler, settings.steps, first.strength, settings.spacing)
    known = _known(model, jobs, noise)
    masked_input = known.masked_input if known is not None and model.joint.has_masked_input else None
    denoiser = GuidedDenoiser(model.joint, texts, settings.guidance, schedule, masked_input, settings.guidance_interval)
    placed = [place_tiles(layout, schedule, generator) for generator in generators]
    # Dynamic thresholds are taken over the whole canvas.
    if any(job.given for job in jobs) and known is not None and not schedule.scheduler.config.get("thresholding"):
        unknown = known.mask.amax(dim=0).cpu().split(width, dim=-1)  # where no answer waits for a GPU
        placed = [[_with_unknown(tiles, own) for tiles in steps] for steps, own in zip(placed, unknown, strict=True)]
    starts = [torch.stack([job.start[name] for name in model.joint.names]) for job in jobs if job.start]
    clean = torch.cat(starts, dim=-1).to(noise) if starts else None
    with timer.phase("denoise") as progress:
        latents = denoise(
            denoiser,
            schedule.start(noise, clean),
            layout if count == 1 else replace(layout, width=count * width, window=(layout.height, width)),
            [_beside(steps, width) for steps in zip(*placed, strict=True)],
            known,
            tile_batch=TileBatch(settings.tile_batch),
            before_step=first.before_step,
            progress=progress,
        )
    passes = [denoiser.passes(step) for step in range(schedule.begin, schedule.steps)]
    return [
        Sampled(own, tiles, sum(map(mul, passes, map(layout.evaluations, tiles))))
        for own, tiles in zip(latents.split(width, dim=-1), placed, strict=True)
    ]


def _generator(seed: int) -> Generator:
    if not 0 <= seed < 2**64:
        raise UserError(f"seed {seed} does not fit into 64 bits", hint=f"choose between 0 and {2**64 - 1}")
    return torch.Generator().manual_seed(seed)


def _beside(placed: Sequence[list[Tile]], width: int) -> list[Tile]:
    """Return the tiles of canvases of a width that lie side by side, each with the text of its own."""
    return [
        replace(tile, left=tile.left + number * width, text=number)
        for number, tiles in enumerate(placed)
        for tile in tiles
    ]


def place_tiles(layout: Layout, schedule: Schedule, generator: Generator) -> list[list[Tile]]:
    """Return the tiles of every step of a run. Every step draws two random numbers, tiled or not."""
    steps = range(schedule.begin, schedule.steps)
    draws = [tuple(torch.randint(1 << 30, (2,), generator=generator).tolist()) for _ in steps]
    shift = draws[0] if layout.offsets == "golden" and draws else None
    return [layout.at(step, schedule.steps, shift or draw) for step, draw in zip(steps, draws, strict=True)]


def _with_unknown(tiles: list[Tile], unknown: Tensor) -> list[Tile]:
    """Return the tiles that hold unknown pixels (1, H, W), at least one: predictions of the others would be replaced."""
    return [tile for tile in tiles if crop(unknown, tile).any()] or tiles[:1]


def _known(model: JointModel, jobs: Sequence[Job], noise: Tensor) -> Known | None:
    """Return the known regions of all branches. A model with masked input also reads that nothing is known."""
    if not any(job.given for job in jobs) and not model.joint.has_masked_input:
        return None
    nothing = Region.nothing(noise[0, ..., : jobs[0].layout.width])
    regions = [[job.given.get(name, nothing) for job in jobs] for name in model.joint.names]
    return Known.of([Region.beside(own) for own in regions], noise)


@torch.inference_mode()
def denoise(
    denoiser: GuidedDenoiser,
    canvas: Tensor,
    layout: Layout,
    tiles: Sequence[list[Tile]],
    known: Known | None = None,
    *,
    tile_batch: TileBatch | None = None,
    before_step: BeforeStep | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Denoise a canvas to clean latents.

    Args:
        denoiser: predicts the noise or the velocity of tiles.
        canvas: (N, C, H, W) latents of the N branches at the run's first timestep, from `Schedule.start`.
        layout: of the canvas.
        tiles: of every step that is run, from `place_tiles`; they cover what is unknown.
        known: content to put back after every step.
        tile_batch: how many tiles go through the network at once; `None` takes all of a step.
        before_step: changes the canvas before each step.
        progress: called with the steps done and their number.

    Returns:
        (N, C, H, W) clean latents.
    """
    schedule = denoiser.schedule
    for step, placed in enumerate(tiles, schedule.begin):
        if before_step is not None:
            canvas = before_step(denoiser, canvas, step, placed)
        inputs = denoiser.inputs(canvas, step)
        prediction = merge(inputs, placed, layout, partial(denoiser, step), tile_batch)
        canvas = schedule.step(prediction, canvas, step)
        if known is not None:
            canvas = known.blend(canvas, schedule, step + 1)
        if progress:
            progress(step + 1 - schedule.begin, schedule.steps - schedule.begin)
    return canvas
