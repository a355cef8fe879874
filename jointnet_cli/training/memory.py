"""How much memory a training step takes, measured on a network without weights; and how it takes less."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from jointnet_cli.training.recipe import Train

FLOAT = 4
"""Bytes of a number of the weights, the gradients and the average."""
STATE = {"adamw": 8, "adamw8bit": 2, "muon": 4}
"""Bytes of the moments of a number, by optimizer; few numbers are not part of a matrix."""


@dataclass(frozen=True)
class Memory:
    """Bytes that a process holds while it trains, without what is not trained beside the network, such as a VAE."""

    weights: int
    gradients: int
    optimizer: int
    average: int
    activations: int
    """What the backward pass of one micro-batch keeps of the forward pass."""

    @property
    def total(self) -> int:
        """Bytes at once, at the end of a forward pass."""
        return self.checkpoint + self.gradients + self.activations

    @property
    def checkpoint(self) -> int:
        """Bytes of a checkpoint on disk."""
        return self.weights + self.optimizer + self.average


def estimate(train: Train, network: nn.Module, forward: Callable[[], Tensor]) -> Memory:
    """The memory of training a network, which may be one of `FakeTensorMode`, on what `forward` computes with it."""
    if train.gradient_checkpointing:
        recompute_activations(network)
    network.train()
    trained = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    half = train.mixed_precision != "no"
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        activations = saved_bytes(network, forward)
    return Memory(
        weights=FLOAT * sum(parameter.numel() for parameter in network.parameters()),
        gradients=FLOAT * trained,
        optimizer=STATE[train.optimizer] * trained,
        average=FLOAT * trained if train.ema else 0,
        activations=activations,
    )


def without_values(network: nn.Module) -> None:
    """In a `FakeTensorMode`: let a network on the meta device have its parameters on the CPU, where operators are chosen as
    they will be, and still without values. Branches that share parameters share them still."""
    empty = {
        parameter: nn.Parameter(torch.empty(parameter.shape, dtype=parameter.dtype), parameter.requires_grad)
        for parameter in network.parameters()
    }
    for module in network.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = empty[parameter]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


def saved_bytes(network: nn.Module, forward: Callable[[], Tensor]) -> int:
    """Bytes of the distinct storages that a forward pass keeps for its backward pass, beside the network's own."""
    own = {_storage(tensor) for tensor in (*network.parameters(), *network.buffers())}
    kept: dict[int, Tensor] = {}  # the tensors live on, so that no storage gets the number of an earlier one

    def keep(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in own:
            kept.setdefault(_storage(tensor), tensor)
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        result = forward()
    del result
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def recompute_activations(network: nn.Module) -> None:
    """Let the blocks of every network inside compute their activations again in the backward pass (gradient checkpointing)."""
    module: Any
    for module in _outermost(network):
        if hasattr(module, "enable_gradient_checkpointing"):
            module.enable_gradient_checkpointing()
        else:
            module.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def _outermost(module: nn.Module) -> Iterator[nn.Module]:
    """The networks of diffusers and transformers in a module that can, without those inside of them."""
    if getattr(module, "_supports_gradient_checkpointing", False) or getattr(
        module, "supports_gradient_checkpointing", False
    ):
        yield module
        return
    for child in module.children():
        yield from _outermost(child)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
