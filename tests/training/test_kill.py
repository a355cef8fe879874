"""`kill -9` at random moments: the run ends where one ends that was not killed, and its log has every step once."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from helpers import forks
from helpers.worlds import make_worlds

from jointnet_cli.training.recipe import to_toml_record
from jointnet_cli.training.run import train

from .conftest import SIZE, Tiny, log_of
from .test_resume import assert_same_end

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("JOINTNET_KILLS", "1"))
STEPS = ["train.max_steps=8", "train.checkpoint_minutes=0.002", "preview_prompts=[]"]
STREAM = ["data.cache=false", "data.workers=2", "data.shards=uneven", "data.shuffle=3"]
RECIPES: dict[str, tuple[str, list[str]]] = {
    "cached": ("joint-depth", STEPS),
    "streamed by two workers": ("joint-depth", [*STEPS, *STREAM]),
}
"""Name to a shipped recipe and its settings."""


@pytest.fixture(scope="module", autouse=True)
def _uneven(workspace: Path) -> None:
    """Shards of five, five and four samples, for steps of four."""
    make_worlds(workspace / "uneven", 14, size=SIZE, shard_size=5)


@pytest.mark.parametrize("source", RECIPES)
def test_killed_at_random(tiny: Tiny, base_run: Path, tmp_path: Path, source: str) -> None:
    name, settings = RECIPES[source]
    recipe = tiny(name, *settings)
    whole, killed, log, dice = tmp_path / "whole", tmp_path / "killed", tmp_path / "log", random.Random(5)
    started = time.monotonic()
    train(recipe, out=whole)
    seconds, died = time.monotonic() - started, 0
    while died < KILLS:
        process = forks.start(forks.train_record, to_toml_record(recipe), killed, log=log)
        process.join(dice.uniform(0.1, 0.9) * seconds)
        process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            died += 1
        else:  # it ended before the kill: begin again and wait a shorter time
            assert process.exitcode == 0, log.read_text()
            shutil.rmtree(killed)
            seconds *= 0.9
    train(recipe, out=killed)
    assert_same_end(whole, killed)
    steps = [line["step"] for line in log_of(killed)]
    assert steps == list(range(1, 9))
    assert not list(killed.rglob("*.partial"))
