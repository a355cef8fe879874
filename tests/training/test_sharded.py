"""Weights spread over processes (FSDP): the same losses as in one process, and a run that goes on where it stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers import forks
from safetensors.torch import load_file

from jointnet_cli.training.recipe import to_toml_record
from jointnet_cli.training.run import train

from .conftest import TINY, TRAIN, Tiny, log_of

pytestmark = pytest.mark.slow

SHARDED = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_TRANSFORMER_CLS_TO_WRAP": "BasicTransformerBlock,ResnetBlock2D",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
}
"""What `accelerate launch` makes of the configuration in docs/train.md."""
SETTINGS = [*TRAIN, *TINY["joint-depth"], "train.max_steps=2", "train.ema=0.9", "preview_prompts=[]"]


def test_sharded_runs(tiny: Tiny, base_run: Path, tmp_path: Path) -> None:
    alone, whole, resumed = (tmp_path / name for name in ("alone", "whole", "resumed"))
    train(tiny("joint-depth", *SETTINGS), out=alone)
    recipe = tiny("joint-depth", *SETTINGS, "train.batch_size=2", "train.checkpoint_minutes=1e-9")
    arguments = to_toml_record(recipe), SHARDED, whole, resumed, 1
    forks.launch(forks.train_sharded, *arguments, processes=2, folder=tmp_path / "logs")
    assert (whole / "state/000000002/pytorch_model_fsdp_0").is_dir()  # each process its part
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
