"""What a training shows on stderr, on a terminal and elsewhere."""

from __future__ import annotations

import json

import pytest
import torch

from jointnet_cli.cli.training_progress import training_progress

LINE = {
    "step": 4, "minutes": 0.5, "progress": 1.0, "samples_per_second": 12.345, "learning_rate": 0.1, "rgb": 0.25,
    "depth": 0.5, "gradient_norm": 1.0, "loss": 0.75,
}  # fmt: skip
LOSSES = {name: torch.tensor(LINE[name]) for name in ("rgb", "depth", "gradient_norm", "loss")}


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "120")


def run(as_json: bool = False, quiet: bool = False) -> None:
    with training_progress("joint", 8, as_json=as_json, quiet=quiet) as shown:
        shown.log({"encoded": 1, "shards": 2})
        shown.log({"encoded": 2, "shards": 2})
        shown.log({"resumed": 1200, "minutes": 0.251})
        shown.log({"warning": "some captions are cut"})
        for step in range(1, 5):
            shown.step(step, step / 4, LOSSES)
        shown.log({**LINE, "step": 2})
        shown.log(LINE)


def test_off_a_terminal_every_stage_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    run()
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "joint: encode shards, 2 of 2",
        "joint: resumed at step 1,200, 0.251 min",
        "warning some captions are cut",
        "joint: step 4, loss 0.75, rgb 0.25, depth 0.5, 12.3 samples/s, 0.5 min",
    ]


def test_json_prints_every_record_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    run(as_json=True)
    said = capsys.readouterr()
    assert [json.loads(line).get("step") for line in said.out.splitlines()] == [None, None, None, None, 2, 4]
    assert said.err == ""


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str], terminal: None) -> None:
    run(quiet=True)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_has_a_bar(capsys: pytest.CaptureFixture[str], terminal: None) -> None:
    run(as_json=True)
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 6, "the bar does not swallow stdout"
    for words in ("joint  step 4", "100%", "loss 0.75", "rgb 0.25", "depth 0.5", "samples/s", "0:00 left"):
        assert words in said.err
    assert "gradient_norm" not in said.err


def test_a_narrow_terminal_has_one_line_and_the_last_step_stays(
    capsys: pytest.CaptureFixture[str], terminal: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    run()
    said = capsys.readouterr().err
    assert said.splitlines()[-1].endswith("joint: step 4, loss 0.75, rgb 0.25, depth 0.5, 12.3 samples/s, 0.5 min")
    assert said.count("\x1b[1A") == 1, "only the removal of the bar goes up, by its one line"
