"""Shell completion: what is offered for each kind of value, and without which imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from jointnet_cli.cli.evaluate import COMMANDS
from jointnet_cli.files.paths import shipped_files
from jointnet_cli.sampling.schedule import SCHEDULERS

MODELS = ["diorama", "diorama/base", "mine", "someone/something"]


@pytest.fixture
def complete(invoke, tmp_path):
    """Return what bash is offered for the last word of a line."""
    (tmp_path / "models/mine").mkdir(parents=True)

    def run(line: str) -> list[str]:
        words = line.split(" ")
        ran = invoke(
            _JOINTNET_COMPLETE="complete_bash",
            COMP_WORDS=line,
            COMP_CWORD=str(len(words) - 1),
            JOINTNET_MODELS=str(tmp_path / "models"),
        )
        assert not ran.stderr
        return ran.stdout.split()

    return run


@pytest.fixture
def _hub(tmp_path, monkeypatch):
    """A hub cache with one model."""
    (tmp_path / "hub/models--someone--something/snapshots/1").mkdir(parents=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.mark.usefixtures("_hub")
@pytest.mark.parametrize(
    "line",
    [
        "jointnet generate sea --model ",
        "jointnet depth a.png -m ",
        "jointnet panorama sea --base ",
        "jointnet evaluate depth --model ",
        "jointnet models show ",
        "jointnet models words ",
        "jointnet models import x --base ",
        "jointnet doctor --model ",
    ],
)
def test_models(complete, line):
    assert complete(line) == MODELS
    assert complete(f"{line}dio") == ["diorama", "diorama/base"]


@pytest.mark.parametrize(
    "line", ["train ", "recipe show ", "recipe copy ", "recipe check ", "recipe check depth ", "prepare x --recipe "]
)
def test_recipes(complete, line):
    assert complete(f"jointnet {line}") == list(shipped_files())
    assert complete(f"jointnet {line}prep") == ["prepare/coyo"]


def test_schedulers_modalities_tables_and_choices(complete):
    assert complete("jointnet generate sea --scheduler ") == list(SCHEDULERS)
    assert complete("jointnet evaluate generation --scheduler d") == ["ddim", "dpm++"]
    assert complete("jointnet models import x --modality ") == ["depth", "normal"]
    assert complete("jointnet evaluate ") == [kind.name for kind in COMMANDS]
    assert complete("jointnet evaluate d") == ["depth", "depth-to-image"]
    assert complete("jointnet panorama sea --dtype f") == ["float32", "float16"]


def test_paths_are_left_to_the_shell(complete):
    for line in (
        "generate sea --out ",
        "view a.png --depth ",
        "train recipes/",
        "models show ./",
        "recipe copy depth ",
    ):
        assert complete(f"jointnet {line}") == []


def test_completion_imports_nothing_heavy(tmp_path):
    code = """
import sys
from jointnet_cli.cli import app
try:
    app(prog_name="jointnet")
finally:
    heavy = {"torch", "numpy", "diffusers", "transformers", "PIL"} & sys.modules.keys()
    print("heavy:", *sorted(heavy), file=sys.stderr)
"""
    for line in ("jointnet train ", "jointnet generate x -m ", "jointnet generate x --scheduler "):
        variables = {"_JOINTNET_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
        environment = {**variables, "PYTHONPATH": str(Path(__file__).parents[2]), "JOINTNET_MODELS": str(tmp_path)}
        ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
        assert ran.stdout.split() and ran.stderr == "heavy:\n"
