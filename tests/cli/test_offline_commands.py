"""`prepare`, `train` and `doctor` end to end at tiny size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

TINY = ["--count", "2", "--size", "32", "--workers", "1", "--out", "shards"]


def test_prepare_prints_its_shards_and_resumes(invoke):
    first = invoke("prepare", "worlds", *TINY)
    assert first.exit_code == 0, first.stderr
    assert first.stdout == "shards/00000.tar\n"
    assert Path("shards/00000.tar").stat().st_size > 1000
    assert "2 scenes written, 0 already present" in first.stderr

    again = invoke("prepare", "worlds", *TINY, "--json", "--quiet")
    report = json.loads(again.stdout)
    assert (report["written"], report["skipped"], report["shards"]) == (0, 2, ["shards/00000.tar"])
    assert again.stderr == ""


def test_workers_share_the_shards_of_worlds(invoke):
    flags = ["--count", "5", "--size", "16", "--shard-size", "2", "--workers", "1", "-q"]
    assert invoke("prepare", "worlds", *flags, "--out", "whole").exit_code == 0
    plan = invoke("prepare", "worlds", *flags, "--out", "parts", "--worker", "2/2", "--dry-run").stdout
    assert plan == "parts/00001.tar: 2 scenes of 16x16, seeds 2 to 3\n"
    second = invoke("prepare", "worlds", *flags, "--out", "parts", "--worker", "2/2")
    assert second.stdout == "parts/00001.tar\n"
    first = invoke("prepare", "worlds", *flags, "--out", "parts", "--worker", "1/2")
    assert first.stdout == "parts/00000.tar\nparts/00002.tar\n"
    for number in range(3):
        name = f"{number:05}.tar"
        assert Path("parts", name).read_bytes() == Path("whole", name).read_bytes()


def test_worlds_take_settings_of_a_recipe(invoke):
    Path("small.toml").write_text("image.size = 16\nshards.size = 2\n[worlds]\nseed = 7\n")
    plan = invoke("prepare", "--recipe", "small.toml", "--set", "worlds.seed=9", "-n", "3", "--dry-run").stdout
    assert plan.splitlines()[1] == "shards/00001.tar: 1 scenes of 16x16, seeds 11 to 11"
    refused = invoke("prepare", "-n", "3", "--set", "worlds.sead=9", "--dry-run")
    assert refused.exit_code == 2 and "did you mean seed?" in refused.stderr


def test_prepare_refuses_to_mix_two_sets(invoke):
    assert invoke("prepare", "worlds", *TINY).exit_code == 0
    ran = invoke("prepare", "worlds", *TINY, "--seed", "7")
    assert ran.exit_code == 2
    assert "shards was made with seed = 0, now 7" in ran.stderr


RECIPE = """
stage = "vae"
description = "as small as can be"
data.shards = "here"
train = { batch_size = 1, learning_rate = 0.1, max_steps = 1 }
"""


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--max-minutes", "-1"], "train.max_minutes"),
        (["--set", "train.batch_size=none"], "train.batch_size"),
        (["--set", "train.batch_sizes=2"], "did you mean batch_size?"),
        (["--set", "batch"], "expected table.key=value"),
    ],
)
def test_train_refuses_a_faulty_recipe_before_it_starts(invoke, flags, words):
    Path("mine.toml").write_text(RECIPE)
    ran = invoke("train", "mine.toml", *flags)
    assert ran.exit_code == 2
    assert words in ran.stderr
    assert not Path("runs").exists()


def test_train_says_which_shards_are_missing(invoke):
    Path("mine.toml").write_text(RECIPE)
    ran = invoke("train", "mine.toml")
    assert ran.exit_code == 2
    assert "here" in ran.stderr


def test_a_training_plan_shows_every_setting_and_where_the_model_will_lie(invoke):
    Path("mine.toml").write_text(RECIPE)
    Path("here").mkdir()
    Path("here/00000.tar").touch()
    Path("here/00000_stats.json").write_text('{"count": 1}')
    shown = invoke(
        "train", "mine.toml", "--max-minutes", "3", "--set", "train.ema=0.5", "--dry-run"
    ).stdout.splitlines()
    assert {"train.max_minutes=3.0", "train.ema=0.5", "train.batch_size=1", 'data.shards="here"'} <= set(shown)
    assert "# data.limit is not set" in shown  # which `--set` has no value for
    assert shown[-1] == "runs/mine/model"
    *checks, plan = map(
        json.loads, invoke("train", "mine.toml", "--dry-run", "--json", "--out", "there").stdout.splitlines()
    )
    assert checks[0] == {"check": "data: 1 samples in 1 shards"}
    assert (plan["model"], plan["recipe"]["train"]["max_minutes"]) == ("there/model", None)
    assert not Path("runs").exists()
