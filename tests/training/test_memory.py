"""What a step keeps in memory: measured without weights it is what a real forward pass keeps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from jointnet_cli.training.inputs import find_inputs
from jointnet_cli.training.preflight import Memory, activation_bytes, estimate_memory
from jointnet_cli.training.run import open_stage
from jointnet_cli.training.stages.stage import Stage, enable_gradient_checkpointing

from .conftest import Tiny, losses_at, opened

RUNS = {"base": "vae", "joint-depth": "base", "inpaint": "joint", "vae": "vae"}


def measured(recipe: Any) -> tuple[Memory, Stage]:
    inputs = find_inputs(recipe)
    stage = open_stage(recipe, inputs, Path("nowhere"), weights=False)
    return estimate_memory(stage, inputs.side), stage


@pytest.mark.parametrize("recomputed", ["false", "true"])
@pytest.mark.parametrize("name", RUNS)
def test_the_estimate_is_what_a_step_keeps(
    tiny: Tiny, request: pytest.FixtureRequest, tmp_path: Path, name: str, recomputed: str
) -> None:
    request.getfixturevalue(f"{RUNS[name]}_run")
    recipe = tiny(name, f"train.gradient_checkpointing={recomputed}")
    memory, shapes = measured(recipe)
    stage = opened(recipe, tmp_path)
    network = stage.network.train()
    if recipe.train.gradient_checkpointing:
        enable_gradient_checkpointing(network)
    if name != "base":  # whose vocabulary is only as large as the captions made it
        expected = {key: (value.shape, value.requires_grad) for key, value in network.named_parameters()}
        assert expected == {key: (value.shape, value.requires_grad) for key, value in shapes.network.named_parameters()}
    frozen = [parameter for each in stage.networks[1:] for parameter in each.parameters()]
    assert memory.frozen == sum(parameter.nbytes for parameter in frozen)
    assert bool(frozen) == (name != "vae")
    real = activation_bytes(stage.networks, lambda: torch.stack(list(losses_at(stage, network).values())).sum())
    assert memory.activations == real


def test_the_parts_of_the_memory(tiny: Tiny, base_run: Path) -> None:
    recipe = tiny("joint-depth", "train.ema=0.9")
    memory, stage = measured(recipe)
    network = stage.network
    every = sum(parameter.numel() for parameter in network.parameters())
    trained = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    assert 0 < trained < every
    assert (memory.weights, memory.gradients) == (4 * every, 4 * trained)
    assert (memory.optimizer, memory.average) == (8 * trained, 4 * trained)
    assert memory.total == 4 * every + 16 * trained + memory.activations + memory.frozen


def test_a_light_branch_costs_its_adapters(tiny: Tiny, base_run: Path) -> None:
    full, _ = measured(tiny("joint-depth"))
    lora, stage = measured(tiny("joint-depth", "network.architecture=lora", "network.rank=2"))
    one = sum(parameter.numel() for parameter in stage.network.backbone("rgb").parameters())  # type: ignore[operator]
    assert lora.weights < full.weights - 4 * one / 2
    assert lora.optimizer < full.optimizer / 2


@pytest.mark.parametrize("name", ["base", "joint-depth", "vae"])
def test_recomputed_activations_give_the_same_gradients(
    tiny: Tiny, request: pytest.FixtureRequest, tmp_path: Path, name: str
) -> None:
    request.getfixturevalue(f"{RUNS[name]}_run")
    stage = opened(tiny(name), tmp_path)
    network = stage.network.train()

    def forward() -> Tensor:
        return torch.stack(list(losses_at(stage, network).values())).sum()

    def gradients() -> dict[str, Tensor | None]:
        network.zero_grad()
        forward().backward()
        return {key: value.grad for key, value in network.named_parameters()}

    kept, before = activation_bytes([network], forward), gradients()
    enable_gradient_checkpointing(network)
    assert activation_bytes([network], forward) < 0.5 * kept
    after = gradients()
    assert before.keys() == after.keys()
    for key, value in before.items():
        assert (value is None) == (after[key] is None)
        if value is not None:
            torch.testing.assert_close(after[key], value)


@pytest.mark.parametrize("family", ["sd2", "sdxl", "if"])
def test_every_family_of_bases_is_measured(tiny: Tiny, tiny_pipeline: Callable[[str], Path], family: str) -> None:
    settings = [f"model={tiny_pipeline(family)}", "data.cache=false"]
    for more in ([], ["masked_input=true", "masks.equal=1", "masks.image_known=0"]):
        memory, _ = measured(tiny("joint-depth", *settings, *more))
        assert memory.activations > 0 and memory.frozen > 0
