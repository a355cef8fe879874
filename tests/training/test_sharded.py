"""Weights spread over processes (FSDP): the same losses as in one process, and a run that goes on where it stopped."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from jointnet_cli.training.run import train

from .conftest import TINY, TRAIN, Tiny, log_of

SCRIPT = """
import sys
from accelerate import state
from accelerate.utils import DistributedType

state.PartialState(cpu=True)
# accelerate shards on accelerators alone: it is to take these processes for some.
state.PartialState._shared_state["distributed_type"] = DistributedType.MULTI_XPU

from jointnet_cli.cli import app

app(sys.argv[1:], prog_name="jointnet")
"""
SHARDED = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_TRANSFORMER_CLS_TO_WRAP": "BasicTransformerBlock,ResnetBlock2D",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
}
"""What `accelerate launch` makes of the configuration in docs/training.md."""
SETTINGS = [*TRAIN, *TINY["joint-depth"], "train.max_steps=3", "train.ema=0.9", "preview_prompts=[]"]


def train_sharded(script: Path, run: Path) -> None:
    settings = [*SETTINGS, "train.batch_size=2", "train.checkpoint_minutes=1e-9"]
    words = [word for setting in settings for word in ("--set", setting)]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launch, str(script), "train", "diorama/joint-depth", *words, "--out", str(run)],
        env={**os.environ, **SHARDED, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_sharded_runs(tiny: Tiny, base_run: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    alone, whole, resumed = (tmp_path / name for name in ("alone", "whole", "resumed"))
    train(tiny("joint-depth", *SETTINGS), out=alone)
    train_sharded(script, whole)
    shutil.copytree(whole, resumed)
    for done in ("state/000000003", "model"):
        shutil.rmtree(resumed / done)
    train_sharded(script, resumed)
    assert (whole / "state/000000003/pytorch_model_fsdp_0").is_dir()  # each process its part
    for line, other in zip(log_of(alone), log_of(whole), strict=True):
        for name in ("step", "rgb", "depth", "gradient_norm"):
            assert other[name] == pytest.approx(line[name], rel=1e-2 if line["step"] > 1 else 1e-4), name
    assert [line["loss"] for line in log_of(whole)] == [line["loss"] for line in log_of(resumed)]
    files = sorted(path.relative_to(whole) for path in (whole / "model").rglob("*.safetensors"))
    assert files == sorted(path.relative_to(resumed) for path in (resumed / "model").rglob("*.safetensors")) != []
    for file in files:
        before, after, reference = (load_file(run / file) for run in (whole, resumed, alone))
        assert all(torch.equal(before[key], after[key]) for key in before), file
        # The weights that train are 6e-5 from their average, which is what is exported.
        torch.testing.assert_close(before, reference, rtol=0, atol=1e-5)
