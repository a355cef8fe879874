"""Images by other methods, through diffusers' pipelines and their published weights."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jointnet_cli.devices import choose_device, choose_dtype
from jointnet_cli.errors import UserError, reading
from jointnet_cli.evaluation.baselines import CaptionedImages, FinishedImages
from jointnet_cli.evaluation.cases import Case
from jointnet_cli.evaluation.folders import files_digest
from jointnet_cli.evaluation.joint_methods import GenerateImage, GenerateWithBase, PaintForDepth, ReconstructImage
from jointnet_cli.evaluation.methods import Kinds, Method, MethodSettings, Prediction
from jointnet_cli.evaluation.runner import needed_by_all
from jointnet_cli.model.config import known_files
from jointnet_cli.model.hub_requests import WEIGHT_BYTES, limit_requests
from jointnet_cli.model.text import ClipEncoder
from jointnet_cli.model.weights import KINDS, without_progress_bars
from jointnet_cli.sampling.schedule import make_scheduler
from jointnet_cli.tensors import resize, to_tensor

SIDE_STEP = 64
"""Sides of an image that is painted for a depth map are multiples of so many pixels, where the model's own are."""


@dataclass
class Pipeline:
    """A diffusers pipeline and how it samples."""

    source: str
    pipeline: Any
    steps: int
    guidance: float

    @classmethod
    def open(cls, name: str, source: str, how: MethodSettings, **parts: Any) -> Pipeline:
        """Load one of diffusers' pipelines.

        Args:
            name: of its class.
            source: a folder or a hub id.
            how: what is `None` in it is the pipeline's own default.
            parts: components to use instead of the folder's.

        Raises:
            UserError: not there, or of another kind.
        """
        device = choose_device(how.device)
        dtype = choose_dtype(how.dtype, device)
        pipeline = _load(name, source, **parts).to(device, dtype)
        pipeline.set_progress_bar_config(disable=True)
        sampling = how.sampling
        if sampling.scheduler is not None:
            pipeline.scheduler = make_scheduler(sampling.scheduler, pipeline.scheduler.config)
        defaults = inspect.signature(pipeline.__call__).parameters
        steps = defaults["num_inference_steps"].default if sampling.steps is None else sampling.steps
        guidance = defaults["guidance_scale"].default if sampling.guidance is None else sampling.guidance
        return cls(source, pipeline, steps, guidance)

    @property
    def size(self) -> int:
        """Pixels of a side of its images."""
        return int(self.pipeline.unet.config.sample_size * self.pipeline.vae_scale_factor)

    def sides(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of about the model's own area in the shape of a map."""
        scale = self.size / (height * width) ** 0.5
        step = min(SIDE_STEP, self.size)
        rounded = [max(step, round(side * scale / step) * step) for side in (height, width)]
        return rounded[0], rounded[1]

    def __call__(self, case: Case, **inputs: Any) -> Any:
        """Return the output of the pipeline; noise is drawn on the CPU from the seed of the case.

        A prompt that the pipeline would cut is encoded in chunks, as for our models.
        """
        return self.pipeline(
            **self._text(case.prompt),
            num_inference_steps=self.steps,
            guidance_scale=self.guidance,
            generator=torch.Generator().manual_seed(case.seed),
            **inputs,
        )

    @torch.inference_mode()
    def _text(self, prompt: str) -> dict[str, Any]:
        """Return the pipeline's arguments for a prompt and the empty negative prompt."""
        text = ClipEncoder(self.pipeline.tokenizer, self.pipeline.text_encoder)
        if not text.beyond([prompt])[0]:
            return {"prompt": prompt}
        states = text([prompt, ""]).text
        return {"prompt_embeds": states[:1], "negative_prompt_embeds": states[1:]}

    def made(self, image: NDArray[np.float32], depth: NDArray[np.float32] | None = None) -> Prediction:
        """Return an image (H, W, 3) in [0, 1] with the settings it was made with."""
        if not np.isfinite(image).all():
            raise UserError(f"{self.source} made an image of values that are not finite", hint="--dtype float32")
        height, width = image.shape[:2]
        settings = {
            "model": self.source,
            "scheduler": type(self.pipeline.scheduler).__name__,
            "steps": self.steps,
            "guidance": self.guidance,
            "width": width,
            "height": height,
            "dtype": str(self.pipeline.unet.dtype).removeprefix("torch."),
        }
        return Prediction(image, depth, settings=settings)


class PipelineMethod(Method):
    """A method with a pipeline, which is loaded for the first case. Value: what its class says.

    Raises:
        UserError: no value.
    """

    kind = ""
    """What its spec begins with."""
    needs = "ID"
    """What its value is."""

    def __init__(self, value: str, settings: MethodSettings) -> None:
        if not value:
            raise UserError(f"{self.kind} needs a model: {self.kind}:{self.needs}", hint="a folder or a hub id")
        self.value, self.settings = value, settings

    @cached_property
    def identity(self) -> str:
        folders = [Path(part) for part in self.value.split(",") if Path(part).is_dir()]
        states = [files_digest(folder, filter(Path.is_file, folder.rglob("*"))) for folder in folders]
        return f"{' '.join(states)} {self.settings.sampling} {self.settings.dtype}"

    @cached_property
    def pipeline(self) -> Pipeline:
        """The pipeline in memory."""
        with needed_by_all():
            return self.load()

    def load(self) -> Pipeline:
        """Load the pipeline.

        Raises:
            UserError: it is missing or of another kind.
        """
        raise NotImplementedError


class Ldm3d(PipelineMethod):
    """LDM3D (Stan et al., 2023): an image and its disparity from a VAE of four or six channels."""

    kind = "ldm3d"

    def load(self) -> Pipeline:
        unchecked = {"safety_checker": None, "requires_safety_checker": False}
        pipeline = Pipeline.open("StableDiffusionLDM3DPipeline", self.value, self.settings, **unchecked)
        pipeline.pipeline.image_processor = Untouched()
        return pipeline

    def predict(self, case: Case) -> Prediction:
        decoded = self.pipeline(case).rgb.float().cpu()
        values = ((decoded + 1) / 2).clamp(0, 1)[0]
        return self.pipeline.made(values[:3].permute(1, 2, 0).numpy(), unpack_disparity(values[3:]).numpy())


class Untouched:
    """In place of the pipeline's image processor: hands out what the VAE decoded, (B, 4 or 6, H, W) in [-1, 1]."""

    def postprocess(self, image: Tensor, output_type: str, do_denormalize: list[bool]) -> tuple[Tensor, Tensor]:
        return image, image


def unpack_disparity(channels: Tensor) -> Tensor:
    """Return the disparity (H, W) in [0, 1] that LDM3D's decoded channels hold, near = 1.

    One channel is the disparity itself. Of three, all in [0, 1], the second holds the upper eight bits of sixteen and the
    third the lower eight.

    `VaeImageProcessorLDM3D` of diffusers 0.42.1 gets none of it right. Of three channels `rgblike_to_depthmap` computes
    upper * 256 + lower in int32 and casts the sum back to the type it was given: for `pil` that is uint8, which leaves the
    lower byte alone, and which Pillow then refuses as 16-bit grey; for `np` it is float, whose fractions int32 cut to 0 before
    they were combined. Of one channel `np` is right, but `pil` passes Pillow an array (H, W, 1), which it refuses too.
    """
    if len(channels) == 1:
        return channels[0]
    upper, lower = (channels[1:] * 255).round()
    depth: Tensor = (upper * 256 + lower) / 65535
    return depth


class Sd2Depth(PipelineMethod):
    """Stable Diffusion 2 with depth as a further input channel, from pure noise.

    The pipeline starts from an image under noise. Its schedule leaves a trace of that image even at full strength, so it is
    given a grey one.
    """

    kind = "sd2-depth"

    def load(self) -> Pipeline:
        without = {"depth_estimator": None, "feature_extractor": None}  # depth is given
        return Pipeline.open("StableDiffusionDepth2ImgPipeline", self.value, self.settings, **without)

    def predict(self, case: Case) -> Prediction:
        disparity = _sized(case, self.pipeline)
        if disparity.max() - disparity.min() < 1e-6:
            raise UserError("a flat depth map cannot be brought to the range of this model")
        grey = torch.full((1, 3, *disparity.shape[-2:]), 0.5)
        painted = self.pipeline(case, image=grey, depth_map=disparity, strength=1.0, output_type="np")
        return self.pipeline.made(painted.images[0])


class ControlNetDepth(PipelineMethod):
    """A ControlNet on depth: `CONTROLNET,BASE`, or a folder that holds the whole pipeline."""

    kind, needs = "controlnet-depth", "CONTROLNET,BASE"

    def load(self) -> Pipeline:
        control, comma, base = self.value.partition(",")
        parts = {"controlnet": _load("ControlNetModel", control)} if comma else {}
        name, whole = "StableDiffusionControlNetPipeline", base or control
        pipeline = Pipeline.open(name, whole, self.settings, safety_checker=None, **parts)
        pipeline.source = self.value
        return pipeline

    def predict(self, case: Case) -> Prediction:
        disparity = _sized(case, self.pipeline)
        control = disparity[:, None].expand(-1, 3, -1, -1)
        height, width = disparity.shape[-2:]
        painted = self.pipeline(case, image=control, height=height, width=width, output_type="np")
        return self.pipeline.made(painted.images[0])


def _sized(case: Case, pipeline: Pipeline) -> Tensor:
    """Return the true disparity (1, h, w) at the size that the pipeline paints."""
    depth = case.relative_depth
    height, width = depth.shape
    return resize(to_tensor(depth), pipeline.sides(height, width), "depth")


def _load(name: str, source: str, **settings: Any) -> Any:
    import diffusers

    kind = getattr(diffusers, name)
    hint = "give a folder that diffusers saved, or a hub id while the network works"
    whole = issubclass(kind, diffusers.DiffusionPipeline)
    with (
        reading(f"the {name} in {source}", hint),
        known_files(_folder(kind, source), None if whole else kind) as known,
        without_progress_bars(),
    ):
        return kind.from_pretrained(known, **settings)


def _folder(kind: Any, source: str) -> Path:
    """Return the folder of a pipeline or network, fetched from the hub where there is none of that name."""
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download

    with limit_requests(WEIGHT_BYTES):
        if hasattr(kind, "download"):
            return Path(kind.download(source))
        return Path(snapshot_download(source, allow_patterns=["config.json", *KINDS[0].patterns, *KINDS[2].patterns]))


GENERATION: Kinds = {
    "jointnet": GenerateImage,
    "base": GenerateWithBase,
    "autoencoder": ReconstructImage,
    "ldm3d": Ldm3d,
    "folder": CaptionedImages,
}
DEPTH_TO_IMAGE: Kinds = {
    "jointnet": PaintForDepth,
    "sd2-depth": Sd2Depth,
    "controlnet-depth": ControlNetDepth,
    "folder": FinishedImages,
}
