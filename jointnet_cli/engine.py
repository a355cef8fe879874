"""The engine: opens a model and turns tasks into results; every command calls it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

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
from jointnet_cli.request import Maps, Request, check_arrays, image_size
from jointnet_cli.results import Result
from jointnet_cli.sampling.known import Region, encode_region
from jointnet_cli.sampling.layout import Layout, Tile, photo_layout
from jointnet_cli.sampling.loop import BeforeStep, Job, sample
from jointnet_cli.sampling.presets import Sampling
from jointnet_cli.sampling.syncdiffusion import SyncDiffusion
from jointnet_cli.scene.layers import add_layer
from jointnet_cli.scene.scene import Scene
from jointnet_cli.tasks import Depth, Generate, Inpaint, Panorama, Refine
from jointnet_cli.tensors import align_members, downsample_mask, from_map, resize, to_array, to_map, to_tensor, upsample

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LAYER_STRENGTH = 0.6
"""Strength of the inpainting behind the foreground of a scene."""


class _Decoded(NamedTuple):
    """A canvas that is denoised and decoded."""

    maps: dict[str, Tensor]
    """Physical arrays of all branches, each with a leading axis of one, on the CPU."""
    tiles: list[list[Tile]]
    """Of every step."""


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
        return cls(loaded, folder, model, base, folder.weights_hash(), chosen, kind)

    def run(self, task: Request, progress: PhaseProgress | None = None) -> Result:
        """Make what a request asks for, by the method of its name."""
        method: Callable[[Any, PhaseProgress | None], Result] = getattr(self, task.name)
        return method(task, progress)

    def generate(self, task: Generate, progress: PhaseProgress | None = None) -> Result:
        """Return an image and its dense maps from a prompt, one tile: nothing known, or some of the maps (paper 4.1).

        Raises:
            UserError: a size that is not a multiple of the VAE's factor, or a map that the model does not have.
        """
        self._require_maps(task.maps)
        check_arrays(task.maps, {})
        layout = task.layout(self.folder)
        timer = Timer(progress)
        maps = {name: to_tensor(values) for name, values in task.maps.items()}
        job = self._job(task, layout, given=self._known(maps, layout, timer))
        return self._finish(task, job, PERSPECTIVE, timer)

    def panorama(self, task: Panorama, progress: PhaseProgress | None = None) -> Result:
        """Make a panorama: nothing known, tiles at random offsets and, in the first steps, the whole image (paper 4.2).

        Raises:
            UserError: sizes, stride or span that do not fit.
        """
        job = self._job(task, task.layout(self.folder))
        before_step = SyncDiffusion(self.model) if task.method == "syncdiffusion" else None
        projection = Projection("cylindrical", task.span, task.wraps)
        return self._finish(task, job, projection, Timer(progress), before_step)

    def depth(self, task: Depth, progress: PhaseProgress | None = None) -> Result:
        """Return the dense maps of a photo: RGB known, the rest unknown (paper 4.1).

        The photo is brought to the size that the model works at, and the maps back to the photo's own.

        Raises:
            UserError: the model has no dense branch.
        """
        if len(self.model.joint.names) < 2:
            raise UserError(f"{self.name} has only an RGB branch: it cannot predict depth or normals")
        size = image_size(task.image)
        layout = task.layout(self.folder)
        timer = Timer(progress)
        members, job = self._predict({RGB: to_tensor(task.image)}, task, layout, timer)
        maps, uncertainty = {}, {}
        for name in members[0]:
            values, spread = align_members([member[name] for member in members], name)
            maps[name] = to_array(resize(values, size, name))
            if task.ensemble > 1:
                uncertainty[name] = to_array(resize(spread, size, "depth"))
        return Result(task, task.image, maps, PERSPECTIVE, self._settings(job, timer), timer, uncertainty)

    def inpaint(self, task: Inpaint, progress: PhaseProgress | None = None) -> Result:
        """Return a part of an image and of its maps made anew, each within its own mask (paper 4.1, A.3).

        Raises:
            UserError: a map that the model does not have.
        """
        self._require_maps({*task.maps, *task.masks} - {RGB})
        timer = Timer(progress)
        size, projection = image_size(task.image), task.projection or PERSPECTIVE
        if not task.masks:
            raise UserError(
                "the request has no masks", hint="masks={'rgb': …}, an array (H, W): above 0.5 is repainted"
            )
        check_arrays(task.maps, task.masks, size)
        layout = task.layout(self.folder)
        values = self._complete(task, layout, timer)
        same = task.masks.get(RGB, 0 * task.image[..., 0])
        masks = {name: to_tensor(task.masks.get(name, same))[0] for name in values}
        given, canvas = {}, self._pixels(layout)
        for name, value in values.items():
            small = to_map(resize(value, canvas, name), name)
            unknown = downsample_mask(masks[name], canvas)
            with timer.phase("encode"):
                given[name] = encode_region(self.model, small, unknown, wrap=projection.wrap)
        start = {name: region.latents for name, region in given.items()}
        job = self._job(task, layout, given=given, start=start, strength=task.strength)
        made = self._run(job, timer, wrap=projection.wrap).maps
        for name, value in values.items():
            repainted = resize(made[name], size, name)
            made[name] = torch.where(masks[name] > 0.5, repainted, value)
        return self._result(task, made, projection, job, timer)

    def refine(self, task: Refine, progress: PhaseProgress | None = None) -> Result:
        """Raise the resolution of an image and its maps: what is refined starts from itself under noise, the rest is known.

        SDEdit in tiles without the whole image (paper 5.2, A.5).

        Raises:
            UserError: a map that the model does not have, or something to refine that is not there.
        """
        self._require_maps(task.maps)
        check_arrays(task.maps, {})
        refined = self.model.joint.names if task.target == "both" else [RGB if task.target == "image" else task.target]
        self._require_maps([name for name in refined if name != RGB])
        projection = task.projection or PERSPECTIVE
        size, layout = task.size(self.folder), task.layout(self.folder)
        timer = Timer(progress)
        model_size = photo_layout(*image_size(task.image), self.folder, task.resolved(self.folder).tiles)
        values = self._complete(task, model_size, timer)
        start = {
            name: self._encode(upsample(value, self._pixels(layout), name), name, timer, wrap=projection.wrap)
            for name, value in values.items()
        }
        given = {name: Region.whole(latents) for name, latents in start.items() if name not in refined}
        job = self._job(task, layout, given=given, start=start, strength=task.strength)
        made = self._run(job, timer, wrap=projection.wrap).maps
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

        Inpainting starts from what is carried on into the mask, under noise (SDEdit): from noise alone a model repaints
        foreground objects that it can still partly see.

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

        def paint(
            image: NDArray[np.float32], disparity: NDArray[np.float32], mask: NDArray[np.bool_]
        ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            task = Inpaint(
                image=image,
                prompt="",
                seed=seed,
                masks={RGB: mask.astype("float32")},
                maps={**(maps or {}), "depth": disparity},
                strength=_LAYER_STRENGTH,
                projection=scene.projection if scene.projection.kind == "cylindrical" else None,
                sampling=sampling or Sampling(),
            )
            painted = self.inpaint(task, show)
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
            (member,), _ = self._predict(values, request, layout, timer)
            values |= {name: resize(member[name], image_size(task.image), name) for name in missing}
        return {name: values[name] for name in self.model.joint.names}

    def _predict(
        self, known: Mapping[str, Tensor], task: Depth, layout: Layout, timer: Timer
    ) -> tuple[list[dict[str, Tensor]], Job]:
        """Return the members of the ensemble and the job of the last one.

        Each member holds the maps that are not given, at the layout's size.
        """
        given = self._known(known, layout, timer)
        members = []
        for member in range(task.ensemble):
            job = self._job(replace(task, seed=task.seed + member), layout, given=given)
            made = self._run(job, timer.share(member, task.ensemble), wrap=layout.wrap).maps
            members.append({name: values for name, values in made.items() if name not in given})
        return members, job

    def _finish(
        self, task: Request, job: Job, projection: Projection, timer: Timer, before_step: BeforeStep | None = None
    ) -> Result:
        made = self._run(job, timer, wrap=projection.wrap, before_step=before_step)
        return replace(self._result(task, made.maps, projection, job, timer), tiles=made.tiles)

    def _run(self, job: Job, timer: Timer, *, wrap: bool = False, before_step: BeforeStep | None = None) -> _Decoded:
        """Denoise and decode a canvas, and count the evaluations."""
        sampled = sample(self.model, job, before_step=before_step, timer=timer)
        timer.count("evaluations", sampled.evaluations)
        with timer.phase("decode"):
            maps = decode_canvas(self.model, sampled.latents, wrap=wrap)
            arrays = {name: from_map(maps[i : i + 1], name).cpu() for i, name in enumerate(self.model.joint.names)}
        return _Decoded(arrays, sampled.tiles)

    def _result(self, task: Request, made: dict[str, Tensor], projection: Projection, job: Job, timer: Timer) -> Result:
        arrays = {name: to_array(value) for name, value in made.items()}
        image = arrays.pop(RGB)
        return Result(task, image, arrays, projection, self._settings(job, timer), timer)

    def _job(self, task: Request, layout: Layout, **more: Any) -> Job:
        return Job(
            prompt=task.prompt,
            negative_prompt=task.negative_prompt,
            seed=task.seed,
            layout=layout,
            sampling=task.resolved(self.folder),
            **more,
        )

    def _settings(self, job: Job, timer: Timer) -> dict[str, Any]:
        sampling = asdict(job.sampling)
        del sampling["tile_batch"]
        unknown = self.model.unknown_words(job.prompt, job.negative_prompt)
        cut = self.model.cut_words(job.prompt, job.negative_prompt)
        return {
            "model": self.name,
            **({} if self.base is None else {"base": self.base}),
            "model_hash": self.hash,
            "branches": self.model.joint.names,
            **sampling,
            "strength": job.strength,
            "evaluations": round(timer.counts["evaluations"], 1),
            "width": job.layout.width * self.model.factor,
            "height": job.layout.height * self.model.factor,
            "layout": asdict(job.layout),
            "device": self.device.type,
            "dtype": str(self.dtype).removeprefix("torch."),
            **({"unknown_words": unknown} if unknown else {}),
            **({"cut_words": cut} if cut else {}),
        }

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

    def _require_maps(self, names: Iterable[str]) -> None:
        """Raise `UserError` for a map without a branch."""
        for name in names:
            if name not in self.model.joint.names[1:]:
                have = ", ".join(self.model.joint.names[1:]) or "no dense map"
                raise UserError(f"{self.name} has no {name} branch", hint=f"it has {have}")
