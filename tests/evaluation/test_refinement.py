"""Reduced depth maps before and after refinement."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.shards import read_shards

from jointnet_cli.data.shards.writer import write_shard
from jointnet_cli.engine import Engine
from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.refinement import evaluate_refinement
from jointnet_cli.sampling.presets import Sampling

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


def test_a_world_without_a_measurable_pixel_is_left_out(
    engine: Engine, evaluation_shards: Path, without_depth: Path
) -> None:
    report = evaluate_refinement(engine, without_depth, sampling=QUICK)
    assert report["pictures"] == 1
    assert report["left_out"] == {"empty": "prediction and truth have no valid pixel in common"}
    alone = evaluate_refinement(engine, evaluation_shards, sampling=QUICK, limit=1)
    assert (report["before"], report["after"]) == (alone["before"], alone["after"])
    assert alone["left_out"] == {}


def test_worlds_none_of_which_can_be_measured(engine: Engine, tmp_path: Path, without_depth: Path) -> None:
    samples = list(read_shards([without_depth / "00000.tar"]))
    write_shard(tmp_path / "00000.tar", samples[1:])
    with pytest.raises(UserError, match="no picture could be measured: prediction and truth have no valid pixel"):
        evaluate_refinement(engine, tmp_path, sampling=QUICK)
