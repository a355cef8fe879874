"""Running commands as a user would: in a folder of their own, without the caller's settings."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from jointnet_cli.cli import app

Invoke = Callable[..., Result]
PROJECT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith("JOINTNET_"):
            monkeypatch.delenv(name)


@pytest.fixture
def invoke() -> Invoke:
    """Run a command in this process: `invoke("depth", "a.png", stdin="…", JOINTNET_SEED="3")`."""

    def run(*arguments: str, stdin: str | None = None, **environment: str) -> Result:
        return CliRunner(env={"COLUMNS": "200", **environment}).invoke(app, arguments, input=stdin)

    return run


@pytest.fixture
def start() -> Callable[..., subprocess.Popen[str]]:
    """Start a command as a process of its own."""

    def run(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "jointnet_cli", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(PROJECT), **environment},
        )

    return run


@pytest.fixture(scope="session")
def untrained(tiny_folder: Callable[[str], Path]) -> Path:
    """The folder of an untrained joint model with depth: 32 pixels a side."""
    return tiny_folder("depth")


@pytest.fixture(scope="session")
def embedded() -> str:
    """The embedded model's name; skips where it has not been built."""
    if not Path(str(files("jointnet_cli"))).joinpath("model", "diorama", "model_index.json").exists():
        pytest.skip("the embedded model is not in this checkout")
    return "diorama"
