"""Every way a command can end has its exit code and its words."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from jointnet_cli.cli.console import for_each
from jointnet_cli.cli.options import expand_flags
from jointnet_cli.cli.usage import Command
from jointnet_cli.errors import UserError
from jointnet_cli.params import Param


def run(command: Callable[[], None], **environment: str):
    app = typer.Typer()
    app.command(cls=Command)(command)
    return CliRunner(env=environment).invoke(app, [])


def raising(fault: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise fault

    return command


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (UserError("wrong size", "take 128"), 2, "error: wrong size\nhint: take 128\n"),
        (UserError("[red] is no colour"), 2, "error: [red] is no colour\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (OSError(errno.ENOSPC, "No space left on device", "a.png"), 1, "error: No space left on device: a.png\n"),
        (BrokenPipeError(), 1, ""),
        (ValueError("bad"), 1, "error: unexpected ValueError: bad\nhint: JOINTNET_DEBUG=1 shows where it happened\n"),
        (typer.Exit(1), 1, ""),
    ],
    ids=lambda value: type(value).__name__,
)
def test_faults_become_a_line_and_an_exit_code(fault, code, words):
    ran = run(raising(fault))
    assert (ran.exit_code, ran.stderr) == (code, words)


def test_the_same_hint_is_printed_once(capsys):
    faults = [UserError("a", "x"), UserError("b", "x"), UserError("c", "y"), UserError("d"), UserError("e", "y")]
    assert for_each(faults, lambda fault: raising(fault)(), label=lambda fault: "") == faults
    words = ["error: a", "hint: x", "error: b", "error: c", "hint: y", "error: d", "error: e", "hint: y"]
    assert capsys.readouterr().err.splitlines() == words


def test_tracebacks_only_on_request():
    ran = run(raising(ValueError("bad")), JOINTNET_DEBUG="1")
    assert ran.exit_code == 1
    assert "Traceback" in ran.stderr
    assert "error: unexpected ValueError: bad" in ran.stderr


def test_a_closed_pipe_ends_quietly():
    script = "from jointnet_cli.cli.console import run_guarded\n"
    script += "raise SystemExit(run_guarded(lambda: [print('x' * 99) for _ in range(9999)]))"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout and process.stderr
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 1


def test_no_colour_and_no_animation_off_a_terminal(invoke):
    assert "\x1b" not in invoke("generate", "", FORCE_COLOR="").stderr


def test_no_color_is_honoured_where_colour_is_forced(invoke):
    assert "\x1b[1;31m" in invoke("generate", "", FORCE_COLOR="1").stderr
    assert "\x1b[1;31m" not in invoke("generate", "", FORCE_COLOR="1", NO_COLOR="1").stderr


@dataclass(frozen=True)
class Paint:
    colour: Annotated[str, Param("Which.")]
    layers: Annotated[int, Param("How many.", env=True)] = 1


def test_a_group_arrives_whole_and_its_fields_are_flags():
    received: list[tuple[Path, Paint, bool]] = []

    def command(
        wall: Annotated[Path, Param("Which.", argument=True)],
        paint: Paint,
        *,
        dry: Annotated[bool, Param("Whether.", flag="--dry")] = False,
    ) -> None:
        """Paint."""
        received.append((wall, paint, dry))

    app = typer.Typer()
    app.command()(expand_flags(command))
    runner = CliRunner()
    assert runner.invoke(app, ["north", "--colour", "red"], env={"JOINTNET_LAYERS": "2"}).exit_code == 0
    assert runner.invoke(app, ["south", "--colour", "blue", "--layers", "3", "--dry"]).exit_code == 0
    assert received == [(Path("north"), Paint("red", 2), False), (Path("south"), Paint("blue", 3), True)]
    assert runner.invoke(app, ["north"]).exit_code == 2
