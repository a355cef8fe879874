"""`jointnet models`, as a user runs it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from jointnet_cli.model.hub import find_model


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _own_folder: None) -> Path:
    """Where models are kept."""
    monkeypatch.setenv("JOINTNET_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "models"


def test_list(invoke, untrained, home):
    shutil.copytree(untrained, home / "seaside")
    (home / "notes").mkdir()
    lines = invoke("models", "list").stdout.splitlines()
    assert any(line.split("  ")[0] == "seaside" for line in lines)
    assert any(line.endswith("  rgb + depth, 32 px, Stable Diffusion") for line in lines)
    assert not any(line.startswith("notes") for line in lines)
    records = [json.loads(line) for line in invoke("models", "list", "--json").stdout.splitlines()]
    found = next(record for record in records if record["model"] == "seaside")
    assert found["path"] == str(home / "seaside")
    assert found["branches"] == ["rgb", "depth"]


def test_show(invoke, untrained):
    told = json.loads(invoke("models", "show", str(untrained), "--json").stdout)
    assert told["hash"] == find_model(str(untrained)).weights_hash()
    assert told["provenance"] == {"steps": 0}
    shown = invoke("models", "show", str(untrained)).stdout
    for words in ("rgb, depth", "v_prediction", f"{told['parameters']:,}", told["hash"], "32 px", "Stable Diffusion"):
        assert words in shown


def test_the_embedded_model_is_listed_and_shown(invoke, embedded):
    assert invoke("models", "list").stdout.startswith("diorama ")
    assert json.loads(invoke("models", "show", embedded, "--json").stdout)["size"] == 128


def test_words(invoke, embedded, untrained):
    shown = invoke("models", "words", embedded)
    words = shown.stdout.split("\n")[:-1]
    assert shown.exit_code == 0 and words == sorted(words)
    assert {"lighthouse", "red", "ocean"} <= set(words) and not {",", ".", "castle"} & set(words)
    assert json.loads(invoke("models", "words", embedded, "--json").stdout) == {"model": "diorama", "words": words}
    refused = invoke("models", "words", str(untrained))
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert f"error: {untrained} reads every word: it has no list of words\nhint: " in refused.stderr


def test_there_and_back(invoke, untrained, home, tmp_path):
    exported = invoke("models", "export", str(untrained), "--out", "published")
    assert (exported.exit_code, exported.stdout) == (0, "published\n")
    shutil.make_archive("seaside", "zip", "published")
    imported = invoke("models", "import", "seaside.zip", "--base", str(untrained), "--json")
    assert imported.exit_code == 0, imported.stderr
    assert json.loads(imported.stdout) == {"path": str(home / "seaside")}
    facts = find_model("seaside")
    assert facts.branches == ["rgb", "depth"]
    origin = facts.provenance["imported"]
    assert (origin["source"], origin["base"]) == ("seaside.zip", str(untrained))
    again = invoke("models", "import", "seaside.zip", "--base", str(untrained))
    assert again.exit_code == 2
    assert "exists already" in again.stderr
    normals = invoke("models", "import", "published", "--base", str(untrained), "--modality", "normal", "-o", "normals")
    assert normals.stdout == "normals\n"
    assert find_model("normals").branches == ["rgb", "normal"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "diaroma"], "did you mean diorama?"),
        (["import", "published"], "--base"),
        (["import", "OURS"], "not in the published layout"),
        (["export", "BASE", "--out", "x"], "branches"),
    ],
)
def test_what_cannot_be_done_is_said(invoke, untrained, tiny_folder, arguments, words):
    invoke("models", "export", str(untrained), "--out", "published")
    places = {"OURS": str(untrained), "BASE": str(tiny_folder("base"))}
    ran = invoke("models", *(places.get(argument, argument) for argument in arguments))
    assert ran.exit_code == 2
    assert words in ran.stderr
    assert "hint:" in ran.stderr
    assert ran.stdout == ""
    assert not Path("x").exists()


def test_an_export_needs_a_folder(invoke, untrained):
    assert invoke("models", "export", str(untrained)).exit_code == 2
