"""Pictures of other methods, through diffusers' pipelines and their published weights."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jointnet_cli.devices import choose_device, choose_dtype
from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.methods import GeneratedImage, ImageRequest, Making
from jointnet_cli.model.text import ClipEncoder
from jointnet_cli.sampling.schedule import make_scheduler
from jointnet_cli.tensors import resize, to_tensor

SIDE_STEP = 64
"""Sides of a picture that is painted for a depth map are multiples of so many pixels, where the model's own are."""


@dataclass
class Pipeline:
    """A diffusers pipeline and how it samples."""

    source: str
    pipeline: Any
    steps: int
    guidance: float

    @classmethod
    def open(cls, name: str, source: str, how: Making, **parts: Any) -> Pipeline:
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
        """Pixels of a side of its pictures."""
        return int(self.pipeline.unet.config.sample_size * self.pipeline.vae_scale_factor)

    def sides(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of about the model's own area in the shape of a map."""
        scale = self.size / (height * width) ** 0.5
        step = min(SIDE_STEP, self.size)
        rounded = [max(step, round(side * scale / step) * step) for side in (height, width)]
        return rounded[0], rounded[1]

    def __call__(self, wish: ImageRequest, **inputs: Any) -> Any:
        """The pipeline's answer; noise is drawn on the CPU from the wish's seed.

        A prompt that the pipeline would cut is encoded in chunks, as for our models.
        """
        return self.pipeline(
            **self._text(wish.prompt),
            num_inference_steps=self.steps,
            guidance_scale=self.guidance,
            generator=torch.Generator().manual_seed(wish.seed),
            **inputs,
        )

    @torch.inference_mode()
    def _text(self, prompt: str) -> dict[str, Any]:
        """The pipeline's arguments for a prompt and the empty negative prompt."""
        text = ClipEncoder(self.pipeline.tokenizer, self.pipeline.text_encoder)
        if not text.beyond([prompt])[0]:
            return {"prompt": prompt}
        states = text([prompt, ""]).text
        return {"prompt_embeds": states[:1], "negative_prompt_embeds": states[1:]}

    def made(self, image: NDArray[np.float32], disparity: NDArray[np.float32] | None = None) -> GeneratedImage:
        """A picture (H, W, 3) in [0, 1] with the settings it was made with."""
        if not np.isfinite(image).all():
            raise UserError(f"{self.source} made a picture of values that are not finite", hint="--dtype float32")
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
        return GeneratedImage(image, disparity, settings)


class Ldm3d:
    """LDM3D (Stan et al., 2023): a picture and its disparity from a VAE of four or six channels."""

    def __init__(self, source: str, how: Making) -> None:
        unchecked = {"safety_checker": None, "requires_safety_checker": False}
        self._pipeline = Pipeline.open("StableDiffusionLDM3DPipeline", source, how, **unchecked)
        self._pipeline.pipeline.image_processor = Untouched()

    def __call__(self, wish: ImageRequest) -> GeneratedImage:
        decoded = self._pipeline(wish).rgb.float().cpu()
        values = ((decoded + 1) / 2).clamp(0, 1)[0]
        return self._pipeline.made(values[:3].permute(1, 2, 0).numpy(), unpack_disparity(values[3:]).numpy())


class Untouched:
    """In place of the pipeline's image processor: hands out what the VAE decoded, (B, 4 or 6, H, W) in [-1, 1]."""

    def postprocess(self, image: Tensor, output_type: str, do_denormalize: list[bool]) -> tuple[Tensor, Tensor]:
        return image, image


def unpack_disparity(channels: Tensor) -> Tensor:
    """The disparity (H, W) in [0, 1] that LDM3D's decoded channels hold, near = 1.

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
    return (upper * 256 + lower) / 65535


class Sd2Depth:
    """Stable Diffusion 2 with depth as a further input channel, from pure noise.

    The pipeline starts from a picture under noise. Its schedule leaves a trace of that picture even at full strength, so it is
    given a grey one.
    """

    def __init__(self, source: str, how: Making) -> None:
        without = {"depth_estimator": None, "feature_extractor": None}  # depth is given
        self._pipeline = Pipeline.open("StableDiffusionDepth2ImgPipeline", source, how, **without)

    def __call__(self, wish: ImageRequest) -> GeneratedImage:
        disparity = _sized(wish, self._pipeline)
        if disparity.max() - disparity.min() < 1e-6:
            raise UserError("a flat depth map cannot be brought to the range of this model")
        grey = torch.full((1, 3, *disparity.shape[-2:]), 0.5)
        painted = self._pipeline(wish, image=grey, depth_map=disparity, strength=1.0, output_type="np")
        return self._pipeline.made(painted.images[0])


class ControlNetDepth:
    """A ControlNet on depth: `CONTROLNET,BASE`, or a folder that holds the whole pipeline."""

    def __init__(self, source: str, how: Making) -> None:
        control, comma, base = source.partition(",")
        parts = {"controlnet": _load("ControlNetModel", control)} if comma else {}
        self._pipeline = Pipeline.open(
            "StableDiffusionControlNetPipeline", base or control, how, safety_checker=None, **parts
        )
        self._pipeline.source = source

    def __call__(self, wish: ImageRequest) -> GeneratedImage:
        disparity = _sized(wish, self._pipeline)
        picture = disparity[:, None].expand(-1, 3, -1, -1)
        height, width = disparity.shape[-2:]
        painted = self._pipeline(wish, image=picture, height=height, width=width, output_type="np")
        return self._pipeline.made(painted.images[0])


def _sized(wish: ImageRequest, pipeline: Pipeline) -> Tensor:
    """The given disparity (1, h, w) at the size that the pipeline paints."""
    assert wish.disparity is not None
    height, width = wish.disparity.shape
    return resize(to_tensor(wish.disparity), pipeline.sides(height, width), "depth")


def _load(name: str, source: str, **settings: Any) -> Any:
    import diffusers
    import transformers

    for library in (diffusers, transformers):  # their loading bars
        library.utils.logging.disable_progress_bar()
    try:
        return getattr(diffusers, name).from_pretrained(source, **settings)
    except (OSError, ValueError, RuntimeError, TypeError, AttributeError, ImportError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"no {name} in {source}: {reason}", hint="a folder that diffusers saved, or a hub id"
        ) from error
