"""`jointnet doctor` with settings, models and recipes that other commands refuse, and misspelt variables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture
def examine(invoke, tmp_path):
    """Run the command without a model that loads, in a folder of its own."""

    def run(*arguments: str, **environment: str):
        models = {"JOINTNET_MODELS": str(tmp_path / "models"), **environment}
        return invoke("doctor", "--model", "no/such/model", *arguments, HF_HUB_OFFLINE="1", **models)

    return run


def test_it_reports_where_no_model_loads(examine):
    ran = examine("--json", JOINTNET_STEPS="4")
    report = json.loads(ran.stdout)
    assert ran.exit_code == 1
    assert report["versions"]["python"] and report["versions"]["torch"] != "missing"
    assert "cpu" in report["machine"]["devices"]
    assert report["model"]["loads"] is False
    assert report["settings"]["JOINTNET_STEPS"] == "4"
    assert len(report["problems"]) == 1 and report["problems"][0].startswith("no/such/model: ")


def test_bad_settings_are_reported_and_their_defaults_taken(examine):
    bad = {
        "JOINTNET_STEPS": "many",
        "JOINTNET_DTYPE": "float99",
        "JOINTNET_QUIET": "perhaps",
        "JOINTNET_SCHEDULER": "ddmi",
        "JOINTNET_GUIDANCE": "nan",
    }
    ran = examine("--json", **bad)
    problems = json.loads(ran.stdout)["problems"]
    assert ran.exit_code == 1
    assert {problem.partition(" ")[0].strip(":") for problem in problems} >= set(bad)
    assert "JOINTNET_STEPS must be a whole number, got 'many'" in problems
    assert "JOINTNET_DTYPE must be float32, float16 or bfloat16, got 'float99'" in problems


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("JOINTNET_STEP", "JOINTNET_STEPS"),
        ("JOINTNET_GUIDENCE", "JOINTNET_GUIDANCE"),
        ("JOINTNET_MODLES", "JOINTNET_MODELS"),
        ("JOINNET_STEPS", "JOINTNET_STEPS"),
        ("jointnet_steps", "JOINTNET_STEPS"),
        ("JOINTNET_XYZQ", None),
    ],
)
def test_misspelt_variables_are_named_with_the_closest_match(invoke, name, near):
    """By every command on stderr; `--quiet` silences it."""
    expected = f"warning: {name} is not a variable of jointnet" + (f"; did you mean {near}?" if near else "")
    ran = invoke("models", "show", "diorama", "--json", **{name: "4"})
    assert ran.exit_code == 0 and ran.stderr == f"{expected}\n"
    assert not invoke("recipe", "check", "depth", "--quiet", **{name: "4"}).stderr


def test_doctor_lists_misspelt_variables(examine):
    problems = json.loads(examine("--json", JOINTNET_STEP="4", JOINT_VENTURE="1").stdout)["problems"]
    assert [problem for problem in problems if problem.startswith("JOINT")] == [
        "JOINTNET_STEP is not a variable of jointnet; did you mean JOINTNET_STEPS?"
    ]


def test_unreadable_models_and_recipes_are_reported(examine, invoke, tmp_path):
    broken = tmp_path / "models/broken"
    broken.mkdir(parents=True)
    (broken / "model_index.json").write_text("{")
    (tmp_path / "models/notes").mkdir()
    Path("recipes").mkdir()
    Path("recipes/mine.toml").write_text("description = 1\nstage = 'joint'\n")
    Path("torn.toml").write_text("[train\n")
    Path("pyproject.toml").write_text("[project]\nname = 'x'\n")
    problems = "\n".join(json.loads(examine("--json").stdout)["problems"])
    assert "broken: " in problems and "model_index.json cannot be read" in problems
    assert "recipes/mine.toml" in problems and "torn.toml: not a valid TOML file" in problems
    assert "notes" not in problems and "pyproject" not in problems
    listed = invoke("models", "list", JOINTNET_MODELS=str(tmp_path / "models"))
    assert listed.exit_code == 0 and "diorama" in listed.stdout
    assert "error: broken: " in listed.stderr and "notes" not in listed.stderr


def test_the_text_has_at_most_60_lines(examine, tmp_path):
    for number in range(40):
        (tmp_path / f"models/{number}").mkdir(parents=True)
        (tmp_path / f"models/{number}/model_index.json").write_text("")
    wrong = {f"JOINTNET_VARIABLE_{number}": "1\n" * 9 for number in range(40)}
    shown = examine(**wrong).stdout
    assert shown.startswith("versions\n  python ")
    assert "\n  loads          no\n" in shown and "more (all with --json)" in shown
    assert len(shown.splitlines()) <= 60
