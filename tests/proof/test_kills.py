"""A small part of the campaign of kills: a preparation that is killed once ends as one that was not."""

from __future__ import annotations

import random
import runpy
from pathlib import Path

CAMPAIGN = runpy.run_path(str(Path(__file__).parents[2] / "tools/campaign/kills.py"))


def test_a_killed_preparation_ends_as_one_that_was_not(tmp_path: Path) -> None:
    outcome = CAMPAIGN["campaign"]("prepare", tmp_path / "prepare", 1, random.Random(0))
    assert (outcome["kills"], outcome["files"], outcome["differing"]) == (1, 8, [])
