"""The engine: opens a model and turns tasks into results; every command calls it."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from jointnet_cli.errors import UserError
from jointnet_cli.modality import from_map, to_map, unit_normals
from jointnet_cli.model.checkpoint import JointModel, load_model
from jointnet_cli.model.folder import RGB, ModelFolder, find_model
from jointnet_cli.sampling.alignment import align_members
from jointnet_cli.sampling.decode import decode_canvas
from jointnet_cli.sampling.job import Job, run
from jointnet_cli.sampling.layout import Layout, generate_layout, panorama_layout, single_tile
from jointnet_cli.tasks import Depth, Generate, Panorama, Projection, Result, Sampling, Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Progress = Callable[[int, int], None]

NOMINAL_FOV = 60.0
"""Horizontal field of view stated for perspective images, degrees: the model does not know its camera."""
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass
class Engine:
    """A loaded model."""

    model: JointModel
    folder: ModelFolder
    name: str
    hash: str
    device: torch.device
    dtype: torch.dtype
    load_seconds: float

    @classmethod
    def open(cls, model: str = "diorama", *, device: str | None = None, dtype: str | None = None) -> Engine:
        """Load a model.

        Args:
            model: `diorama` (embedded) or a model folder.
            device: a torch device; the default is CUDA, else MPS, else the CPU.
            dtype: `float32`, `float16` or `bfloat16`; the default is float16 on CUDA, else float32.

        Raises:
            UserError: no such model, device or dtype.
        """
        started = time.perf_counter()
        folder = find_model(model)
        chosen = choose_device(device)
        kind = choose_dtype(dtype, chosen)
        loaded = load_model(folder, kind).to(chosen)
        return cls(loaded, folder, model, folder.weights_hash(), chosen, kind, time.perf_counter() - started)

    def describe(self) -> dict[str, Any]:
        """Facts about the model for reports."""
        joint = self.model.joint
        return {
            "model": self.name,
            "hash": self.hash,
            "branches": joint.names,
            "masked_input": joint.has_masked_input,
            "parameters": sum(parameter.numel() for parameter in joint.parameters()),
            "prediction": self.model.scheduler.get("prediction_type"),
            "size": self.folder.size,
            "device": str(self.device),
            "dtype": str(self.dtype).removeprefix("torch."),
            "defaults": self.folder.defaults,
            "provenance": self.model.provenance,
        }

    def generate(self, task: Generate, progress: Progress | None = None) -> Result:
        """An image and its dense maps from a prompt: nothing known, one tile.

        Raises:
            UserError: a size that is no multiple of the VAE's factor.
        """
        layout = generate_layout(task, self.folder)
        job = self._job(task.prompt, task.seed, layout, task.sampling, negative_prompt=task.negative_prompt)
        return self._finish(task, job, Projection("perspective", NOMINAL_FOV), progress)

    def panorama(self, task: Panorama, progress: Progress | None = None) -> Result:
        """A panorama: nothing known, tiles with random offsets and, in the first steps, the whole image (paper 4.2).

        Raises:
            UserError: sizes, stride or span that do not fit.
        """
        layout = panorama_layout(task, self.folder)
        job = self._job(task.prompt, task.seed, layout, task.sampling, negative_prompt=task.negative_prompt)
        return self._finish(task, job, Projection("cylindrical", task.span, task.wrap), progress)

    def depth(self, task: Depth, progress: Progress | None = None) -> Result:
        """The dense maps of a photo: RGB known, the rest unknown (paper 4.1).

        The photo is brought to the model's size, keeping its shape as nearly as the VAE's factor allows, and the maps back to
        the photo's own size.
        """
        self._require_maps()
        photo = torch.from_numpy(task.image).permute(2, 0, 1)[None]
        height, width = self._photo_size(*photo.shape[-2:])
        factor = self.model.factor
        resized = F.interpolate(photo, (height * factor, width * factor), mode="bicubic", antialias=True).clamp(0, 1)
        timings: dict[str, float] = {}
        given = {RGB: self._encode(to_map(resized, RGB), timings)[0]}
        layout = single_tile(height, width)
        steps = task.sampling.steps or self.folder.defaults.get("depth_steps")
        guidance = 1.0 if task.sampling.guidance is None else task.sampling.guidance
        sampling = replace(task.sampling, steps=steps, guidance=guidance)
        members = []
        for member in range(task.ensemble):
            job = self._job(task.prompt, task.seed + member, layout, sampling, given=given)
            latents = run(self.model, job, timings=timings, progress=_nth(progress, member, task.ensemble))
            members.append(self._decode(latents, timings, wrap=False))
        maps = {
            name: _resize(align_members([maps[name] for maps in members], name), photo.shape[-2:], name)
            for name in self.model.joint.names[1:]
        }
        arrays = {name: _to_array(values) for name, values in maps.items()}
        return Result(task, task.image, arrays, Projection("perspective", NOMINAL_FOV), self._settings(job), timings)

    def _finish(self, task: Task, job: Job, projection: Projection, progress: Progress | None) -> Result:
        timings: dict[str, float] = {}
        latents = run(self.model, job, timings=timings, progress=progress)
        values = self._decode(latents, timings, wrap=projection.wrap)
        arrays = {name: _to_array(value) for name, value in values.items()}
        image = arrays.pop(RGB)
        return Result(task, image, arrays, projection, self._settings(job), timings)

    def _job(self, prompt: str, seed: int, layout: Layout, sampling: Sampling, **more: Any) -> Job:
        defaults = self.folder.defaults
        return Job(
            prompt=prompt,
            seed=seed,
            layout=layout,
            scheduler=sampling.scheduler or defaults["scheduler"],
            steps=sampling.steps or defaults["steps"],
            guidance=defaults["guidance"] if sampling.guidance is None else sampling.guidance,
            tile_batch=sampling.tile_batch,
            **more,
        )

    def _settings(self, job: Job) -> dict[str, Any]:
        return {
            "model": self.name,
            "model_hash": self.hash,
            "branches": self.model.joint.names,
            "scheduler": job.scheduler,
            "steps": job.steps,
            "guidance": job.guidance,
            "width": job.layout.width * self.model.factor,
            "height": job.layout.height * self.model.factor,
            "layout": asdict(job.layout),
            "device": self.device.type,
            "dtype": str(self.dtype).removeprefix("torch."),
        }

    def _encode(self, maps: Tensor, timings: dict[str, float]) -> Tensor:
        started = time.perf_counter()
        with torch.inference_mode():
            latents = self.model.encode(maps)
        timings["encode"] = timings.get("encode", 0.0) + time.perf_counter() - started
        return latents

    def _decode(self, latents: Tensor, timings: dict[str, float], *, wrap: bool) -> dict[str, Tensor]:
        """Physical arrays of all branches, each with a leading axis of one."""
        started = time.perf_counter()
        maps = decode_canvas(self.model, latents, wrap=wrap)
        values = {name: from_map(maps[i : i + 1], name).cpu() for i, name in enumerate(self.model.joint.names)}
        timings["decode"] = timings.get("decode", 0.0) + time.perf_counter() - started
        return values

    def _photo_size(self, height: int, width: int) -> tuple[int, int]:
        """Latent size for a photo: about the model's area, the photo's shape, even sides."""
        area = self.model.window**2
        ratio = (width / height) ** 0.5
        side = area**0.5
        return max(2, 2 * round(side / ratio / 2)), max(2, 2 * round(side * ratio / 2))

    def _require_maps(self) -> None:
        if len(self.model.joint.names) < 2:
            raise UserError(f"{self.name} has only an RGB branch: it cannot predict depth or normals")


def choose_device(name: str | None) -> torch.device:
    """The device of that name, or the best one there is.

    Raises:
        UserError: torch does not know it or cannot use it.
    """
    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"device {name} cannot be used: {str(error).splitlines()[0]}", hint="--device cpu") from error
    return device


def choose_dtype(name: str | None, device: torch.device) -> torch.dtype:
    """The type of that name, or float16 on CUDA and float32 elsewhere.

    Raises:
        UserError: unknown name.
    """
    if name is None:
        return torch.float16 if device.type == "cuda" else torch.float32
    if name not in DTYPES:
        near = difflib.get_close_matches(name, DTYPES, n=1)
        raise UserError(f"unknown dtype {name}", hint=f"--dtype {near[0] if near else 'float32'}")
    return DTYPES[name]


def _resize(values: Tensor, size: torch.Size, modality: str) -> Tensor:
    """Bring a map (1, H, W) or (1, 3, H, W) to another size."""
    if modality == "depth":
        return F.interpolate(values[:, None], size, mode="bilinear", antialias=True)[:, 0]
    return unit_normals(F.interpolate(values, size, mode="bilinear", antialias=True))


def _to_array(values: Tensor) -> NDArray[np.float32]:
    """(1, 3, H, W) or (1, H, W) to (H, W, 3) or (H, W)."""
    values = values[0].permute(1, 2, 0) if values.ndim == 4 else values[0]
    return values.float().contiguous().numpy()


def _nth(progress: Progress | None, number: int, count: int) -> Progress | None:
    """Progress of one of several equal runs."""
    if progress is None:
        return None
    return lambda done, steps: progress(number * steps + done, count * steps)
