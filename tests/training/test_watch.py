"""The log, the trackers and the pictures of a run; what ends it early."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from jointnet_cli.training.checkpoints import Checkpoints
from jointnet_cli.training.failures import RunFailed, memory_faults_explained
from jointnet_cli.training.previews import MARGIN, Pictures
from jointnet_cli.training.run import train
from jointnet_cli.training.trainer import Trainer

from .conftest import SIZE, STEPS, Interrupt, Tiny, log_of, opened


def test_a_line_of_the_log(joint_run: Path) -> None:
    lines = log_of(joint_run)
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    for line in lines:
        assert line["loss"] == pytest.approx(line["rgb"] + line["depth"], abs=2e-6)
        assert line["gradient_norm"] > 0 and line["samples_per_second"] > 0 and line["learning_rate"] > 0


def test_one_growing_grid(tiny: Tiny, base_run: Path, tmp_path: Path) -> None:
    """A row at the start, every two steps and at the end; the picture and its map next to each other."""
    recipe = tiny("joint-depth", "train.preview_steps=2", "train.max_steps=3", "preview_prompts=['a hut', 'the sea']")
    with pytest.raises(KeyboardInterrupt):
        train(recipe, out=tmp_path, log=Interrupt(1))
    grid, row = tmp_path / "previews/progress.png", (4 * SIZE + MARGIN, SIZE)
    assert Image.open(grid).size == row
    first = (tmp_path / "previews/rows/000000000.png").stat().st_mtime_ns
    train(recipe, out=tmp_path)
    assert [path.name for path in sorted((tmp_path / "previews/rows").iterdir())] == [
        f"{step:09}.png" for step in (0, 2, 3)
    ]
    assert (tmp_path / "previews/rows/000000000.png").stat().st_mtime_ns == first
    assert [path.name for path in (tmp_path / "previews").glob("*.png")] == ["progress.png"]
    picture = np.asarray(Image.open(grid).convert("RGB"))
    assert picture.shape == (3 * SIZE, row[0], 3)
    last = np.asarray(Image.open(tmp_path / "previews/rows/000000003.png").convert("RGB"))
    assert (picture[2 * SIZE :, MARGIN:] == last).all()
    assert (picture[2 * SIZE :, :MARGIN] < 128).any(), "the step stands at the left"


def test_pictures_leave_the_training_as_it_was(tiny: Tiny, base_run: Path, tmp_path: Path) -> None:
    trainer = Trainer(opened(tiny("joint-depth"), tmp_path), tmp_path, lambda line: None)
    trainer.network.train()
    frozen = next(module for module in trainer.network.modules() if not any(module.children()))
    frozen.eval()
    before = [(module, module.training) for module in trainer.network.modules()]
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    preview = trainer.stage.preview

    def careless() -> Pictures | None:
        pictures = preview()
        random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002
        torch.manual_seed(1)
        return pictures

    trainer.stage.preview = careless  # type: ignore[method-assign]
    trainer._preview()
    assert all(module.training == mode for module, mode in before) and not frozen.training
    assert states == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002


def test_tensorboard_reads_the_losses_back(tiny: Tiny, tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = tmp_path / "watched"
    with pytest.raises(KeyboardInterrupt):
        train(tiny("vae", "train.max_steps=3", "train.trackers=['tensorboard']"), out=run, log=Interrupt(2))
    train(tiny("vae", "train.max_steps=3", "train.trackers=['tensorboard']"), out=run)
    events = event_accumulator.EventAccumulator(str(run / "tracking/watched"))
    events.Reload()
    lines = log_of(run)
    for name in ("loss", "reconstruction", "learning_rate", "gradient_norm"):
        scalars = events.Scalars(name)
        assert [scalar.step for scalar in scalars] == [1, 2, 3]
        assert [scalar.value for scalar in scalars] == pytest.approx([line[name] for line in lines], rel=1e-5)


@pytest.mark.parametrize(("minutes", "newest"), [("1e-9", 3), ("1e9", None)], ids=["checkpoint", "Ctrl-C"])
def test_nothing_is_saved_after_a_loss_that_is_no_number(
    tiny: Tiny, tmp_path: Path, minutes: str, newest: int | None
) -> None:
    """Noticed before a checkpoint is written, though no step is logged; the one before stays good."""
    quiet = ("train.log_every=1000", "train.preview_minutes=1e9", f"train.checkpoint_minutes={minutes}")
    stage = opened(tiny("vae", *quiet), tmp_path)
    loss, calls = stage.loss, 0

    def spoilt(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise KeyboardInterrupt
        return {name: value * (float("nan") if calls == 4 else 1) for name, value in loss(*given).items()}

    stage.loss = spoilt  # type: ignore[method-assign]
    with pytest.raises(RunFailed, match="no longer finite at step 4"):
        Trainer(stage, tmp_path, lambda line: None).fit()
    assert Checkpoints(tmp_path / "state", 2).newest() == newest


def test_an_exhausted_memory_says_what_to_change(tiny: Tiny) -> None:
    settings = tiny("vae").train
    with pytest.raises(RunFailed, match="out of memory") as caught, memory_faults_explained(settings):
        torch.empty(2**50)
    assert caught.value.hint is not None
    assert "train.batch_size=2 and train.accumulation=2" in caught.value.hint
    assert "gradient_checkpointing" in caught.value.hint
    with pytest.raises(RuntimeError, match="mine"), memory_faults_explained(settings):
        raise RuntimeError("mine")


def test_frozen_parameters_have_no_gradient_and_no_state(tiny: Tiny, base_run: Path, tmp_path: Path) -> None:
    trainer = Trainer(opened(tiny("joint-depth"), tmp_path), tmp_path, lambda line: None)
    trainer._step(trainer.stage.batches(trainer.sampler, 0))
    frozen = [parameter for parameter in trainer.network.parameters() if not parameter.requires_grad]
    held = {id(parameter) for group in trainer.optimizer.param_groups for parameter in group["params"]}
    assert frozen and all(parameter.grad is None and id(parameter) not in held for parameter in frozen)
    assert trainer.ema is not None and len(trainer.ema.shadow_params) == len(trainer.trained) == len(held)


def test_sources_are_closed(tiny: Tiny, tmp_path: Path) -> None:
    stage = opened(tiny("vae", "train.max_steps=2"), tmp_path)
    closed, starts, batches = [], [], stage.batches

    def watched(*given: Any) -> Any:
        starts.append(given)
        try:
            yield from batches(*given)
        finally:
            closed.append(True)

    stage.batches = watched  # type: ignore[method-assign]
    Trainer(stage, tmp_path, lambda line: None).fit()
    assert len(starts) == len(closed) == 1
