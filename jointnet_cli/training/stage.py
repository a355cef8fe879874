"""What the trainer needs to know of a stage: its network, its loss, its pictures and its output folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from jointnet_cli.errors import UserError
from jointnet_cli.training.batch import Batch
from jointnet_cli.training.draws import Draws
from jointnet_cli.training.recipe import Train
from jointnet_cli.training.share import Share


def training_device() -> torch.device:
    """Where stages keep what they only read, such as a frozen VAE: the GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def kept_near(values: Tensor) -> Tensor:
    """What every step reads, on the training device where it takes at most a quarter of the memory that is free there."""
    device = training_device()
    if device.type == "cpu":
        return values
    free, _ = torch.cuda.mem_get_info(device)
    return values.to(device) if values.nbytes <= free // 4 else values


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

    def batches(self, share: Share, step: int) -> Iterator[Batch]:
        """This process's micro-batches from a step on, without end; a function of share and step alone."""

    def loss(self, network: nn.Module, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """The named losses of a batch; their sum is minimised. All randomness comes from `draws`."""

    def preview(self, path: Path) -> None:
        """Write a PNG that shows what the network does now."""

    def export(self, folder: Path, facts: dict[str, object]) -> None:
        """Write the finished model; `facts` (steps, minutes, machine, final losses) go into its records."""
