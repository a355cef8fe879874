"""The progression of training runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from jointnet_cli.engine import Engine
from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.judge.classifier import Judge, JudgeNet
from jointnet_cli.evaluation.progression import draw_figure, evaluate_progression, find_snapshots
from jointnet_cli.sampling.presets import Sampling


@pytest.fixture(scope="module")
def judge() -> Judge:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Judge(JudgeNet().eval(), {})


def test_progression_of_a_run(
    tmp_path: Path, judge: Judge, tiny_folder: Callable[[str], Path], evaluation_shards: Path
) -> None:
    for step, variant in ((0, "base"), (20, "depth")):
        shutil.copytree(tiny_folder(variant), tmp_path / f"run/models/{step:07}")
    models = [("run", step, folder) for step, folder in find_snapshots(tmp_path / "run").items()]
    found = evaluate_progression(
        [("start", 0, tiny_folder("base")), *models],
        lambda folder: Engine.open(str(folder), device="cpu"),
        judge,
        evaluation_shards,
        pictures=4,
        depths=2,
        sampling=Sampling(steps=2, scheduler="ddim", guidance=2.0),
    )
    assert [(each.run, each.step) for each in found] == [("start", 0), ("run", 0), ("run", 20)]
    assert found[0].frechet == found[1].frechet and found[1].frechet != found[2].frechet
    assert found[0].abs_rel is None and found[2].abs_rel is not None and found[2].abs_rel > 0
    draw_figure(found, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_a_world_without_a_measurable_pixel_is_left_out(
    judge: Judge, tiny_folder: Callable[[str], Path], without_depth: Path
) -> None:
    (found,) = evaluate_progression(
        [("run", 0, tiny_folder("depth"))],
        lambda folder: Engine.open(str(folder), device="cpu"),
        judge,
        without_depth,
        pictures=2,
        depths=2,
        sampling=Sampling(steps=1, scheduler="ddim", guidance=1.0),
    )
    assert found.left_out == {"empty": "prediction and truth have no valid pixel in common"}
    assert found.abs_rel is not None and found.abs_rel > 0


def test_a_run_without_snapshots(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no snapshots"):
        find_snapshots(tmp_path)
