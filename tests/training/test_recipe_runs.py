"""Shipped recipes for every family of bases and every architecture, two steps each on tiny bases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from jointnet_cli.model.checkpoint import load_model
from jointnet_cli.model.folder import read_folder
from jointnet_cli.model.jointnet_json import JOINTNET, LORA
from jointnet_cli.training.recipe import JointRecipe, load_recipe
from jointnet_cli.training.run import train
from jointnet_cli.training.stages.joint import JointStage

from .conftest import log_of, opened

Folders = Callable[[str], Path]
Joints = Callable[[str, list[str]], Path]
SMALL = [
    *("train.max_steps=2", "train.warmup_steps=1", "train.batch_size=2", "train.log_every=1", "train.optimizer=adamw"),
    *("train.mixed_precision=no", "data.shards=shards/worlds", "data.size=32", "data.limit=6", "data.workers=0"),
    *("data.cache=true", "data.label={}", "preview_prompts=[]"),
]
FIRST = [
    ("depth", "sd2"),
    ("depth-normal", "sd2"),
    ("sdxl-depth", "sdxl"),
    ("if-depth", "if"),
    ("baselines/direct-extend", "sd2"),
    ("baselines/controlnet-direct-extend", "sd2"),
    ("lora-depth", "sd2"),
    ("baselines/direct-extend", "if"),
]
"""Recipes that start from a base, and the family of a base that they suit."""
SECOND = ["finetune", "inpaint"]
"""Recipes that start from a model of the first stage."""
pytestmark = pytest.mark.usefixtures("workspace")  # shards for the data of the recipes


def trained(out: Path, name: str, model: Path, *overrides: str) -> tuple[JointRecipe, Path, list[dict[str, float]]]:
    recipe = load_recipe(name, [*SMALL, f"model={model}", *overrides])
    assert isinstance(recipe, JointRecipe)
    folder = train(recipe, out=out)
    log = log_of(out)
    return recipe, folder, log


@pytest.mark.parametrize(("name", "family"), FIRST)
def test_the_first_stage(tmp_path: Path, tiny_pipeline: Folders, name: str, family: str) -> None:
    base = tiny_pipeline(family)
    recipe, folder, log = trained(tmp_path, name, base)
    names = recipe.data.maps
    assert [line["step"] for line in log] == [1, 2]
    assert all(0 < line[branch] < 5 for line in log for branch in names)
    facts = read_folder(folder)
    assert facts.branches == names and facts.family == read_folder(base).family
    assert facts.architecture == recipe.network.architecture
    if facts.architecture != JOINTNET:
        return
    before, after, rate = load_model(base).joint.backbone("rgb"), load_model(folder).joint, recipe.train.learning_rate
    assert all(
        torch.equal(value, after.backbone("rgb").state_dict()[key]) for key, value in before.state_dict().items()
    )
    assert all(moved(before, after.backbone(branch), rate) > 0.9 for branch in names[1:])


@pytest.mark.parametrize(("name", "family"), FIRST)
def test_before_the_first_step(tmp_path: Path, tiny_pipeline: Folders, name: str, family: str) -> None:
    """JointNet and the LoRA branch are the base on every branch, bit for bit; the baselines' depth is RGB's prediction."""
    base = load_model(tiny_pipeline(family))
    stage = opened(load_recipe(name, [*SMALL, f"model={tiny_pipeline(family)}"]), tmp_path)
    assert isinstance(stage, JointStage)
    network, unet = stage.model.joint.eval(), base.joint.backbone("rgb")
    network.requires_grad_(True)  # as the base's are: locked weights take other kernels, which round otherwise
    size, generator = unet.config.sample_size, torch.Generator().manual_seed(0)
    latents = torch.randn(2, len(network.names), network.channels, size, size, generator=generator)
    given, timestep = base.encode_text(["a hut", ""]), torch.tensor([7, 800])
    with torch.inference_mode():
        together = network(latents, timestep, given).unbind(1)
        apart = [base.joint(own[:, None], timestep, given)[:, 0] for own in latents.unbind(1)]
    if network.architecture in (JOINTNET, LORA):
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(together, apart, strict=True))
    else:
        torch.testing.assert_close(together[0], apart[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together[1], apart[0], atol=1e-5, rtol=1e-5)
        assert (together[1] - apart[1]).abs().mean() > 0.1 * apart[1].std()


def test_the_variance_of_a_pixel_model_trains(tmp_path: Path, tiny_pipeline: Folders) -> None:
    base = tiny_pipeline("if")
    recipe, folder, log = trained(tmp_path / "with", "if-depth", base)
    before = load_model(base).joint.backbone("rgb").conv_out.bias
    after = load_model(folder).joint.backbone("depth").conv_out.bias
    assert ((after - before)[3:].abs() > recipe.train.learning_rate / 2).all()
    _, alone, without = trained(tmp_path / "without", "if-depth", base, "objective.variance_weight=0")
    still = load_model(alone).joint.backbone("depth").conv_out.bias
    assert ((still - before)[3:].abs() < recipe.train.learning_rate / 10).all()
    assert log[0]["depth"] > without[0]["depth"]  # the bound is counted, and the first step's noise is the same


@pytest.mark.parametrize("name", SECOND)
def test_the_second_stage(tmp_path: Path, tiny_joint: Joints, name: str) -> None:
    start = tiny_joint("sd2", ["depth"])
    recipe, folder, log = trained(tmp_path, name, start)
    assert len(log) == 2 and read_folder(folder).masked_input is recipe.masked_input
    before, after, rate = load_model(start).joint, load_model(folder).joint, recipe.train.learning_rate
    assert all(moved(before.backbone(branch), after.backbone(branch), rate) > 0.9 for branch in recipe.data.maps)


def moved(before: torch.nn.Module, after: torch.nn.Module, rate: float) -> float:
    """The share of a network's tensors that took a step of AdamW's size; weight decay alone is a hundredth of it."""
    first, last = before.state_dict(), after.state_dict()
    return sum(bool((last[key] - first[key]).abs().max() > rate / 2) for key in first) / len(first)
