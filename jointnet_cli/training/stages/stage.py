"""What the trainer needs to know of a stage: its network, its loss, its pictures and its output folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from jointnet_cli.errors import UserError
from jointnet_cli.training.batches import Batch
from jointnet_cli.training.determinism import RankSampler, SampleRNG
from jointnet_cli.training.recipe import Train


def copy_weights(source: nn.Module, target: nn.Module, what: str) -> None:
    """Start a network from another's weights.

    Raises:
        UserError: the two are not the same network; `what` is the recipe's table that describes it.
    """
    try:
        target.load_state_dict(source.state_dict())
    except RuntimeError as error:
        raise UserError(
            f"[{what}] does not describe the network to start from: {str(error).splitlines()[1].strip()}",
            hint=f"give [{what}] the earlier recipe's values, or leave out start",
        ) from error


class Stage(Protocol):
    """One kind of training (the autoencoder, the base model, the joint model)."""

    @property
    def settings(self) -> Train:
        """How to optimise."""

    @property
    def network(self) -> nn.Module:
        """What trains; parameters with `requires_grad` off stay as they are."""

    def batches(self, share: RankSampler, step: int) -> Iterator[Batch]:
        """This process's micro-batches from a step on, without end; a function of share and step alone."""

    def loss(self, network: nn.Module, batch: Batch, draws: SampleRNG) -> dict[str, Tensor]:
        """The named losses of a batch; their sum is minimised. All randomness comes from `draws`."""

    def preview(self, path: Path) -> None:
        """Write a PNG that shows what the network does now."""

    def export(self, folder: Path, facts: dict[str, object]) -> None:
        """Write the finished model; `facts` (steps, minutes, machine, final losses) go into its records."""


def enable_gradient_checkpointing(network: nn.Module) -> None:
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
