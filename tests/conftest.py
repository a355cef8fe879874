"""Models with every part of a real one, as small as diffusers allows, with random weights: 32 pixels a side."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

    from jointnet_cli.model.checkpoint import JointModel

VARIANTS = {
    "base": (["rgb"], False),
    "depth": (["rgb", "depth"], False),
    "depth-normal": (["rgb", "depth", "normal"], False),
    "masked": (["rgb", "depth"], True),
}
"""Branches, and whether the model has masked input."""
CHANNELS, WINDOW, TEXT = 5, 16, 16
"""Latent channels, latent side and text width: none of them Stable Diffusion's."""


@pytest.fixture(scope="session", autouse=True)
def _listening_to_ctrl_c() -> None:
    """A shell starts background jobs deaf to SIGINT, and their children inherit it: tests of Ctrl-C must hear it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def tiny_unet() -> Callable[..., UNet2DConditionModel]:
    """`tiny_unet(seed, **changed settings)`: an untrained UNet of three levels, with its attention."""
    import torch
    from diffusers import UNet2DConditionModel

    def make(seed: int = 0, **settings: object) -> UNet2DConditionModel:
        torch.manual_seed(seed)
        defaults = {
            "sample_size": WINDOW,
            "in_channels": CHANNELS,
            "out_channels": CHANNELS,
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"),
            "block_out_channels": (8, 16, 16),
            "layers_per_block": 1,
            "norm_num_groups": 4,
            "attention_head_dim": 2,
            "cross_attention_dim": TEXT,
        }
        return UNet2DConditionModel(**{**defaults, **settings}).eval()

    return make


@pytest.fixture(scope="session")
def tiny_folder(
    tmp_path_factory: pytest.TempPathFactory, tiny_unet: Callable[..., UNet2DConditionModel]
) -> Callable[[str], Path]:
    """`tiny_folder(variant)`: the folder of one of `VARIANTS`, in float32, its exchange random. Not to be changed."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler

    from jointnet_cli.model.checkpoint import JointModel, save_model
    from jointnet_cli.model.joint import JointUNet
    from jointnet_cli.model.text import build_text_encoder, learn_tokenizer

    @cache
    def make(variant: str) -> Path:
        folder = tmp_path_factory.mktemp(variant)
        branches, masked_input = VARIANTS[variant]
        joint = JointUNet({name: tiny_unet(seed) for seed, name in enumerate(branches)}, masked_input=masked_input)
        torch.manual_seed(10)
        for weights in [*joint.exchange.parameters(), *joint.masked.parameters()]:
            torch.nn.init.normal_(weights, std=0.1)
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 8),
            latent_channels=CHANNELS,
            layers_per_block=1,
            norm_num_groups=4,
            sample_size=2 * WINDOW,
            scaling_factor=0.7,
        )
        tokenizer = learn_tokenizer(["a lake", "snowy hills by the sea", "ocean reef"], 600, 16, folder / "tokenizer")
        text_encoder = build_text_encoder(tokenizer, width=TEXT, layers=1, heads=2)
        schedule = DDIMScheduler(
            beta_schedule="scaled_linear",
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
            steps_offset=1,
            clip_sample=False,
        )
        model = JointModel(joint, vae, text_encoder, tokenizer, dict(schedule.config), provenance={"steps": 0})
        save_model(model, folder, torch.float32)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_model(tiny_folder: Callable[[str], Path]) -> Callable[[str], JointModel]:
    """`tiny_model(variant)`: that folder loaded, once for all tests. Not to be changed."""
    from jointnet_cli.model.checkpoint import load_model

    return cache(lambda variant: load_model(tiny_folder(variant)))
