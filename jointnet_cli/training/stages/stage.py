"""The interface between the trainer and a stage, and what all stages share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from jointnet_cli.errors import UserError
from jointnet_cli.training.batches import Batch
from jointnet_cli.training.determinism import RankSampler, SampleRNG
from jointnet_cli.training.previews import Pictures
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
    """One kind of training (the autoencoder, the base model, the joint model).

    A stage that is opened without weights reads no weights and no samples: its networks are on the meta device. It has
    everything that `estimate_memory` needs: `networks`, `example`, `conditioning` and `loss`.
    """

    @property
    def settings(self) -> Train:
        """How to optimise."""

    @property
    def network(self) -> nn.Module:
        """What trains; parameters with `requires_grad` off stay as they are."""

    @property
    def networks(self) -> Sequence[nn.Module]:
        """Every network that the stage holds while it trains, `network` first."""

    def batches(self, sampler: RankSampler, step: int) -> Iterator[Batch]:
        """Yield this process's micro-batches from a step on, without end; a function of sampler and step alone."""

    def example(self, side: int) -> Batch:
        """Return a micro-batch of empty square images of a side in pixels."""

    def conditioning(self, batch: Batch, rng: SampleRNG | None) -> Any:
        """Return what the network is told beside the images. It makes the first draw of a step; without `rng` no caption
        is dropped."""

    def loss(self, network: nn.Module, batch: Batch, conditioning: Any, rng: SampleRNG) -> dict[str, Tensor]:
        """Return the named losses of a batch; their sum is minimised. All randomness comes from `rng`."""

    def preview(self) -> Pictures | None:
        """Return pictures that show what the network does now."""

    def export(self, folder: Path, details: dict[str, object]) -> None:
        """Write the finished model; `details` (steps, minutes, machine) go into its records."""


def default_device(weights: bool) -> AbstractContextManager[Any]:
    """Make new networks on the CPU, or without weights on the meta device."""
    return nullcontext() if weights else torch.device("meta")


def training_device() -> torch.device:
    """Return where stages keep what they only read, such as a frozen VAE: the GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def to_device_if_fits(values: Tensor) -> Tensor:
    """Move what every step reads to the training device if it takes at most a quarter of the memory that is free there."""
    device = training_device()
    if device.type == "cpu":
        return values
    free, _ = torch.cuda.mem_get_info(device)
    return values.to(device) if values.nbytes <= free // 4 else values


def enable_gradient_checkpointing(network: nn.Module) -> None:
    """Let the blocks of every network inside compute their activations again in the backward pass (gradient checkpointing)."""
    module: Any
    for module in _outermost(network):
        if hasattr(module, "enable_gradient_checkpointing"):
            module.enable_gradient_checkpointing()
        else:
            module.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def _outermost(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the networks of diffusers and transformers in a module that can, without those inside of them."""
    if getattr(module, "_supports_gradient_checkpointing", False) or getattr(
        module, "supports_gradient_checkpointing", False
    ):
        yield module
        return
    for child in module.children():
        yield from _outermost(child)
