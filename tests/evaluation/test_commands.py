"""`python -m jointnet_cli.evaluation`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from typer.testing import CliRunner

from jointnet_cli.evaluation.__main__ import app


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


def test_user_faults_exit_with_2(tmp_path: Path) -> None:
    answer = CliRunner().invoke(app, ["follow", "--judge", str(tmp_path)])
    assert answer.exit_code == 2
    assert "no classifier" in answer.stderr
