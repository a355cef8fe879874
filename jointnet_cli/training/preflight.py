"""Checks before the first step: the data, the memory, the disk."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.filesize import decimal as size_text
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks

from jointnet_cli.data.shards.shard_set import ShardSet
from jointnet_cli.errors import UserError
from jointnet_cli.training.determinism import SampleRNG
from jointnet_cli.training.inputs import Inputs
from jointnet_cli.training.recipe import Recipe
from jointnet_cli.training.stages.stage import Stage, enable_gradient_checkpointing


@dataclass(frozen=True)
class Check:
    """The result of one check."""

    check: str
    found: str
    warning: bool = False
    """Whether the run may fail because of it."""

    @property
    def record(self) -> dict[str, Any]:
        """As a line of the log."""
        return {"warning" if self.warning else "check": f"{self.check}: {self.found}"}


def check_data(recipe: Recipe, shards: ShardSet) -> Check:
    """Check the samples.

    Raises:
        UserError: there are none, or they lack a map.
    """
    if recipe.streamed:
        return Check("data", shards.describe([name for name in recipe.data.maps if name not in recipe.data.label]))
    if len(shards) < recipe.train.batch_size:
        return Check("data", f"{len(shards)} samples, fewer than a batch of {recipe.train.batch_size}", warning=True)
    return Check("data", f"{len(shards):,} samples in {len(shards.shards):,} shards")


def preflight(inputs: Inputs, out: Path, open_stage: Callable[[], Stage]) -> Iterator[Check]:
    """Check the data, the memory and the disk that a run needs. No weights are read.

    Args:
        inputs: of the run. One sample is read where only the shards tell the size of the images.
        out: the run's folder.
        open_stage: opens the run's stage without weights.

    Raises:
        UserError: there is no data, or the stage cannot be opened.
    """
    train = inputs.recipe.train
    yield check_data(inputs.recipe, inputs.shards)
    side = None
    try:
        side = inputs.side
        memory = estimate_memory(open_stage(), side)
    except Exception as error:  # a failed estimate is no reason not to train
        if isinstance(error, UserError) and side is not None:  # but the run would refuse such a stage, too
            raise
        yield Check("memory", f"not estimated ({type(error).__name__}: {error})".splitlines()[0])
        return
    free, device = _free_memory()
    parts = ", ".join(f"{name} {size_text(value)}" for name, value in vars(memory).items() if value)
    found = f"{size_text(memory.total)} ({parts}) at {side}x{side}, {size_text(free)} free on {device}"
    yield Check("memory", found, warning=memory.total > free)
    # The newest checkpoint is there before the oldest goes.
    disk = (train.keep_checkpoints + 1) * memory.checkpoint + memory.weights
    free = shutil.disk_usage(_nearest(out)).free
    found = f"{size_text(disk)} for {train.keep_checkpoints + 1} checkpoints and the model, {size_text(free)} free"
    yield Check("disk", found, warning=disk > free)


def _free_memory() -> tuple[int, str]:
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0], torch.cuda.get_device_name()
    import psutil

    return psutil.virtual_memory().available, "the CPU"


def _nearest(folder: Path) -> Path:
    """Return the folder, or what is there of the way to it."""
    return next(place for place in (folder, *folder.resolve().parents) if place.is_dir())


FLOAT = 4
"""Bytes of a number of the weights, the gradients and the average."""

STATE = {"adamw": 8, "adamw8bit": 2, "muon": 4}
"""Bytes of the moments of a number, by optimizer; few numbers are not part of a matrix."""


@dataclass(frozen=True)
class Memory:
    """Bytes that a process holds while it trains."""

    weights: int
    gradients: int
    optimizer: int
    average: int
    activations: int
    """What the backward pass of one micro-batch keeps of the forward pass."""
    frozen: int
    """Networks that do not train, such as the VAE and the text encoders of a joint model."""

    @property
    def total(self) -> int:
        """Bytes at once, at the end of a forward pass."""
        return self.checkpoint + self.gradients + self.activations + self.frozen

    @property
    def checkpoint(self) -> int:
        """Bytes of a checkpoint on disk."""
        return self.weights + self.optimizer + self.average


def estimate_memory(stage: Stage, side: int) -> Memory:
    """Measure the memory of training a stage without weights on square images of a side in pixels.

    One real step is computed on tensors without values (`FakeTensorMode`). The stage cannot be used afterwards.
    """
    train, network = stage.settings, stage.network
    rng = SampleRNG(0, range(train.batch_size))
    with FakeTensorMode(allow_non_fake_inputs=True), warnings.catch_warnings(action="ignore"):
        for each in stage.networks:
            use_fake_cpu_parameters(each)
        if train.gradient_checkpointing:
            enable_gradient_checkpointing(network)
        network.train()
        batch = stage.example(side)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=train.mixed_precision != "no"):
            conditioning = stage.conditioning(batch, None)

            def forward() -> Tensor:
                return torch.stack(list(stage.loss(network, batch, conditioning, rng).values())).sum()

            activations = activation_bytes(stage.networks, forward)
    trained = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    return Memory(
        weights=FLOAT * sum(parameter.numel() for parameter in network.parameters()),
        gradients=FLOAT * trained,
        optimizer=STATE[train.optimizer] * trained,
        average=FLOAT * trained if train.ema else 0,
        activations=activations,
        frozen=sum(parameter.nbytes for each in stage.networks[1:] for parameter in each.parameters()),
    )


def use_fake_cpu_parameters(network: nn.Module) -> None:
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


def activation_bytes(networks: Sequence[nn.Module], forward: Callable[[], Tensor]) -> int:
    """Bytes of the distinct storages that a forward pass keeps for its backward pass, beside the networks' own."""
    own = {_storage(tensor) for each in networks for tensor in (*each.parameters(), *each.buffers())}
    kept: dict[int, Tensor] = {}  # the tensors live on, so that no storage gets the number of an earlier one

    def keep(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in own:
            kept.setdefault(_storage(tensor), tensor)
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        result = forward()
    del result
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
