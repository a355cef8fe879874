"""Other methods' pipelines and feature networks, with random weights, as folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionDepth2ImgPipeline,
    StableDiffusionLDM3DPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    DPTConfig,
    DPTForDepthEstimation,
    DPTImageProcessor,
)

from jointnet_cli.evaluation.judge.classifier import SIZE, Judge, JudgeNet
from jointnet_cli.training.stages.from_scratch import learn_tokenizer

SIDE = 32
"""Pixels of a side of the pipelines' pictures."""


def save_ldm3d(base: Path, folder: Path, channels: int) -> Path:
    """LDM3D with a VAE of four or six channels, on the text encoder and UNet of a tiny pipeline."""
    parts = _parts(base)
    parts["vae"] = AutoencoderKL(**{**_vae(parts["vae"]), "in_channels": channels, "out_channels": channels})
    pipeline = StableDiffusionLDM3DPipeline(
        **parts, safety_checker=None, feature_extractor=None, image_encoder=None, requires_safety_checker=False
    )
    pipeline.save_pretrained(folder)
    return folder


def save_sd2_depth(base: Path, folder: Path) -> Path:
    """Stable Diffusion with a fifth input channel for depth, and the depth estimator that its folder has."""
    parts = _parts(base)
    wider = {**parts["unet"].config, "in_channels": parts["unet"].config.in_channels + 1}
    parts["unet"] = UNet2DConditionModel.from_config(wider)
    sizes = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 16}
    estimator = DPTForDepthEstimation(
        DPTConfig(
            **sizes, image_size=32, patch_size=8, backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8] * 4,
            fusion_hidden_size=8, is_hybrid=False,
        )
    )  # fmt: skip
    pipeline = StableDiffusionDepth2ImgPipeline(
        **parts, depth_estimator=estimator, feature_extractor=DPTImageProcessor()
    )
    pipeline.save_pretrained(folder)
    return folder


def save_controlnet(base: Path, folder: Path) -> tuple[Path, Path]:
    """A ControlNet whose output layers are random, and a pipeline that holds it."""
    parts = _parts(base)
    torch.manual_seed(3)
    control = ControlNetModel.from_unet(parts["unet"], conditioning_embedding_out_channels=(8, 16))
    for weights in [*control.controlnet_down_blocks.parameters(), *control.controlnet_mid_block.parameters()]:
        torch.nn.init.normal_(weights, std=0.2)
    torch.nn.init.normal_(control.controlnet_cond_embedding.conv_out.weight, std=0.2)
    control.save_pretrained(folder / "control")
    pipeline = StableDiffusionControlNetPipeline(
        **parts, controlnet=control, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    pipeline.save_pretrained(folder / "whole")
    return folder / "control", folder / "whole"


def save_judge(folder: Path) -> Path:
    """An untrained classifier with the figures of a trained one."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = JudgeNet().eval()
    held_out = {"biome": 0.9, "time": 0.8, "objects_found": 0.7, "colour": 0.6}
    Judge(net, {"side": SIZE, "held_out_images": 5, "held_out": held_out}).save(folder)
    return folder


def save_clip(folder: Path) -> Path:
    """CLIP of two small towers."""
    torch.manual_seed(0)
    tokenizer = learn_tokenizer(["a lake at night", "two boats"], 560, 12, folder)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = CLIPTextConfig(
        **sizes, vocab_size=len(tokenizer), max_position_embeddings=12, eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    vision = CLIPVisionConfig(**sizes, image_size=16, patch_size=8)
    CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8)).save_pretrained(
        folder
    )
    CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def _parts(base: Path) -> dict[str, Any]:
    """The parts that the pipelines share, with a scheduler that takes any number of steps."""
    pipeline = StableDiffusionPipeline.from_pretrained(base, safety_checker=None)
    return {
        "vae": pipeline.vae,
        "text_encoder": pipeline.text_encoder,
        "tokenizer": pipeline.tokenizer,
        "unet": pipeline.unet,
        "scheduler": DDIMScheduler.from_config(pipeline.scheduler.config),
    }


def _vae(vae: AutoencoderKL) -> dict[str, Any]:
    return {name: value for name, value in vae.config.items() if not name.startswith("_")}
