"""A mistake gives one line that says what is wrong, exit code 2, and nothing on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

MISTAKES = {
    "no prompt": (["generate", "--steps", "2"], "no prompt"),
    "empty prompt": (["generate", "  "], "no prompt"),
    "two sources of prompts": (["generate", "sea", "--prompts", "prompts.txt"], "both given"),
    "missing prompts file": (["panorama", "--prompts", "none.txt"], "no file none.txt"),
    "prompts folder": (["panorama", "--prompts", "."], ". is a folder"),
    "empty prompts file": (["generate", "--prompts", "empty.txt"], "no prompts in empty.txt"),
    "binary prompts file": (["generate", "--prompts", "binary.txt"], "not UTF-8"),
    "empty stdin": (["generate", "--prompts", "-"], "no prompts in stdin"),
    "no count": (["generate", "sea", "--count", "0"], "--count"),
    "negative seed": (["generate", "sea", "--seed", "-1"], "--seed"),
    "no steps": (["generate", "sea", "--steps", "0"], "--steps"),
    "zero width": (["generate", "sea", "--width", "0"], "--width"),
    "unknown dtype": (["generate", "sea", "--dtype", "int4"], "--dtype"),
    "output is a file": (["generate", "sea", "--out", "empty.txt"], "empty.txt is not a folder"),
    "output lies below a file": (["generate", "sea", "--out", "empty.txt/x"], "empty.txt is not a folder"),
    "wrapped half circle": (["panorama", "sea", "--span", "180", "--wrap"], "--wrap needs a span of 360, not 180"),
    "more than a circle": (["panorama", "sea", "--span", "400"], "--span"),
    "whole image after the end": (["panorama", "sea", "--whole-image-until", "1.5"], "--whole-image-until"),
    "missing photo": (["depth", "none.png"], "no file none.png"),
    "no such photos": (["depth", "*.xyz"], "no file matches *.xyz"),
    "folder without photos": (["depth", "folder"], "no photos in folder folder"),
    "no photos on stdin": (["depth", "-"], "no photos"),
    "empty source": (["prepare", "", "-n", "4"], "SOURCE must not be empty"),
    "unknown source": (["prepare", "coyo", "-n", "4"], "there is no source 'coyo'"),
    "reserved worlds": (["prepare", "worlds", "-n", "4", "--seed", "1000000000"], "reserved for evaluation"),
    "missing recipe": (["train", "none.toml"], "no recipe none.toml"),
    "unknown command": (["generat"], "generate"),
    "unknown flag": (["generate", "sea", "--stepz", "3"], "--stepz"),
}


@pytest.mark.parametrize(("arguments", "words"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistake(invoke, arguments, words):
    Path("empty.txt").touch()
    Path("prompts.txt").write_text("sea")
    Path("binary.txt").write_bytes(b"\xff\xfe\x80")
    Path("folder").mkdir()
    before = sorted(Path.cwd().rglob("*"))
    ran = invoke(*arguments)
    assert ran.exit_code == 2
    assert words in ran.stderr
    assert "Traceback" not in ran.stderr
    assert ran.stdout == ""
    assert sorted(Path.cwd().rglob("*")) == before


def test_hints_name_the_remedy(invoke):
    assert (
        "hint: leave --span out for a full circle, or give --no-wrap"
        in invoke("panorama", "sea", "--span", "90", "--wrap").stderr
    )
    assert "hint: say what to draw" in invoke("generate", "").stderr


def test_an_output_that_exists_is_refused_before_the_model_is_loaded(invoke):
    Path("outputs").mkdir()
    Path("outputs/00001_1_sea.image.png").touch()
    ran = invoke("generate", "sea", "--count", "2", "--device", "cuda:99")
    assert ran.exit_code == 2
    assert "outputs/00001_1_sea.image.png exists already" in ran.stderr
    assert "hint: add --overwrite" in ran.stderr
    assert invoke("generate", "sea", "--count", "2", "--overwrite", "--dry-run").exit_code == 0


def test_long_messages_stay_on_one_line(invoke):
    name = "x" * 200 + ".png"
    assert invoke("depth", name, COLUMNS="40").stderr == f"error: no file {name}\n"


def test_an_unknown_scheduler_gets_the_nearest_name(invoke):
    ran = invoke("generate", "sea", "--scheduler", "ddin", "--dry-run")
    assert ran.exit_code == 2
    assert "error: unknown scheduler ddin\nhint: did you mean ddim?" in ran.stderr


def test_a_model_that_is_not_there(invoke):
    ran = invoke("generate", "sea", "--model", "no/such/model")
    assert ran.exit_code == 2
    assert "no/such/model" in ran.stderr
