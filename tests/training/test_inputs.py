"""What a recipe starts from; a missing input leads to a command that works without the network."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from jointnet_cli.errors import UserError
from jointnet_cli.files.paths import shipped_files
from jointnet_cli.model.folder import EMBEDDED
from jointnet_cli.model.hub import find_model
from jointnet_cli.model.published import export_model
from jointnet_cli.training.inputs import find_inputs, missing_inputs
from jointnet_cli.training.recipe import JointRecipe, load_recipe
from jointnet_cli.training.run import train

from .conftest import Tiny

TRAINING = [name for name in shipped_files() if not name.startswith("prepare/")]
PREPARE = "jointnet prepare worlds --count 128 --size 128 --out shards/worlds"


def settings_of(hint: str) -> list[str]:
    """The `--set`s of the last command of a hint."""
    words = shlex.split(hint.rpartition(" && ")[2])
    return [words[number + 1] for number, word in enumerate(words) if word == "--set"]


@pytest.mark.parametrize("name", TRAINING)
def test_every_recipe_leads_to_a_command_that_works_offline(
    name: str, tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        find_inputs(load_recipe(name), name)
    hint = caught.value.hint or ""
    assert hint.startswith(f"to try it without the network: {PREPARE} && jointnet train {name}")
    (tmp_path / "shards").symlink_to(workspace / "shards")
    recipe = load_recipe(name, settings_of(hint))
    inputs = find_inputs(recipe, name)
    assert not list(missing_inputs(recipe)) and len(inputs.shards) == 12
    if isinstance(recipe, JointRecipe):
        assert recipe.data.size in (None, 128)
        assert recipe.model == ("diorama" if name == "diorama/inpaint" else "diorama/base")


@pytest.mark.parametrize("name", ["depth", "diorama/base"])
def test_the_command_passes_its_dry_run(
    name: str, tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        train(load_recipe(name), out=tmp_path / "run", name=name)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "shards").symlink_to(workspace / "shards")
    checks: list[str] = []
    recipe = load_recipe(name, settings_of(caught.value.hint or ""))
    train(recipe, out=tmp_path / "run", dry_run=True, log=lambda line: checks.extend(line.values()))
    assert [check.partition(":")[0] for check in checks] == ["data", "memory", "disk"]
    assert not any("not estimated" in check for check in checks)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU keeps the precision of the recipe")
def test_shards_that_are_there_are_used(workspace: Path) -> None:
    with pytest.raises(UserError) as caught:
        find_inputs(load_recipe("depth"), "mine.toml")
    assert caught.value.hint == (
        "to try it without the network: jointnet train mine.toml --set data.shards=shards/worlds "
        "--set model=diorama/base --set 'data.label={}' --set data.size=128 --set train.mixed_precision=no --max-minutes 5"
    )
    with pytest.raises(UserError) as caught:
        find_inputs(load_recipe("diorama/joint", ["model=nowhere"]), "diorama/joint")
    assert caught.value.hint == (
        "to try it without the network: jointnet train diorama/joint --set model=diorama/base "
        "--set train.mixed_precision=no"
    )


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("overrides", "words", "hint"),
    [
        (["model=diorama"], "diorama has the branches rgb, depth, normal", "data.maps=['rgb', 'depth', 'normal']"),
        (["network.architecture=lora"], "has the architecture jointnet", "--set network.architecture=jointnet"),
    ],
)
def test_a_dry_run_refuses_what_the_run_refuses(
    tiny: Tiny, joint_run: Path, tmp_path: Path, dry_run: bool, overrides: list[str], words: str, hint: str
) -> None:
    recipe = tiny("joint-depth", f"model={joint_run / 'model'}", *overrides)
    with pytest.raises(UserError, match=words) as caught:
        train(recipe, out=tmp_path / "run", dry_run=dry_run)
    assert hint in (caught.value.hint or "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["vae", "base"])
def test_a_dry_run_compares_the_network_to_start_from(tiny: Tiny, base_run: Path, tmp_path: Path, name: str) -> None:
    wrong = "vae.layers_per_block=2" if name == "vae" else "unet.block_out_channels=[16, 48]"
    with pytest.raises(UserError, match="does not describe"):
        train(tiny(name, f"start={Path('runs', name, 'model')}", wrong), out=tmp_path / "run", dry_run=True)


def test_the_embedded_vae_has_a_name(workspace: Path) -> None:
    inputs = find_inputs(load_recipe("diorama/base", ["vae=diorama"]))
    assert inputs.vae == EMBEDDED / "vae" and inputs.model is None


@pytest.mark.parametrize(
    ("base", "words"), [(None, "holds no base model: --set base=NAME"), ("no/such-model", "no/such-model comes from")]
)
def test_a_published_model_without_its_base_leads_to_a_command_that_works_offline(
    joint_run: Path, tmp_path: Path, base: str | None, words: str
) -> None:
    export_model(find_model(str(joint_run / "model")), tmp_path / "published")
    overrides = [f"model={tmp_path / 'published'}", *([f"base={base}"] if base else [])]
    recipe = load_recipe("diorama/joint-depth", overrides)
    assert any(words in missing.description for missing in missing_inputs(recipe))
    if base is None:  # the other is looked for on the hub
        with pytest.raises(UserError, match=words) as caught:
            find_inputs(recipe, "diorama/joint-depth")
        find_inputs(load_recipe("diorama/joint-depth", [*overrides, *settings_of(caught.value.hint or "")]))


def test_images_have_a_size_that_the_network_can_work_on(tiny_pipeline: Callable[[str], Path], workspace: Path) -> None:
    changes = [f"model={tiny_pipeline('sd2')}", f"data.shards={workspace}/shards/worlds", "data.label={}"]
    with pytest.raises(UserError, match=r"data\.size 45 is not a multiple of") as caught:
        find_inputs(load_recipe("depth", [*changes, "data.size=45"]), "depth")
    assert caught.value.hint is not None and caught.value.hint.startswith("--set data.size=4")
    find_inputs(load_recipe("depth", [*changes, caught.value.hint.removeprefix("--set ")]), "depth")
