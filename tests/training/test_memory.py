"""What a step keeps in memory: measured without weights it is what a real forward pass keeps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from jointnet_cli.training.preflight import Memory, activation_bytes, estimate, use_fake_cpu_parameters
from jointnet_cli.training.run import open_stage
from jointnet_cli.training.sketch import draw, image_side
from jointnet_cli.training.stages.stage import enable_gradient_checkpointing

from .conftest import SIZE, Tiny, losses_at

RUNS = {"base": "vae", "joint-depth": "base", "inpaint": "joint", "vae": "vae"}


def measured(recipe: object, side: int) -> tuple[Memory, nn.Module]:
    sketch = draw(recipe, side)  # type: ignore[arg-type]
    with FakeTensorMode():
        use_fake_cpu_parameters(sketch.network)
        return estimate(recipe.train, sketch.network, sketch.forward), sketch.network  # type: ignore[attr-defined]


@pytest.mark.parametrize("recomputed", ["false", "true"])
@pytest.mark.parametrize("name", RUNS)
def test_the_estimate_is_what_a_step_keeps(
    tiny: Tiny, request: pytest.FixtureRequest, tmp_path: Path, name: str, recomputed: str
) -> None:
    request.getfixturevalue(f"{RUNS[name]}_run")
    recipe = tiny(name, f"train.gradient_checkpointing={recomputed}")
    memory, sketch = measured(recipe, image_side(recipe))
    stage = open_stage(recipe, tmp_path, lambda line: None)
    network = stage.network.train()
    if recipe.train.gradient_checkpointing:
        enable_gradient_checkpointing(network)
    shapes = {key: (value.shape, value.requires_grad) for key, value in network.named_parameters()}
    if name != "base":  # whose vocabulary is only as large as the captions made it
        assert shapes == {key: (value.shape, value.requires_grad) for key, value in sketch.named_parameters()}
    real = activation_bytes(network, lambda: torch.stack(list(losses_at(stage, network).values())).sum())
    assert memory.activations == pytest.approx(real, rel=0.2)  # of which the losses' own tensors are a part


def test_the_parts_of_the_memory(tiny: Tiny, base_run: Path) -> None:
    recipe = tiny("joint-depth", "train.ema=0.9")
    memory, network = measured(recipe, SIZE)
    every = sum(parameter.numel() for parameter in network.parameters())
    trained = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    assert 0 < trained < every
    assert (memory.weights, memory.gradients) == (4 * every, 4 * trained)
    assert (memory.optimizer, memory.average) == (8 * trained, 4 * trained)
    assert memory.total == 4 * every + 16 * trained + memory.activations


def test_a_light_branch_costs_its_adapters(tiny: Tiny, base_run: Path) -> None:
    full, _ = measured(tiny("joint-depth"), SIZE)
    light, network = measured(tiny("joint-depth", "network.architecture=light", "network.rank=2"), SIZE)
    one = sum(parameter.numel() for parameter in network.unet("rgb").parameters())  # type: ignore[operator]
    assert light.weights < full.weights - 4 * one / 2
    assert light.optimizer < full.optimizer / 2


@pytest.mark.parametrize("name", ["base", "joint-depth", "vae"])
def test_recomputed_activations_give_the_same_gradients(
    tiny: Tiny, request: pytest.FixtureRequest, tmp_path: Path, name: str
) -> None:
    request.getfixturevalue(f"{RUNS[name]}_run")
    stage = open_stage(tiny(name), tmp_path, lambda line: None)
    network = stage.network.train()

    def forward() -> Tensor:
        return torch.stack(list(losses_at(stage, network).values())).sum()

    def gradients() -> dict[str, Tensor | None]:
        network.zero_grad()
        forward().backward()
        return {key: value.grad for key, value in network.named_parameters()}

    kept, before = activation_bytes(network, forward), gradients()
    enable_gradient_checkpointing(network)
    assert activation_bytes(network, forward) < 0.5 * kept
    after = gradients()
    assert before.keys() == after.keys()
    for key, value in before.items():
        assert (value is None) == (after[key] is None)
        if value is not None:
            torch.testing.assert_close(after[key], value)
