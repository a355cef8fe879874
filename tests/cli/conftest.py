"""Running commands as a user would: in a folder of their own, without the caller's settings."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from jointnet_cli.cli import app

Invoke = Callable[..., Result]
PROJECT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith("JOINTNET_"):
            monkeypatch.delenv(name)


@pytest.fixture
def invoke() -> Invoke:
    """Run a command in this process: `invoke("depth", "a.png", stdin="…", JOINTNET_SEED="3")`."""

    def run(*arguments: str, stdin: str | None = None, **environment: str) -> Result:
        return CliRunner(env={"COLUMNS": "200", **environment}).invoke(app, arguments, input=stdin)

    return run


@pytest.fixture
def start() -> Callable[..., subprocess.Popen[str]]:
    """Start a command as a process of its own."""

    def run(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "jointnet_cli", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(PROJECT), **environment},
        )

    return run


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a joint model with depth, as small as diffusers allows, with random weights: 32 pixels a side."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    from jointnet_cli.model.checkpoint import JointModel, save_model
    from jointnet_cli.model.joint import JointUNet
    from jointnet_cli.model.text import build_text_encoder, learn_tokenizer

    folder = tmp_path_factory.mktemp("untrained")
    torch.manual_seed(0)
    tokenizer = learn_tokenizer(["a lake", "snowy hills by the sea", "ocean reef"], 300, 16, folder / "tokenizer")
    text_encoder = build_text_encoder(tokenizer, width=16, layers=1, heads=2)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=32,
    )
    unets = {
        name: UNet2DConditionModel(
            sample_size=16,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=4,
            attention_head_dim=2,
            cross_attention_dim=16,
        )
        for name in ("rgb", "depth")
    }
    schedule = dict(DDIMScheduler(prediction_type="v_prediction").config)
    save_model(JointModel(JointUNet(unets), vae, text_encoder, tokenizer, schedule), folder)
    return folder


@pytest.fixture(scope="session")
def embedded() -> str:
    """The embedded model's name; skips where it has not been built."""
    if not Path(str(files("jointnet_cli"))).joinpath("model", "diorama", "model_index.json").exists():
        pytest.skip("the embedded model is not in this checkout")
    return "diorama"
