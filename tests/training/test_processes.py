"""A run does not depend on how its steps are divided into processes and micro-batches."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from helpers import forks
from safetensors.torch import load_file
from torch import distributed
from typer.testing import CliRunner

from jointnet_cli.cli import app
from jointnet_cli.errors import UserError
from jointnet_cli.training.run import train

from .conftest import TINY, TRAIN, Tiny, log_of

pytestmark = pytest.mark.slow

SMALL = ["train.optimizer=adamw", "train.max_steps=3", "train.preview_steps=2", "train.checkpoint_minutes=1e-9"]
"""Muon rounds to bfloat16: what another order of additions changes, it enlarges."""
SPLIT = ["train.batch_size=2", "train.accumulation=2"]


def assert_same_run(run: Path, other: Path) -> None:
    """The weights and losses, within what another order of additions changes.

    Adam's first step is the sign of the gradient: where that is about zero a rounding error turns it round.
    """
    before, after = (load_file(folder / "model/diffusion_pytorch_model.safetensors") for folder in (run, other))
    weights, same = (torch.cat([values[name].flatten() for name in before]) for values in (before, after))
    assert (same - weights).norm() < 1e-3 * weights.norm()
    for number, (line, other_line) in enumerate(zip(log_of(run), log_of(other), strict=True)):
        for name in ("step", "loss", "reconstruction", "learning_rate", "gradient_norm"):
            assert other_line[name] == pytest.approx(line[name], rel=1e-3 if number else 2e-6), name


@pytest.fixture(scope="module")
def whole(tiny: Tiny, workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process, one micro-batch of four samples."""
    before = Path.cwd()
    os.chdir(workspace)
    run = tmp_path_factory.mktemp("processes") / "whole"
    train(tiny("vae", *SMALL), out=run)
    os.chdir(before)
    return run


def test_micro_batches(tiny: Tiny, whole: Path, tmp_path: Path) -> None:
    train(tiny("vae", *SMALL, *SPLIT), out=tmp_path)
    assert_same_run(whole, tmp_path)
    last = log_of(tmp_path)[-1]
    assert last["loss"] == pytest.approx(last["reconstruction"] + last["kl"], abs=2e-6)


def test_two_processes(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = [*TRAIN, *TINY["vae"], *SMALL, "train.batch_size=1", "train.accumulation=2"]
    words = [word for setting in settings for word in ("--set", setting)]
    command = ["train", "diorama/vae", *words, "--out", str(run)]
    stdout, stderr = forks.launch(forks.jointnet, command, processes=2, folder=tmp_path / "logs")
    assert stdout.splitlines() == [str(run / "model")]  # only the main process prints
    assert stderr.count("step 3") == 1
    assert_same_run(whole, run)
    states = {path.name for path in (run / "state/000000003").iterdir()}
    assert {"random_states_0.pkl", "random_states_1.pkl", "model.safetensors", "manifest.json"} <= states
    assert len(list((run / "state").iterdir())) == 2


@pytest.mark.usefixtures("process_group", "tiny")
def test_a_process_leaves_the_others_when_the_model_is_there(tmp_path: Path) -> None:
    settings = [*TRAIN, *TINY["vae"], "train.max_steps=1"]
    words = [word for setting in settings for word in ("--set", setting)]
    for done in (False, True):
        ran = CliRunner().invoke(app, ["train", "diorama/vae", *words, "--out", str(tmp_path)])
        assert ran.exit_code == 0 and ran.stdout.splitlines() == [str(tmp_path / "model")], ran.stderr
        assert (f"{tmp_path} is trained already; a larger train.max_steps" in ran.stderr) == done
        assert not distributed.is_initialized()


def test_a_run_goes_on_in_another_division(tiny: Tiny, whole: Path, tmp_path: Path) -> None:
    train(tiny("vae", *SMALL, "train.max_steps=2"), out=tmp_path)
    with pytest.raises(UserError, match="4 samples each, now they would have 8") as caught:
        train(tiny("vae", *SMALL, "train.accumulation=2"), out=tmp_path)
    assert caught.value.hint is not None and "train.batch_size" in caught.value.hint
    train(tiny("vae", *SMALL, *SPLIT), out=tmp_path)
    assert [line["step"] for line in log_of(tmp_path)] == [1, 2, 3]


def test_float16_wants_a_gpu(tiny: Tiny, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(UserError, match="fp16"):
        train(tiny("vae", "train.mixed_precision=fp16"), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
