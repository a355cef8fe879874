"""One command, measured from outside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from jointnet_cli.cli import app
from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.commands.resources import measure, quick_commands

pytestmark = pytest.mark.slow


def test_a_command_by_phases(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    where = ["--out", str(tmp_path), "--model", str(tiny_folder("masked"))]
    run = measure(["generate", "a lake", "--steps", "2", "--json", "--quiet", *where])
    assert list(run.phases) == ["start", "import", "load", "text", "denoise", "decode", "files", "other"]
    assert all(seconds > 0 for seconds in run.phases.values())
    assert sum(run.phases.values()) == pytest.approx(run.seconds)
    assert run.cpu_seconds > 0
    assert 100 < run.peak_mib < 4000
    assert list(tmp_path.glob("*.metadata.json"))


def test_a_failure_is_passed_on() -> None:
    with pytest.raises(UserError, match=r"(?s)doctor --no-such-flag failed: .*has no flag --no-such-flag"):
        measure(["doctor", "--no-such-flag"])


def test_every_command_is_accepted(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "0.image.png")
    commands = quick_commands(str(tmp_path), "diorama", 256)
    for name in ("generate", "depth", "panorama", "prepare"):
        assert CliRunner().invoke(app, [*commands[name], "--dry-run"]).exit_code == 0, name
