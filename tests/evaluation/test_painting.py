"""Depth found in pictures that were painted for a depth map."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jointnet_cli.engine import Engine
from jointnet_cli.evaluation.painting import evaluate_painting
from jointnet_cli.tasks import Depth, Generate, Result, Sampling

QUICK = Sampling(steps=2, guidance=1.0)


@dataclass
class Perfect:
    """An engine that paints disparity as brightness, and reads it off again; or, blind, reads something else."""

    engine: Engine
    blind: bool = False

    def generate(self, task: Generate) -> Result:
        result = self.engine.generate(task)
        result.image = np.repeat(task.maps["depth"][..., None], 3, axis=-1)
        return result

    def depth(self, task: Depth) -> Result:
        result = self.engine.depth(task)
        result.maps["depth"] = np.flipud(task.image[..., 0]) if self.blind else task.image[..., 0]
        return result


def test_report(engine: Engine, evaluation_shards: Path) -> None:
    report = evaluate_painting(engine, evaluation_shards, sampling=QUICK, limit=3)
    assert report["pictures"] == 3
    assert report["settings"]["generate"]["steps"] == 2
    assert set(report["errors"]) == {"abs_rel", "delta1", "rmse"}


def test_depth_that_is_painted_is_found(engine: Engine, evaluation_shards: Path) -> None:
    def measured(blind: bool) -> dict[str, Any]:
        return evaluate_painting(Perfect(engine, blind), evaluation_shards, sampling=QUICK, limit=3)  # type: ignore[arg-type]

    seeing, blind = measured(False), measured(True)
    assert seeing["own"]["pearson_mean"] == pytest.approx(1)
    assert seeing["shuffled"]["pearson_mean"] < 1
    assert blind["own"]["pearson_mean"] < 0
    assert seeing["errors"]["abs_rel"] < 0.1 < blind["errors"]["abs_rel"]
