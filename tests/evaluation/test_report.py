"""Tables as Markdown, JSON and plots."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.figures import draw, publish
from jointnet_cli.evaluation.intervals import mean_estimate
from jointnet_cli.evaluation.report import Column, Estimate, Table

TABLE = Table(
    "Depth",
    (Column("AbsRel", "lower"), Column("delta1", "higher", digits=1, percent=True), Column("seconds")),
    {
        "good": {"AbsRel": Estimate(0.1, 0.05, 0.2, 4), "delta1": Estimate(0.9, 0.8, 0.95, 4), "seconds": 2.0},
        "a|b": {"AbsRel": mean_estimate([0.25]), "delta1": None},
        "seen": {"AbsRel": 0.01, "delta1": mean_estimate([])},
    },
    {"scenes": 4, "sizes": [1, 2], "rows": {"good": {"steps": 2}, "a|b": {}}},
    references=["seen"],
)


def test_markdown_shows_intervals_the_best_and_the_facts() -> None:
    assert TABLE.to_markdown() == "\n".join(
        [
            "### Depth",
            "",
            "| row | AbsRel ↓ | delta1 ↑ | seconds |",
            "|---|---|---|---|",
            "| good | **0.100** [0.050, 0.200] | 90.0% [80.0%, 95.0%] | 2.000 |",
            "| a\\|b | 0.250 |  |  |",
            "| seen | 0.010 |  |  |",
            "",
            "- scenes: 4",
            "- sizes: 1, 2",
            "- rows:",
            "  - good: steps 2",
            "  - a|b: ",
            "",
        ]
    ).replace("a|b: \n", "a|b:\n")


def test_json_has_no_nan() -> None:
    record = json.loads(json.dumps(TABLE.to_json(), allow_nan=False))
    assert record["rows"]["good"]["AbsRel"] == {"value": 0.1, "low": 0.05, "high": 0.2, "count": 4}
    assert record["rows"]["a|b"] == {
        "AbsRel": {"value": 0.25, "low": None, "high": None, "count": 1},
        "delta1": None,
        "seconds": None,
    }
    assert record["columns"][0] == {"name": "AbsRel", "better": "lower", "digits": 3, "percent": False}


def test_publishing_prints_data_and_keeps_three_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "a" / "b"
    publish(TABLE, folder, as_json=False)
    shown = capsys.readouterr()
    assert shown.out == TABLE.to_markdown() == (folder / "table.md").read_text()
    assert [Path(line).name for line in shown.err.splitlines()] == ["table.json", "table.md", "table.png"]
    publish(TABLE, folder, as_json=True)
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == TABLE.to_json() == json.loads((folder / "table.json").read_text())
    assert {path.name for path in folder.iterdir()} == {"table.json", "table.md", "table.png"}
    with Image.open(folder / "table.png") as picture:
        assert picture.width > picture.height > 50


def test_without_matplotlib_the_table_is_there_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match="matplotlib") as fault:
        draw(TABLE, tmp_path / "table.png")
    assert "eval" in (fault.value.hint or "")
    publish(TABLE, tmp_path, as_json=False)
    assert "matplotlib" in capsys.readouterr().err and (tmp_path / "table.md").is_file()
    assert not (tmp_path / "table.png").exists()
