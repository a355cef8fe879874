"""`jointnet evaluate` as a user runs it, and the table that it prints."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner, Result

from jointnet_cli.cli import app


def evaluate(name: str, *arguments: object) -> Result:
    """Run one command of `jointnet evaluate`."""
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["evaluate", name, *map(str, arguments)])


def table(result: Result) -> dict[str, Any]:
    """Return the table that a successful command printed with `--json`."""
    assert result.exit_code == 0, result.output + result.stderr
    content: dict[str, Any] = json.loads(result.stdout)
    return content


def values(result: Result) -> dict[str, dict[str, Any]]:
    """Return the numbers of a table without their intervals, by row and column."""
    rows = table(result)["rows"]
    return {
        name: {column: cell["value"] if isinstance(cell, dict) else cell for column, cell in cells.items()}
        for name, cells in rows.items()
    }
