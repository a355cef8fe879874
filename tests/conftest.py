"""Models with every part of a real one, as small as diffusers allows, with random weights: 32 pixels a side."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer.testing

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTokenizer

    from jointnet_cli.model.checkpoint import JointModel

VARIANTS = {
    "base": (["rgb"], False),
    "depth": (["rgb", "depth"], False),
    "depth-normal": (["rgb", "depth", "normal"], False),
    "masked": (["rgb", "depth"], True),
    "whole": (["rgb", "depth", "normal"], True),
}
"""Branches, and whether the model has masked input."""
FAMILIES = ["sd1", "sd2", "sdxl", "if"]
"""Tiny pipelines in the style of Stable Diffusion 1 (epsilon) and 2 (velocity), SDXL and DeepFloyd-IF stage I."""
CAPTIONS = ["a lake", "snowy hills by the sea", "ocean reef"]
CHANNELS, WINDOW, TEXT = 5, 16, 16
"""Latent channels, latent side and text width: none of them Stable Diffusion's."""

typer.testing._get_command = cache(typer.testing._get_command)
"""Build the command line once: 0.2 s that every `CliRunner.invoke` would take again."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name == "proof":
            item.add_marker("proof")
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


@pytest.fixture(scope="session", autouse=True)
def _listening_to_ctrl_c() -> None:
    """A shell starts background jobs deaf to SIGINT, and their children inherit it: tests of Ctrl-C must hear it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def process_group() -> Iterator[None]:
    """What a launcher makes of a process, alone in its group."""
    from accelerate import PartialState
    from torch import distributed

    PartialState(cpu=True)  # which would keep the group for all tests to come, were it there first
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    if distributed.is_initialized():
        distributed.destroy_process_group()


@pytest.fixture
def small_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make clips of five frames and stereo images of 128 columns."""
    from jointnet_cli.scene import orbit, stereo

    for name in ("LOOP", "ROUND"):
        monkeypatch.setattr(orbit, name, 0.2)
    monkeypatch.setattr(orbit, "NARROWEST", 64)
    monkeypatch.setattr(stereo, "WIDEST", 128)


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
    from jointnet_cli.model.joint import JointNet
    from jointnet_cli.model.text import ClipEncoder
    from jointnet_cli.training.recipe import TextEncoder
    from jointnet_cli.training.stages.from_scratch import build_text_encoder, learn_tokenizer

    @cache
    def make(variant: str) -> Path:
        folder = tmp_path_factory.mktemp(variant)
        branches, masked_input = VARIANTS[variant]
        joint = JointNet({name: tiny_unet(seed) for seed, name in enumerate(branches)}, masked_input=masked_input)
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
        tokenizer = learn_tokenizer(CAPTIONS, 600, 16, folder / "tokenizer")
        text_encoder = build_text_encoder(TextEncoder(width=TEXT, layers=1, heads=2), tokenizer)
        schedule = DDIMScheduler(
            beta_schedule="scaled_linear",
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
            steps_offset=1,
            clip_sample=False,
        )
        text = ClipEncoder(tokenizer, text_encoder)
        model = JointModel(joint, vae, text, dict(schedule.config), provenance={"steps": 0})
        save_model(model, folder, torch.float32)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_model(tiny_folder: Callable[[str], Path]) -> Callable[[str], JointModel]:
    """`tiny_model(variant)`: that folder loaded, once for all tests. Not to be changed."""
    from jointnet_cli.model.checkpoint import load_model

    return cache(lambda variant: load_model(tiny_folder(variant)))


@pytest.fixture(scope="session")
def tiny_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`tiny_pipeline(family)`: the folder that diffusers' own pipeline of one of `FAMILIES` saves. Not to be changed.

    32 pixels a side; 2 pixels a latent pixel, but 1 for `if`.
    """

    @cache
    def make(family: str) -> Path:
        import torch

        folder = tmp_path_factory.mktemp(family)
        torch.manual_seed(0)
        _pipeline(family, folder).save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_joint(
    tmp_path_factory: pytest.TempPathFactory, tiny_pipeline: Callable[[str], Path]
) -> Callable[[str, Sequence[str]], Path]:
    """`tiny_joint(family, ["depth"])`: that pipeline extended to a joint model, its exchange random. Not to be changed."""
    import torch

    from jointnet_cli.model.checkpoint import load_model, save_model
    from jointnet_cli.model.joint import JointNet

    @cache
    def make(family: str, *modalities: str) -> Path:
        folder = tmp_path_factory.mktemp(f"joint-{family}")
        model = load_model(tiny_pipeline(family))
        model.joint = JointNet.extend(model.joint.backbone("rgb"), modalities)
        torch.manual_seed(10)
        for weights in model.joint.exchange.parameters():
            torch.nn.init.normal_(weights, std=0.05)
        save_model(model, folder, torch.float32)
        return folder

    return lambda family, modalities: make(family, *modalities)


def _pipeline(family: str, folder: Path) -> DiffusionPipeline:
    from helpers import tiny

    if family == "if":
        letters = sorted(set("".join(CAPTIONS)) - {" "})
        return tiny.deepfloyd_if([*letters, *(f"▁{word}" for caption in CAPTIONS for word in caption.split())])
    tokenizer = _clip_tokenizer(folder / "tokenizer")
    if family != "sdxl":
        return tiny.stable_diffusion(tokenizer, velocity=family == "sd2")
    second = _clip_tokenizer(folder / "tokenizer_2")
    second.pad_token = "!"
    return tiny.sdxl(tokenizer, second)


def _clip_tokenizer(folder: Path) -> CLIPTokenizer:
    from jointnet_cli.training.stages.from_scratch import learn_tokenizer

    return learn_tokenizer(CAPTIONS, 600, 16, folder)
