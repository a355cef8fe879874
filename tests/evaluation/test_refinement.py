"""Reduced depth maps before and after refinement."""

from __future__ import annotations

from pathlib import Path

from jointnet_cli.engine import Engine
from jointnet_cli.evaluation.refinement import evaluate_refinement
from jointnet_cli.tasks import Sampling

QUICK = Sampling(steps=2, guidance=1.0)


def test_reduction_costs_and_refinement_changes(engine: Engine, evaluation_shards: Path) -> None:
    coarse, fine = (
        evaluate_refinement(engine, evaluation_shards, reduction=factor, strength=0.5, sampling=QUICK, limit=2)
        for factor in (8, 2)
    )
    assert coarse["pictures"] == 2
    assert coarse["settings"]["strength"] == 0.5
    assert 0 < fine["before"]["abs_rel"] < coarse["before"]["abs_rel"]
    assert coarse["after"] != coarse["before"]
