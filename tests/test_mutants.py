"""The settings of the mutation tests fit the code."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "tools/mutants.toml").read_text(encoding="utf-8"))


def test_the_named_modules_and_tests_exist() -> None:
    paths = [*SETTINGS["tests"], *(path for paths in SETTINGS["tests"].values() for path in paths)]
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_equivalent_mutant_has_a_reason_and_changes_code_that_is_there() -> None:
    for entry in SETTINGS["equivalent"]:
        lines = {line.strip() for line in (ROOT / entry["module"]).read_text(encoding="utf-8").splitlines()}
        assert set(entry["was"].splitlines()) <= lines, entry
        assert entry["reason"] and entry["was"] != entry["mutant"], entry
