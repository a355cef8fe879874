"""Help is complete, instant and free of heavy imports."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

import jointnet_cli

COMMANDS = [
    "generate",
    "depth",
    "panorama",
    "inpaint",
    "refine",
    "view",
    "convert",
    "prepare",
    "train",
    "recipe",
    "models",
    "evaluate",
    "doctor",
]
SHARED_FLAGS = [
    *("model", "device", "dtype", "scheduler", "steps", "guidance", "seed"),
    *("out", "json", "quiet", "overwrite", "no-metadata", "dry-run"),
]


def test_help_lists_every_command(invoke):
    shown = invoke("--help")
    assert shown.exit_code == 0
    for command in COMMANDS:
        assert f" {command} " in shown.stdout


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_has_help_and_an_example(invoke, command, flag):
    shown = invoke(command, flag)
    assert shown.exit_code == 0
    assert f"Example: jointnet {command}" in shown.stdout


@pytest.mark.parametrize(
    ("group", "commands"), [("models", "list show words import export"), ("recipe", "list show copy check")]
)
def test_every_command_of_a_group_has_help_and_an_example(invoke, group, commands):
    listed = invoke(group, "-h").stdout
    for command in commands.split():
        assert f" {command} " in listed
        shown = invoke(group, command, "-h")
        assert shown.exit_code == 0
        assert f"Example: jointnet {group} {command}" in shown.stdout


@pytest.mark.parametrize("command", ["generate", "depth", "panorama", "inpaint", "refine"])
def test_image_commands_share_their_flags(invoke, command):
    shown = invoke(command, "-h").stdout
    for flag in SHARED_FLAGS:
        assert re.search(f"--{flag}\\b", shown)
    assert "JOINTNET_MODEL" in shown


def test_version(invoke):
    assert invoke("--version").stdout == f"jointnet {jointnet_cli.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["panorama", "--help"],
        ["generate", "sea", "--dry-run"],
        ["models", "show", "diorama"],
        ["recipe", "list"],
    ],
)
def test_help_and_plans_import_nothing_heavy(arguments):
    script = (
        "import json, sys\n"
        "from jointnet_cli.cli import app\n"
        "app(sys.argv[1:], standalone_mode=False)\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    modules = set(json.loads(ran.stdout.splitlines()[-1]))
    assert "jointnet_cli.cli" in modules
    assert not modules & {"torch", "numpy", "scipy", "diffusers", "transformers", "PIL", "trimesh", "duckdb"}


def test_completion_can_be_shown(start):
    shell = start(_JOINTNET_COMPLETE="source_bash")  # what the completion script of bash calls
    completion, _ = shell.communicate()
    assert shell.returncode == 0
    assert "complete" in completion
