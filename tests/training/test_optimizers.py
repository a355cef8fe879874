"""The optimizers of a recipe."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from jointnet_cli.errors import UserError
from jointnet_cli.training.optimizers import MuonWithAdamW, build_optimizer, orthogonal, require_optimizer
from jointnet_cli.training.recipe import Train

MUON = Train(batch_size=1, learning_rate=0.1, max_steps=1, optimizer="muon", weight_decay=0.3, betas=(0.8, 0.9))


def network() -> nn.Module:
    """Weights of every kind, with gradients."""
    torch.manual_seed(0)
    made = nn.ModuleDict(
        {"table": nn.Embedding(5, 4), "linear": nn.Linear(4, 6), "conv": nn.Conv2d(3, 8, 3), "norm": nn.LayerNorm(4)}
    )
    made["norm"].weight.requires_grad_(False)
    return made


def give_gradients(made: nn.Module) -> None:
    generator = torch.Generator().manual_seed(1)
    for parameter in made.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.randn(parameter.shape, generator=generator)


def stepped(made: nn.Module, times: int = 1) -> nn.Module:
    optimizer = build_optimizer(MUON, made)
    for _ in range(times):
        give_gradients(made)
        optimizer.step()
    return made


def test_muon_takes_matrices_and_convolutions() -> None:
    made = network()
    matrices, others = (set(group["params"]) for group in build_optimizer(MUON, made).param_groups)
    assert matrices == {made["linear"].weight, made["conv"].weight}
    assert others == {made["table"].weight, made["linear"].bias, made["conv"].bias, made["norm"].bias}


def test_each_part_steps_as_torch_s_own() -> None:
    made, settings = stepped(network(), times=2), {"lr": 0.1, "weight_decay": 0.3}
    alike = network()
    view = nn.Parameter(alike["conv"].weight.detach().flatten(1))
    table = alike["table"].weight
    torch_s = torch.optim.Muon([view], adjust_lr_fn="match_rms_adamw", **settings)  # type: ignore[arg-type]
    adamw = torch.optim.AdamW([table], betas=(0.8, 0.9), **settings)  # type: ignore[arg-type]
    for _ in range(2):
        give_gradients(alike)
        view.grad = alike["conv"].weight.grad.flatten(1)  # type: ignore[union-attr]
        torch_s.step()
        adamw.step()
    # torch works in bfloat16, which has three digits; a step changes a weight by about 0.02.
    torch.testing.assert_close(made["conv"].weight.flatten(1), view, rtol=0, atol=2e-3)
    torch.testing.assert_close(made["table"].weight, table)


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (5, 5)])
def test_a_step_s_matrix_keeps_its_singular_vectors(shape: tuple[int, int]) -> None:
    """The values of the iteration's polynomial, worked out on the singular values alone."""
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    u, values, v = torch.linalg.svd(matrix, full_matrices=False)
    values = values / values.norm()
    for _ in range(5):
        values = 3.4445 * values - 4.775 * values**3 + 2.0315 * values**5
    made = orthogonal(matrix, (3.4445, -4.775, 2.0315), 5)
    torch.testing.assert_close(made, u @ torch.diag(values) @ v)
    assert values.min() > 0.6 and values.max() < 1.3


def test_the_order_in_memory_changes_nothing() -> None:
    """A convolution with channels last is the same matrix with its columns in another order."""
    first = stepped(network())
    second = stepped(network().to(memory_format=torch.channels_last))  # type: ignore[call-overload]
    assert second["conv"].weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(first["conv"].weight, second["conv"].weight, rtol=0, atol=1e-6)


def test_frozen_alone_or_matrices_alone() -> None:
    linear = nn.Linear(3, 3, bias=False)
    assert [len(group["params"]) for group in build_optimizer(MUON, linear).param_groups] == [1]
    norm = nn.LayerNorm(3)
    assert [len(group["params"]) for group in build_optimizer(MUON, norm).param_groups] == [2]


def test_muon_needs_whole_matrices() -> None:
    with pytest.raises(UserError, match="whole matrices"):
        build_optimizer(MUON, network(), sharded=True)


def test_an_older_torch_has_no_muon(monkeypatch: pytest.MonkeyPatch) -> None:
    require_optimizer(MUON)
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(UserError, match=r"torch 2\.9"):
        require_optimizer(MUON)


def test_gradients_are_let_go() -> None:
    linear = nn.Linear(3, 3, bias=False)
    optimizer = MuonWithAdamW([linear.weight], [], 0.1, (0.9, 0.9), 0.0)
    linear.weight.grad = torch.ones(3, 3)
    optimizer.step()
    assert all(view.grad is None for _, view in optimizer._views)


def test_a_state_follows_weights_that_have_moved() -> None:
    """Here to another type, as elsewhere to a GPU."""
    made = network()
    first = build_optimizer(MUON, made)
    give_gradients(made)
    first.step()
    saved = first.state_dict()
    moved = network()
    second = build_optimizer(MUON, moved)
    moved.double()
    second.load_state_dict(saved)
    for parameter in moved.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = moved["conv"].weight.detach().clone()
    second.step()
    assert moved["conv"].weight.dtype == torch.float64
    assert not torch.equal(moved["conv"].weight, before)


def test_a_learned_rate_reaches_both_parts() -> None:
    made = network()
    optimizer = build_optimizer(MUON, made)
    give_gradients(made)
    before = [parameter.detach().clone() for parameter in made.parameters()]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    optimizer.step()
    for parameter, value in zip(made.parameters(), before, strict=True):
        assert torch.equal(parameter, value)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_only_what_trains_moves(optimizer: str) -> None:
    made = network()
    given = build_optimizer(MUON.model_copy(update={"optimizer": optimizer}), made)
    give_gradients(made)
    given.step()
    assert torch.equal(made["norm"].weight, torch.ones(4))
    assert not torch.equal(made["linear"].weight, network()["linear"].weight)
