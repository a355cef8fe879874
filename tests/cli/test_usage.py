"""Usage, help and usage faults of every command look alike."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperOption

from jointnet_cli.cli import COMMANDS, app
from jointnet_cli.cli.usage import value_name

PROJECT = Path(__file__).parents[2]
SAME_IN_OTHER_WORDS = {
    *("--count", "--depth", "--depth-kind", "--device", "--dry-run", "--ensemble", "--height", "--json", "--limit"),
    *("--model", "--out", "--overwrite", "--prompt", "--prompts", "--seed", "--set", "--shards", "--span"),
    *("--strength", "--width", "--wrap"),
}
"""Flags whose help names what a command does with them: `Folder for the shards`, `Folder of the run`."""
OTHER_VALUES = {"--method", "--prompts", "--model"}
"""Flags of `evaluate` whose values extend those of other commands: `--prompts fixed`."""


def commands(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    command = command or typer.main.get_command(app)
    yield path, command
    for name in getattr(command, "commands", ()):
        yield from commands(command.get_command(None, name), (*path, name))


ALL = dict(commands())
GROUPS = [path for path, command in ALL.items() if hasattr(command, "commands")]
WITH_ARGUMENTS = [path for path, command in ALL.items() if command.no_args_is_help]


def test_a_flag_means_the_same_in_every_command() -> None:
    texts, values = defaultdict(set), defaultdict(set)
    for command in ALL.values():
        for option in command.params:
            if isinstance(option, TyperOption) and not option.hidden:
                for flag in option.opts:
                    texts[flag].add(option.help)
                    values[flag].add(value_name(option))
    other = {flag for flag, found in texts.items() if len(found) > 1 and flag.startswith("--")}
    assert other - OTHER_VALUES <= SAME_IN_OTHER_WORDS
    assert {flag for flag, found in values.items() if len(found) > 1 and flag.startswith("--")} <= OTHER_VALUES


def test_the_list_of_commands_says_what_each_says_itself() -> None:
    for name, (_, summary) in COMMANDS.items():
        assert summary == ALL[(name,)].help.partition("\n\n")[0].replace("\n", " ").replace("`", ""), name


def test_help_imports_no_command() -> None:
    code = "import sys; from jointnet_cli.cli import app; app(['--help'], standalone_mode=False); print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = {name for name in ran.stdout.split() if name.startswith("jointnet_cli.")}
    needed = ("cli", "cli.console", "cli.usage", "cli.variables", "errors", "files", "files.text", "progress")
    assert imported == {f"jointnet_cli.{name}" for name in needed}
    assert not {"numpy", "pydantic", "rich.markdown", "jinja2"} & set(ran.stdout.split())


def test_the_engine_imports_nothing_that_only_some_results_need() -> None:
    code = "import sys, jointnet_cli.engine; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    of_some = "aiohttp duckdb fast_simplification imageio OpenEXR pandas pydantic tifffile torchvision trimesh typer webdataset"
    assert not set(of_some.split()) & set(ran.stdout.split())


def test_no_garbage_is_looked_for_among_what_is_imported() -> None:
    code = "import atexit, gc; from jointnet_cli.cli import main; atexit.register(lambda: print(gc.get_freeze_count())); main()"
    ran = subprocess.run([sys.executable, "-c", code, "--version"], capture_output=True, text=True, check=True)
    assert int(ran.stdout.splitlines()[-1]) > 1000


@pytest.mark.parametrize("path", WITH_ARGUMENTS, ids=" ".join)
def test_a_bare_command_prints_a_short_usage(invoke, path: tuple[str, ...]) -> None:
    ran = invoke(*path)
    assert (ran.exit_code, ran.stdout) == (2, "")
    lines = ran.stderr.splitlines()
    assert lines[0].startswith(" ".join(("usage: jointnet", *path)))
    assert lines[-1] == " ".join(("help: jointnet", *path, "--help"))
    assert len(lines) <= 5


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_help_has_no_boxes_and_no_python_types(invoke, path: tuple[str, ...]) -> None:
    ran = invoke(*path, "--help")
    assert ran.exit_code == 0 and ran.stderr == ""
    assert not [mark for mark in ("<", "None", "`") if mark in ran.stdout]
    assert "{" not in ran.stdout.splitlines()[0]


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_an_unknown_flag_is_refused(invoke, path: tuple[str, ...]) -> None:
    ran = invoke(*path, "--halp")
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr == f"error: {' '.join(('jointnet', *path))} has no flag --halp\nhint: did you mean --help?\n"


@pytest.mark.parametrize("path", GROUPS, ids=" ".join)
def test_an_unknown_command_is_refused(invoke, path: tuple[str, ...]) -> None:
    name = " ".join(("jointnet", *path))
    first = next(iter(ALL[path].commands))
    ran = invoke(*path, first[:-1] + "q")
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr == f"error: {name} has no command {first[:-1]}q\nhint: did you mean {first}?\n"
    assert f"hint: the commands are {first}, " in invoke(*path, "12345").stderr


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        ("convert a.png", "--to is required", "--to exr|png|tiff|npy|jpg"),
        ("convert a.png --to pgn", "--to must be exr, png, tiff, npy or jpg, got 'pgn'", "did you mean png?"),
        ("convert --to png", "argument IN is missing", "see: jointnet convert --help"),
        ("generate a --steps", "--steps needs a value", "for example: --steps N"),
        ("generate a --steps two", "--steps must be a whole number, got 'two'", None),
        ("generate a --guidance x", "--guidance must be a number, got 'x'", None),
        ("generate a --json=1", "--json takes no value", "see: jointnet generate --help"),
        ("generate red hut", "unexpected argument hut", "quote an argument with blanks; see: jointnet generate --help"),
        ("generate a -Z", "jointnet generate has no flag -Z", "see: jointnet generate --help"),
        ("train x --set", "--set needs a value", "for example: --set KEY=VALUE"),
    ],
)
def test_usage_faults_are_an_error_line_and_a_hint_line(invoke, arguments: str, message: str, hint: str | None) -> None:
    ran = invoke(*arguments.split())
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr == f"error: {message}\n" + (f"hint: {hint}\n" if hint else "")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("JOINTNET_STEPS", "many", "JOINTNET_STEPS must be a whole number, got 'many'"),
        ("JOINTNET_DTYPE", "float8", "JOINTNET_DTYPE must be float32, float16 or bfloat16, got 'float8'"),
        ("JOINTNET_QUIET", "maybe", "JOINTNET_QUIET must be true or false, got 'maybe'"),
    ],
)
def test_faults_in_the_environment_name_the_variable(invoke, name: str, value: str, message: str) -> None:
    ran = invoke("generate", "sea", "--dry-run", **{name: value})
    assert ran.exit_code == 2 and ran.stderr.splitlines()[0] == f"error: {message}"


STREAMS = {
    "--version >&-": (0, ""),
    "--version >/dev/full": (1, "error: No space left on device\n"),
    "--help >/dev/full": (1, "error: No space left on device\n"),
    "convert a.png 2>&-": (2, ""),
    "generate --prompts - --dry-run <&-": (2, "error: no prompts in stdin\n"),
    "generate --prompts - --dry-run <<< sea 2>/dev/full >/dev/full": (1, ""),
}
"""Exit code and begin of stderr of command lines with closed and full streams."""


def test_closed_and_full_streams_raise_no_traceback() -> None:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    runs = {
        line: subprocess.Popen(
            ["bash", "-c", f"{sys.executable} -m jointnet_cli {line}"],
            text=True,
            stderr=subprocess.PIPE,
            env=environment,
        )
        for line in STREAMS
    }
    ended = {line: (run.communicate()[1], run.returncode) for line, run in runs.items()}
    for line, (code, words) in STREAMS.items():
        stderr, returned = ended[line]
        assert returned == code, line
        assert stderr.startswith(words) and stderr.count("\n") <= 2, line


def test_what_a_stream_cannot_encode_is_escaped() -> None:
    script = "import sys; from jointnet_cli.cli.console import open_streams\n"
    script += "for encoding in ('ascii', 'utf-8'):\n"
    script += "    sys.stdout.reconfigure(encoding=encoding); open_streams(); print('é\\udcff')"
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment).stdout
    assert shown == b"\\xe9\\udcff\n\xc3\xa9\xff\n"
