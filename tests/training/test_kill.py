"""`kill -9` at random moments: the run ends where one ends that was not killed, and its log has every step once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jointnet_cli.data.prepare import PrepareWorlds, prepare_worlds
from jointnet_cli.training.recipe import to_toml_record

from .conftest import SIZE, Tiny, log_of
from .test_resume import assert_same_end

KILLS = int(os.environ.get("JOINTNET_KILLS", "2"))
NURSERY = """
import json, os, random, shutil, signal, sys, time, torch
from pathlib import Path
from jointnet_cli.training.recipe import read_record
from jointnet_cli.training.run import train
import jointnet_cli.training.base, jointnet_cli.training.joint, jointnet_cli.training.trainer, jointnet_cli.training.sketch

torch.set_num_threads(1)
record, whole, killed, kills, seed = json.loads(sys.argv[1])
dice = random.Random(seed)

def start(out):
    child = os.fork()
    if child == 0:
        try:
            train(read_record(record), out=Path(out))
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child

began = time.monotonic()
assert os.waitpid(start(whole), 0)[1] == 0
seconds = time.monotonic() - began
died = 0
while died < kills:
    child = start(killed)
    time.sleep(dice.uniform(0.1, 0.9) * seconds)
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if status == signal.SIGKILL:
        died += 1
    else:
        assert status == 0
        shutil.rmtree(killed)
        seconds *= 0.9
assert os.waitpid(start(killed), 0)[1] == 0
"""
"""Trains once whole and once killed; where the end came before the kill, from the beginning, with a shorter fuse."""
STEPS = ["train.max_steps=16", "train.checkpoint_minutes=0.002", "train.preview_minutes=1e9"]
STREAM = ["data.cache=false", "data.workers=2", "data.shards=uneven", "data.shuffle=3"]
RECIPES: dict[str, tuple[str, list[str]]] = {
    "cached": ("joint-depth", STEPS),
    "streamed by two workers": ("joint-depth", [*STEPS, *STREAM]),
}
"""Name to a shipped recipe and its settings."""


@pytest.fixture(scope="module", autouse=True)
def _uneven(workspace: Path) -> None:
    """Shards of five, five and four samples, for steps of four."""
    prepare_worlds(PrepareWorlds(workspace / "uneven", count=14, size=SIZE, shard_size=5, workers=1))


@pytest.mark.parametrize("source", RECIPES)
def test_killed_at_random(tiny: Tiny, base_run: Path, tmp_path: Path, source: str) -> None:
    name, settings = RECIPES[source]
    record: dict[str, Any] = to_toml_record(tiny(name, *settings))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", NURSERY, json.dumps([record, str(whole), str(killed), KILLS, 5])],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert_same_end(whole, killed)
    steps = [line["step"] for line in log_of(killed)]
    assert steps == list(range(1, 17))
    assert not list(killed.rglob("*.partial"))
