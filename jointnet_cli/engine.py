"""The engine: opens a model and turns tasks into results; every command calls it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from jointnet_cli.devices import choose_device, choose_dtype
from jointnet_cli.errors import UserError
from jointnet_cli.modality import RGB
from jointnet_cli.model.checkpoint import JointModel, load_model
from jointnet_cli.model.folder import ModelFolder
from jointnet_cli.model.hub import find_model
from jointnet_cli.model.vae import decode_canvas, encode_canvas
from jointnet_cli.progress import PhaseProgress, Timer
from jointnet_cli.projection import PERSPECTIVE, Projection
from jointnet_cli.record import run_settings
from jointnet_cli.request import Maps, Request, check_arrays, image_size, require_branches
from jointnet_cli.results import Result
from jointnet_cli.sampling.known import Region, encode_region
from jointnet_cli.sampling.layout import Layout, Tile, inpaint_layout
from jointnet_cli.sampling.loop import Job, sample_all
from jointnet_cli.sampling.presets import Sampling
from jointnet_cli.sampling.syncdiffusion import SyncDiffusion
from jointnet_cli.sampling.tiles import TileBatch
from jointnet_cli.scene.layers import Floats, Mask, add_layer
from jointnet_cli.scene.scene import Scene
from jointnet_cli.tasks import Depth, Generate, Inpaint, Panorama, Refine
from jointnet_cli.tensors import align_members, flip, from_map, resize, to_array, to_map, to_tensor, upsample


class _Decoded(NamedTuple):
    """A canvas that is denoised and decoded."""

    maps: dict[str, Tensor]
    """Physical arrays of branches, each with a leading axis of one, on the CPU."""
    tiles: list[list[Tile]]
    """Of every step."""
    evaluations: float


@dataclass
class Engine:
    """A loaded model."""

    model: JointModel
    folder: ModelFolder
    name: str
    base: str | None
    hash: str
    device: torch.device
    dtype: torch.dtype

    @classmethod
    def open(
        cls,
        model: str = "diorama",
        *,
        base: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        folder: ModelFolder | None = None,
    ) -> Engine:
        """Load a model.

        Args:
            model: whatever `find_model` finds: `diorama` (embedded), a folder, a zip, a name on the hub.
            base: where a model in the published layout has its base from.
            device: a torch device; the default is CUDA, else MPS, else the CPU.
            dtype: `float32`, `float16` or `bfloat16`; the default is float16 on CUDA, else float32.
            folder: the folder of `model`, where `find_model` has found it already.

        Raises:
            UserError: no such model, device or dtype.
        """
        folder = folder or find_model(model, base)
        chosen = choose_device(device)
        kind = choose_dtype(dtype, chosen)
        loaded = load_model(folder, kind).to(chosen)
        loaded.joint.requires_grad_(False)
        if loaded.vae is not None and chosen.type == "cpu":
            loaded.vae.to(memory_format=torch.channels_last)  # 1.7 times as fast where it is small; SD 2.1's 1.05
        return cls(loaded, folder, model, base if folder.published else None, folder.weights_hash(), chosen, kind)

    def run(self, task: Request, progress: PhaseProgress | None = None) -> Result:
        """Make what a request asks for."""
        return self.run_all([task], progress)[0]

    def run_all(self, tasks: Sequence[Any], progress: PhaseProgress | None = None) -> list[Result]:
        """Make what requests of one kind ask for, in their order.

        Images and photos that are one tile of equal size, with equal settings, go through the network together. Seconds are
        shared equally among the results.
        """
        if isinstance(tasks[0], Generate):
            return self._generate_all(tasks, progress)
        if isinstance(tasks[0], Depth):
            return self._depth_all(tasks, progress)
        return [getattr(self, task.name)(task, progress) for task in tasks]

    def shares(self, task: Request) -> bool:
        """Return whether a request may go through the network together with others.

        Photos may where `tile_batch` is stated: else a photo gives the same bytes beside any others, to the last digit.
        """
        return isinstance(task, Generate) or (isinstance(task, Depth) and task.sampling.tile_batch is not None)

    def at_once(self, task: Request) -> int:
        """Return how many requests like one `run_all` should get: as many as the device can take, where they are one tile."""
        layout = task.layout(self.folder)
        if not layout.single or not self.shares(task):
            return 1
        tiles = TileBatch(task.sampling.tile_batch).of(layout.at(0, 1, (0, 0)), self.device)
        return max(1, tiles // getattr(task, "ensemble", 1))

    def generate(self, task: Generate, progress: PhaseProgress | None = None) -> Result:
        """Return an image and its dense maps from a prompt, one tile: nothing known, or some of the maps (paper 4.1).

        Raises:
            UserError: a size that is not a multiple of the VAE's factor, or a map that the model does not have.
        """
        return self._generate_all([task], progress)[0]

    def _generate_all(self, tasks: Sequence[Generate], progress: PhaseProgress | None) -> list[Result]:
        timer, jobs = Timer(progress), []
        for task in tasks:
            require_branches(task.maps, self.folder)
            check_arrays(task.maps, {})
            layout = task.layout(self.folder)
            maps = {name: to_tensor(values) for name, values in task.maps.items()}
            jobs.append(self._job(task, layout, given=self._known(maps, layout, timer)))
        results = []
        for task, job, made in zip(tasks, jobs, self._run_all(jobs, timer), strict=True):
            own = timer.part(len(tasks), evaluations=made.evaluations)
            results.append(replace(self._result(task, made.maps, PERSPECTIVE, job, own), tiles=made.tiles))
        return results

    def panorama(self, task: Panorama, progress: PhaseProgress | None = None) -> Result:
        """Make a panorama: nothing known, tiles at random offsets and, in the first steps, the whole image (paper 4.2).

        Raises:
            UserError: sizes, stride or span that do not fit.
        """
        timer = Timer(progress)
        before_step = SyncDiffusion(self.model) if task.method == "syncdiffusion" else None
        job = self._job(task, task.layout(self.folder), before_step=before_step)
        projection = Projection("cylindrical", task.span, task.wraps)
        made = self._run(job, timer, wrap=task.wraps)
        return replace(self._result(task, made.maps, projection, job, timer), tiles=made.tiles)

    def depth(self, task: Depth, progress: PhaseProgress | None = None) -> Result:
        """Return the dense maps of a photo: RGB known, the rest unknown (paper 4.1).

        The photo is brought to the size that the model works at, and the maps back to the photo's own.

        Raises:
            UserError: the model has no dense branch.
        """
        return self._depth_all([task], progress)[0]

    def _depth_all(self, tasks: Sequence[Depth], progress: PhaseProgress | None) -> list[Result]:
        if len(self.model.joint.names) < 2:
            raise UserError(f"{self.name} has only an RGB branch: it cannot predict depth or normals")
        timer, ensembles = Timer(progress), []
        for task in tasks:
            ensembles.append(self._predictions({RGB: to_tensor(task.image)}, task, task.layout(self.folder), timer))
        predicted = self.model.joint.names[1:]
        made = iter(self._run_all([job for jobs in ensembles for job in jobs], timer, names=predicted))
        results = []
        for task, jobs in zip(tasks, ensembles, strict=True):
            size, members = image_size(task.image), list(islice(made, len(jobs)))
            maps, uncertainty = {}, {}
            for name in predicted:
                seen = [flip(one.maps[name], name) if k % 2 else one.maps[name] for k, one in enumerate(members)]
                values, spread = align_members(seen, name)
                maps[name] = to_array(resize(values, size, name))
                if task.ensemble > 1:
                    uncertainty[name] = to_array(resize(spread, size, "depth"))
            own = timer.part(len(tasks), evaluations=sum(member.evaluations for member in members))
            settings = run_settings(self, jobs[-1], own)
            projection = task.projection or PERSPECTIVE
            results.append(Result(task, task.image, maps, projection, settings, own, uncertainty))
        return results

    def inpaint(self, task: Inpaint, progress: PhaseProgress | None = None) -> Result:
        """Return a part of an image and of its maps made anew, each within its own mask (paper 4.1, A.3).

        Raises:
            UserError: a map that the model does not have.
        """
        return self._inpaint(task, progress, self.model.joint.names)

    def _inpaint(self, task: Inpaint, progress: PhaseProgress | None, names: Sequence[str]) -> Result:
        require_branches({*task.maps, *task.masks} - {RGB}, self.folder)
        size, projection = image_size(task.image), task.projection or PERSPECTIVE
        if not task.masks:
            raise UserError("the request has no masks", "masks={'rgb': …}, an array (H, W): above 0.5 is repainted")
        check_arrays(task.maps, task.masks, size)
        timer, layout = Timer(progress), task.layout(self.folder)
        values = self._complete(task, layout, timer)
        same = task.masks.get(RGB, 0 * task.image[..., 0])
        masks = {name: to_tensor(task.masks.get(name, same))[0] for name in values}
        given, canvas = {}, self._pixels(layout)
        for name, value in values.items():
            small = to_map(resize(value, canvas, name), name)
            with timer.phase("encode"):
                given[name] = encode_region(self.model, small, masks[name], wrap=projection.wrap)
        start = {name: region.latents for name, region in given.items()}
        job = self._job(task, layout, given=given, start=start, strength=task.strength)
        made = self._run(job, timer, names=names).maps
        for name in names:
            made[name] = torch.where(masks[name] > 0.5, resize(made[name], size, name), values[name])
        return self._result(task, made, projection, job, timer)

    def refine(self, task: Refine, progress: PhaseProgress | None = None) -> Result:
        """Raise the resolution of an image and its maps: what is refined starts from itself under noise, the rest is known.

        SDEdit in tiles without the whole image (paper 5.2, A.5).

        Raises:
            UserError: a map that the model does not have, or something to refine that is not there.
        """
        require_branches(task.maps, self.folder)
        check_arrays(task.maps, {})
        refined = self.model.joint.names if task.target == "both" else [RGB if task.target == "image" else task.target]
        require_branches([name for name in refined if name != RGB], self.folder)
        projection = task.projection or PERSPECTIVE
        size, layout = task.size(self.folder), task.layout(self.folder)
        timer = Timer(progress)
        tiling = task.resolved(self.folder).tiles
        model_size = inpaint_layout(*image_size(task.image), self.folder, tiling, None, task.projection)
        values = self._complete(task, model_size, timer)
        start = {
            name: self._encode(upsample(value, self._pixels(layout), name), name, timer, wrap=projection.wrap)
            for name, value in values.items()
        }
        given = {name: Region.whole(latents) for name, latents in start.items() if name not in refined}
        job = self._job(task, layout, given=given, start=start, strength=task.strength)
        made = self._run(job, timer).maps
        for name, value in values.items():
            made[name] = resize(made[name], size, name) if name in refined else upsample(value, size, name)
        return self._result(task, made, projection, job, timer)

    def add_layer(
        self,
        scene: Scene,
        *,
        seed: int,
        maps: Maps | None = None,
        sampling: Sampling | None = None,
        timer: Timer | None = None,
    ) -> Scene:
        """Add a second layer behind the foreground of a scene, painted by inpainting.

        Args:
            scene: of one layer.
            seed: of the noise.
            maps: the image's further dense maps, such as normals; those that are missing are predicted.
            sampling: how to denoise.
            timer: takes the seconds as its phase `layer`, and the count `layer_evaluations`.
        """
        timer = timer or Timer()

        def show(phase: str, done: int, total: int) -> None:
            if phase == "denoise" and total:
                advance(done, total)

        def paint(image: Floats, disparity: Floats, mask: Mask) -> tuple[Floats, Floats]:
            arrays, hidden = {**(maps or {}), "depth": disparity}, mask.astype("float32")
            task = Inpaint.behind(scene.projection, image, arrays, hidden, seed, sampling)
            painted = self._inpaint(task, show, [RGB, "depth"])
            timer.count("layer_evaluations", painted.settings["evaluations"])
            return painted.image, painted.maps["depth"]

        with timer.phase("layer") as advance:
            return add_layer(scene, paint)

    def _complete(self, task: Inpaint | Refine, layout: Layout, timer: Timer) -> dict[str, Tensor]:
        """Physical arrays of all branches, in their order: the image, its given maps, and predictions of missing ones."""
        values = {RGB: to_tensor(task.image), **{name: to_tensor(task.maps[name]) for name in task.maps}}
        if missing := [name for name in self.model.joint.names if name not in values]:
            own = "depth_steps" in self.folder.defaults
            sampling = replace(task.sampling, guidance=None, steps=None if own else task.sampling.steps)
            request = Depth(image=task.image, seed=task.seed, sampling=sampling)
            (job,) = self._predictions(values, request, layout, timer)
            made = self._run(job, timer, names=missing).maps
            values |= {name: resize(made[name], image_size(task.image), name) for name in missing}
        return {name: values[name] for name in self.model.joint.names}

    def _predictions(self, known: Mapping[str, Tensor], task: Depth, layout: Layout, timer: Timer) -> list[Job]:
        """Return the jobs of an ensemble that predicts the maps that are not known; every second one sees them mirrored."""
        views = [known, {name: flip(values, name) for name, values in known.items()}] if task.ensemble > 1 else [known]
        given = [self._known(view, layout, timer) for view in views]
        seeds = range(task.seed, task.seed + task.ensemble)
        return [self._job(replace(task, seed=seed), layout, given=given[k % 2]) for k, seed in enumerate(seeds)]

    def _run(self, job: Job, timer: Timer, **more: Any) -> _Decoded:
        """Denoise and decode a canvas, and count the evaluations."""
        (made,) = self._run_all([job], timer, **more)
        timer.count("evaluations", made.evaluations)
        return made

    def _run_all(
        self, jobs: Sequence[Job], timer: Timer, *, names: Sequence[str] | None = None, wrap: bool = False
    ) -> list[_Decoded]:
        """Denoise canvases and decode the branches of these names, by default of all; `wrap` closes also those in one tile."""
        names = names or self.model.joint.names
        rows = [self.model.joint.names.index(name) for name in names]
        sampled = sample_all(self.model, jobs, timer=timer)
        made = []
        with timer.phase("decode"):
            for job, one in zip(jobs, sampled, strict=True):
                maps = decode_canvas(self.model, one.latents[rows], wrap=wrap or job.layout.wrap)
                arrays = {name: from_map(maps[i : i + 1], name).cpu() for i, name in enumerate(names)}
                made.append(_Decoded(arrays, one.tiles, one.evaluations))
        return made

    def _result(self, task: Request, made: dict[str, Tensor], projection: Projection, job: Job, timer: Timer) -> Result:
        arrays = {name: to_array(value) for name, value in made.items()}
        image = arrays.pop(RGB)
        return Result(task, image, arrays, projection, run_settings(self, job, timer), timer)

    def _job(self, task: Request, layout: Layout, **more: Any) -> Job:
        return Job(
            prompt=task.prompt,
            negative_prompt=task.negative_prompt,
            seed=task.seed,
            layout=layout,
            sampling=task.resolved(self.folder),
            **more,
        )

    def _known(self, arrays: Mapping[str, Tensor], layout: Layout, timer: Timer) -> dict[str, Region]:
        """Return physical arrays given whole, at the layout's size."""
        size = self._pixels(layout)
        return {
            name: Region.whole(self._encode(resize(values, size, name), name, timer, wrap=layout.wrap))
            for name, values in arrays.items()
        }

    def _encode(self, values: Tensor, modality: str, timer: Timer, *, wrap: bool = False) -> Tensor:
        """Latents (C, h, w) of a physical array."""
        with timer.phase("encode"):
            return encode_canvas(self.model, to_map(values, modality), wrap=wrap)

    def _pixels(self, layout: Layout) -> tuple[int, int]:
        return layout.height * self.model.factor, layout.width * self.model.factor
