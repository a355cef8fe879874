"""`python -m jointnet_cli.evaluation`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jointnet_cli.data.shards.shard_set import EVALUATION_COMMAND
from jointnet_cli.engine import Engine
from jointnet_cli.evaluation.__main__ import app
from jointnet_cli.evaluation.autoencoder import evaluate_autoencoder
from jointnet_cli.evaluation.cases import samples_with_depth
from jointnet_cli.evaluation.follow import _softened
from jointnet_cli.evaluation.judge.classifier import load_labelled


def test_prompts_as_json() -> None:
    answer = CliRunner().invoke(app, ["prompts"])
    assert answer.exit_code == 0
    assert len(json.loads(answer.stdout)["prompts"]) == 200


def test_one_json_object_on_stdout(tiny_folder: Callable[[str], Path]) -> None:
    arguments = ["seams", "--count", "1", "--width", "64", "--steps", "1", "--model", str(tiny_folder("masked"))]
    answer = CliRunner().invoke(app, arguments)
    assert answer.exit_code == 0
    assert json.loads(answer.stdout)["settings"]["steps"] == 1
    assert "1/1 panoramas" in answer.stderr


def test_a_report_with_a_world_left_out_exits_with_1(tiny_folder: Callable[[str], Path], without_depth: Path) -> None:
    arguments = ["refinement", "--shards", str(without_depth), "--steps", "1", "--model", str(tiny_folder("depth"))]
    answer = CliRunner().invoke(app, arguments)
    assert answer.exit_code == 1
    assert json.loads(answer.stdout)["left_out"].keys() == {"empty"}


def test_every_command_on_worlds_warns_of_training_seeds(
    engine: Engine, training_shards: Path, evaluation_shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(shards: Path) -> None:
        evaluate_autoencoder(engine, shards, limit=1)
        next(samples_with_depth(shards, 1))
        load_labelled(shards, 1, evaluation=True)
        load_labelled(shards, 1)  # a training set
        _softened(engine, shards)

    measure(evaluation_shards)
    assert capsys.readouterr().err == ""
    measure(training_shards)
    said = capsys.readouterr().err
    assert said.count(f"warning: the worlds in {training_shards} have training seeds") == 4
    assert said.count(f"hint: {EVALUATION_COMMAND}") == 4


def test_user_faults_exit_with_2(tmp_path: Path) -> None:
    answer = CliRunner().invoke(app, ["follow", "--judge", str(tmp_path)])
    assert answer.exit_code == 2
    assert "no classifier" in answer.stderr
