"""`jointnet evaluate speed`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import tables

from jointnet_cli.evaluation.commands.speed import SpeedEvaluation
from jointnet_cli.evaluation.metrics.metric import PerCase, Predictions
from jointnet_cli.evaluation.metrics.paired import Difference
from jointnet_cli.evaluation.report import Column, Estimate
from jointnet_cli.evaluation.runner import Runner
from jointnet_cli.sampling.presets import PRESETS

pytestmark = pytest.mark.slow

INTRA = "intra ST-LPIPS (AlexNet)"


def test_a_row_of_every_method(tiny_folder: Callable[[str], Path], evaluation_shards: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a lake\nocean reef\n")
    methods = {"reference": "preset=paper&steps=3", "paper": "preset=paper&steps=2", "fast": "preset=fast&steps=4"}
    same = {"again": "preset=paper&steps=2&guidance_interval=0 1000"}
    where = ["--model", str(tiny_folder("masked")), "--prompts", str(tmp_path / "prompts.txt"), "--width", 96]
    options = ["--seeds", 1, "--images", 2, "--shards", str(evaluation_shards), "--out", str(tmp_path / "out")]
    rows = [word for name, how in (methods | same).items() for word in ("--method", f"{name}=jointnet:?{how}")]
    result = tables.evaluate("speed", *where, *options, *rows, "--json")
    table, facts = tables.values(result), tables.table(result)["facts"]
    assert (facts["prompts"], facts["panoramas"], facts["images"]) == (2, 2, 2)
    # Three windows across, with guidance. paper: six tiles a step, and three windows more while step <= int(0.4 * steps).
    # fast: the whole image alone twice, three tiles, six tiles; without guidance at the last timestep, 249.
    assert {name: row["evaluations"] for name, row in table.items() if name != "real images"} == {
        "reference": 2 * (9 + 9 + 6),
        "paper": 2 * (9 + 6),
        "fast": 2 * (3 + 3 + 3) + 6,
        "again": 2 * (9 + 6),
    }
    distance, change = "ST-LPIPS (AlexNet) to reference", "change of intra"
    assert table["reference"][distance] is table["reference"][change] is table["paper"][change] is None
    assert 0 < table["again"][distance] == pytest.approx(table["paper"][distance], abs=1e-6)
    assert table["again"][change] == pytest.approx(0, abs=1e-6)
    assert table["fast"][change] == pytest.approx(table["fast"][INTRA] - table["paper"][INTRA], abs=1e-6)
    assert table["fast"]["FD-EffLite0"] > 0 and table["fast"]["AbsRel"] > 0


def test_facts_state_what_is_made(evaluation_shards: Path) -> None:
    """Of 512 images there are no more than samples, and none without shards or a judge."""
    for shards, images in ((str(evaluation_shards), 8), (None, 0)):
        command = SpeedEvaluation(shards=shards, limit=None)
        facts = command.facts(command.parts(), [])
        assert (facts["prompts"], facts["panoramas"], facts["images"]) == (16, 64, images)
    command = SpeedEvaluation(shards=str(evaluation_shards), limit=3)
    facts = command.facts(command.parts(), [])
    assert (facts["prompts"], facts["panoramas"], facts["images"]) == (3, 3, 3)


def test_the_default_rows_hold_every_preset() -> None:
    texts = " ".join(SpeedEvaluation.defaults)
    assert all(f"preset={name}" in texts for name in PRESETS)


def test_differences_are_paired(tmp_path: Path) -> None:
    """Cases that only one method has do not count; the interval is that of the differences."""
    runner = Runner(tmp_path, {}, lambda title: pytest.fail(title))
    metric = PerCase({"x": Column("x")}, 100)
    difference = Difference(metric, {"x": "x"}, 100)

    def predictions(key: str, values: dict[int, float]) -> Predictions:
        return Predictions(
            key, key, {number: {"x": value} for number, value in values.items()}, lambda *_: pytest.fail()
        )

    first = predictions("first", {0: 1.0, 1: 100.0, 2: 50.0})
    assert difference(first, runner) == {}
    difference.other = first
    assert difference(first, runner) == {}
    found = difference(predictions("second", {0: 2.0, 1: 101.0, 3: 7.0}), runner)["change of x"]
    assert isinstance(found, Estimate) and found.count == 2
    np.testing.assert_allclose([found.value, found.low, found.high], 1)
