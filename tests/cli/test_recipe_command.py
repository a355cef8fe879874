"""`jointnet recipe`, as a user runs it."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from jointnet_cli.data.settings import prepare_settings
from jointnet_cli.files.paths import shipped_files
from jointnet_cli.training.recipe import load_recipe

FILES = shipped_files()
TRAINING = [name for name in FILES if not name.startswith("prepare/")]


@pytest.fixture(autouse=True)
def _no_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _own_folder: None) -> None:
    monkeypatch.setenv("JOINTNET_MODELS", str(tmp_path / "models"))


def test_list(invoke):
    lines = invoke("recipe", "list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == sorted(FILES)
    records = [json.loads(line) for line in invoke("recipe", "list", "--json").stdout.splitlines()]
    assert {record["recipe"]: record["path"] for record in records} == {name: str(path) for name, path in FILES.items()}
    found = {record["recipe"]: record for record in records}
    assert found["prepare/coyo"]["stage"] == "prepare" and found["diorama/vae"]["stage"] == "vae"
    assert all(record["description"] in line for record, line in zip(records, lines, strict=True))


@pytest.mark.parametrize("name", ["depth", "prepare/coyo", "recipes/diorama/vae.toml"])
def test_show_prints_the_file(invoke, name):
    key = name.removeprefix("recipes/").removesuffix(".toml")
    assert invoke("recipe", "show", name).stdout == FILES[key].read_text(encoding="utf-8")


def test_show_with_settings_replaced(invoke):
    shown = invoke("recipe", "show", "depth", "--set", "train.max_steps=7", "--set", "data.shards=mine").stdout
    values = tomllib.loads(shown)
    assert values["train"]["max_steps"] == 7 and values["data"]["shards"] == "mine"
    assert "seed" not in values["train"]  # what the file does not say is left out
    refused = invoke("recipe", "show", "depth", "--set", "train.max_step=7")
    assert refused.exit_code == 2 and "did you mean max_steps?" in refused.stderr


@pytest.mark.parametrize("name", TRAINING)
def test_resolved_is_the_same_recipe_with_nothing_left_open(invoke, name):
    shown = invoke("recipe", "show", name, "--resolved").stdout
    Path("resolved.toml").write_text(shown, encoding="utf-8")
    recipe = load_recipe(name)
    assert load_recipe("resolved.toml") == recipe
    stated = {line.split()[1] if line[:1] == "#" else line.split(" ")[0] for line in shown.splitlines()}
    assert {*type(recipe.train).model_fields, *type(recipe.data).model_fields} - stated <= {"label"}


def test_resolved_recipe_of_a_download(invoke):
    Path("resolved.toml").write_text(invoke("recipe", "show", "prepare/coyo", "--resolved").stdout, encoding="utf-8")
    assert prepare_settings("resolved.toml") == prepare_settings("prepare/coyo")


def test_copy(invoke):
    assert invoke("recipe", "copy", "diorama/joint-depth").stdout == "joint-depth.toml\n"
    assert Path("joint-depth.toml").read_bytes() == FILES["diorama/joint-depth"].read_bytes()
    Path("joint-depth.toml").write_text("mine")
    again = invoke("recipe", "copy", "diorama/joint-depth")
    assert again.exit_code == 2 and "exists already" in again.stderr and "--overwrite" in again.stderr
    assert Path("joint-depth.toml").read_text() == "mine"
    assert invoke("recipe", "copy", "diorama/joint-depth", "--overwrite").exit_code == 0
    assert invoke("recipe", "copy", "depth", "new/mine.toml").stdout == "new/mine.toml\n"
    assert invoke("recipe", "copy", "depth", "new").stdout == "new/depth.toml\n"
    assert sorted(path.name for path in Path("new").iterdir()) == ["depth.toml", "mine.toml"]
    missing = invoke("recipe", "copy", "depht")
    assert missing.exit_code == 2 and "did you mean depth?" in missing.stderr


def test_check_accepts_every_shipped_recipe(invoke):
    checked = invoke("recipe", "check", *FILES)
    assert checked.exit_code == 0 and checked.stdout.split() == list(FILES)


def test_check_reports_every_fault_and_goes_on(invoke):
    text = FILES["depth"].read_text(encoding="utf-8")
    Path("spelt.toml").write_text(text.replace("max_steps", "max_step"), encoding="utf-8")
    Path("stageless.toml").write_text(text.replace('stage = "joint"', ""), encoding="utf-8")
    Path("download.toml").write_text("[image]\nsise = 3\n", encoding="utf-8")
    Path("broken.toml").write_text("[data", encoding="utf-8")
    names = ["spelt.toml", "stageless.toml", "download.toml", "broken.toml", "none.toml"]
    checked = invoke("recipe", "check", *names, "finetune")
    assert (checked.exit_code, checked.stdout) == (2, "finetune\n")
    errors = [line for line in checked.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 5 and all(name in line for name, line in zip(names, errors, strict=True))
    for hint in ("did you mean max_steps?", "did you mean size?"):
        assert f"hint: {hint}" in checked.stderr


def test_check_notes_what_is_not_there(invoke, untrained):
    noted = invoke("recipe", "check", "normal")
    assert noted.exit_code == 0
    said = [line for line in noted.stderr.splitlines() if line.startswith("normal: ")]
    said = [line for line in noted.stderr.splitlines() if line.startswith("normal: ")]
    for words in (
        "no complete shards in shards/coyo",
        "comes from the hub",
        "omnidata_dpt_normal_v2.ckpt is not there",
    ):
        assert any(words in line for line in said)
    assert "no trained VAE in runs/vae/model" in invoke("recipe", "check", "diorama/base").stderr
    assert "no model in runs/depth/model" in invoke("recipe", "check", "finetune").stderr
    assert "not looked up" in invoke("recipe", "check", "depth", "--set", "data.shards=s3://bucket/coyo").stderr
    assert invoke("recipe", "check", "normal", "--quiet").stderr == ""
    assert invoke("recipe", "check", "prepare/coyo").stderr == ""
    there = invoke("recipe", "check", "depth", "--set", f"model={untrained}").stderr
    assert "model" not in there and "shards" in there
