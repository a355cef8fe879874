"""`python -m jointnet_cli.evaluation` and `jointnet evaluate depth` measure depth alike."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer import Typer
from typer.testing import CliRunner

from jointnet_cli.cli import app
from jointnet_cli.evaluation.__main__ import app as measurements
from jointnet_cli.evaluation.cases import ShardCases
from jointnet_cli.evaluation.judge.classifier import Judge, JudgeNet
from jointnet_cli.tensors import relative_disparity

Folders = Callable[[str], Path]


def report(application: Typer, *arguments: object) -> dict[str, Any]:
    answer = CliRunner().invoke(application, [str(argument) for argument in arguments])
    assert answer.exit_code == 0, answer.stderr
    return json.loads(answer.stdout)  # type: ignore[no-any-return]


def table_row(shards: Path, out: Path, row: str, *arguments: object) -> dict[str, float]:
    """The means of one row of `jointnet evaluate depth` over the first two worlds."""
    command = ("evaluate", "depth", "--json", "--quiet", "--limit", 2, "--shards", shards, "--out", out)
    cells = report(app, *command, "--row", f"row={row}", *arguments)["rows"]["row"]
    return {column: cell["value"] for column, cell in cells.items()}


def test_progression_has_the_abs_rel_of_the_table(
    tmp_path: Path, tiny_folder: Folders, evaluation_shards: Path
) -> None:
    shutil.copytree(tiny_folder("depth"), tmp_path / "run/models/0000020")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Judge(JudgeNet().eval(), {}).save(tmp_path / "judge")
    settings = ("--steps", 2, "--scheduler", "ddim", "--device", "cpu")
    places = (tmp_path / "run", "--judge", tmp_path / "judge", "--shards", evaluation_shards)
    (model,) = report(measurements, "progression", *places, *settings, "--pictures", 2, "--depths", 2)["models"]
    row = f"jointnet:{tmp_path}/run/models/0000020"
    table = table_row(evaluation_shards, tmp_path / "out", row, *settings, "--guidance", 1)
    assert model["abs_rel"] == pytest.approx(table["AbsRel"], rel=1e-9)


def test_refinement_has_the_errors_of_the_table(tmp_path: Path, tiny_folder: Folders, evaluation_shards: Path) -> None:
    """The map before refinement is the mean of blocks of 4x4 pixels."""
    scenes = ShardCases(evaluation_shards, "depth")
    for number in range(2):
        scene = scenes[number]
        disparity = relative_disparity(torch.from_numpy(np.asarray(scene.inverse_depth))[None])[0].numpy()
        blocks = disparity.reshape(12, 4, 12, 4).mean(axis=(1, 3), dtype=np.float32)
        np.save(tmp_path / f"{scene.key}.npy", blocks.repeat(4, axis=0).repeat(4, axis=1))
    model = ("--model", tiny_folder("depth"), "--device", "cpu", "--steps", 1)
    before = report(measurements, "refinement", "--shards", evaluation_shards, *model, "--reduction", 4, "--limit", 2)[
        "before"
    ]
    table = table_row(evaluation_shards, tmp_path / "out", f"folder:{tmp_path}?kind=disparity")
    found = (before["abs_rel"], before["delta1"], before["rmse"])
    assert found == pytest.approx((table["AbsRel"], table["delta1"], table["RMSE (disparity)"]), abs=5.1e-5)  # rounded
