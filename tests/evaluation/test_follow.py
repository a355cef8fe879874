"""Prompt following on an untrained engine, and what is asked of a picture."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from jointnet_cli.engine import Engine
from jointnet_cli.evaluation.follow import evaluate_following
from jointnet_cli.evaluation.judge.classifier import Judge, JudgeNet, labels_of_prompts
from jointnet_cli.evaluation.judge.labels import COLOURS, KINDS, PAINTED, UNKNOWN
from jointnet_cli.evaluation.judge.prompts import Prompt, fixed_prompts, spread_evenly
from jointnet_cli.sampling.presets import Sampling
from jointnet_cli.tasks import Generate

QUICK = Sampling(steps=2)


@pytest.fixture
def judge() -> Judge:
    return Judge(JudgeNet().eval(), {"held_out": {}})


def test_asked_for() -> None:
    answers = labels_of_prompts([Prompt("a red hut on a hill", "hills", "noon", "hut", "red")])
    present = dict(zip(KINDS, answers.present[0].tolist(), strict=True))
    assert present["hut"] == 1
    assert present["sheep"] == UNKNOWN  # may well stand there, unasked
    assert present["coral"] == 0
    colour = dict(zip(PAINTED, answers.colour[0].tolist(), strict=True))
    assert COLOURS[colour.pop("hut")] == "red"
    assert set(colour.values()) == {UNKNOWN}


def test_report_and_sheet(engine: Engine, judge: Judge, evaluation_shards: Path, tmp_path: Path) -> None:
    report = evaluate_following(
        engine,
        judge,
        prompts=spread_evenly(fixed_prompts(), 3),
        sampling=QUICK,
        held_out=evaluation_shards,
        sheet=tmp_path / "sheet.png",
    )
    assert report["images"] == 3
    assert report["judge"] == judge.facts
    for judged in (report["generated"], report["judge_through_autoencoder"]):
        assert 0 <= judged["biome"] <= 1
    with Image.open(tmp_path / "sheet.png") as sheet:
        cell = sheet.crop((6, 6, 6 + 32, 6 + 32))
    first = engine.generate(Generate(prompt=fixed_prompts()[0].text, seed=0, sampling=QUICK)).image
    shown = [value / 255 for value in cell.getpixel((5, 9))]
    assert shown == pytest.approx(first[9, 5].tolist(), abs=0.5 / 255 + 1e-6)
