"""The shipped recipes at tiny size on a few rendered worlds, each trained once a session."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.worlds import make_worlds
from torch import Tensor, nn

from jointnet_cli.training.batches import Batch
from jointnet_cli.training.determinism import RankSampler, SampleRNG
from jointnet_cli.training.inputs import find_inputs
from jointnet_cli.training.recipe import load_recipe
from jointnet_cli.training.run import open_stage, train
from jointnet_cli.training.runs import Log
from jointnet_cli.training.stages.stage import Stage

SIZE, FACTOR = 32, 4
VAE_STEPS, STEPS = 24, 4
TRAIN = ["train.batch_size=4", "train.warmup_steps=2", "train.log_every=1", "train.mixed_precision=no"]
TINY = {
    "vae": [
        *(f"train.max_steps={VAE_STEPS}", "train.learning_rate=4e-3", "data.crop=24", "data.limit=8"),
        *("vae.latent_channels=4", "vae.block_out_channels=[8, 8, 16]", "vae.norm_num_groups=4"),
    ],
    "base": [
        *(f"train.max_steps={STEPS}", "text_encoder.vocabulary=540", "text_encoder.tokens=16", "text_encoder.width=16"),
        *("text_encoder.layers=1", "text_encoder.heads=2", "unet.norm_num_groups=8", "unet.heads=2"),
        *("unet.block_out_channels=[16, 32]", "unet.attention=[false, true]", "preview_prompts=['a hut', 'the sea']"),
    ],
    "joint-depth": [f"train.max_steps={STEPS}", "preview_prompts=['a red hut']"],
    "inpaint": [
        *(f"train.max_steps={STEPS}", "preview_prompts=[]"),
        *("model=runs/joint-depth/model", "data.maps=['rgb', 'depth']"),
    ],
}


def log_of(run: Path) -> list[dict[str, Any]]:
    """The records of a run."""
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def losses_at(stage: Stage, network: nn.Module, step: int = 0) -> dict[str, Tensor]:
    """The losses of a step of one process."""
    batch = next(stage.batches(RankSampler(stage.settings.batch_size), step))
    return loss_of(stage, network, batch, stage.settings.seed)


def loss_of(stage: Stage, network: nn.Module, batch: Batch, seed: int) -> dict[str, Tensor]:
    """The losses of a batch, as the trainer computes them."""
    rng = SampleRNG(seed, batch.positions)
    return stage.loss(network, batch, stage.conditioning(batch, rng), rng)


def opened(recipe: Any, run: Path = Path("run"), log: Log = lambda line: None) -> Any:
    """The stage of a recipe, loaded."""
    return open_stage(recipe, find_inputs(recipe), run, log)


Tiny = Callable[..., Any]
"""`tiny("joint-depth", "train.max_steps=2", …)`: a shipped recipe at tiny size."""


class Interrupt:
    """A log that presses Ctrl-C, or fails, once the run has done so many steps."""

    def __init__(self, step: int, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.step, self.error = step, error

    def __call__(self, line: dict[str, Any]) -> None:
        if line.get("step") == self.step:
            raise self.error(f"after step {self.step}")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny networks are slower on many threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def empty_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The current folder of all tests here."""
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="session")
def workspace(empty_workspace: Path) -> Path:
    """The same folder with shards in `shards/worlds`, where the recipes expect them; runs go to `runs/`."""
    make_worlds(empty_workspace / "shards/worlds", 12, size=SIZE, shard_size=6)
    return empty_workspace


@pytest.fixture(autouse=True)
def _in_workspace(empty_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(empty_workspace)


@pytest.fixture(scope="session")
def tiny(workspace: Path) -> Tiny:
    def load(name: str, *overrides: str) -> Any:
        return load_recipe(f"diorama/{name}", [*TRAIN, *TINY[name], *overrides])

    return load


def finished(workspace: Path, tiny: Tiny, name: str) -> Path:
    """Run a tiny recipe in its default folder."""
    before = Path.cwd()
    os.chdir(workspace)
    try:
        train(tiny(name), out=Path("runs", name))
    finally:
        os.chdir(before)
    return workspace / "runs" / name


@pytest.fixture(scope="session")
def vae_run(workspace: Path, tiny: Tiny) -> Path:
    return finished(workspace, tiny, "vae")


@pytest.fixture(scope="session")
def base_run(workspace: Path, tiny: Tiny, vae_run: Path) -> Path:
    return finished(workspace, tiny, "base")


@pytest.fixture(scope="session")
def joint_run(workspace: Path, tiny: Tiny, base_run: Path) -> Path:
    return finished(workspace, tiny, "joint-depth")
