"""The exponential moving average of the weights that train, and its file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

STEPS = "steps"


def build_average(trained: Sequence[nn.Parameter], decay: float) -> EMAModel:
    """An average that begins with the weights as they are, beside them on their device; of sharded ones with their parts."""
    return EMAModel(local_parts(trained), decay=decay, foreach=True)


def local_parts(trained: Sequence[nn.Parameter]) -> list[Tensor]:
    """What this process holds of every parameter: all of it, unless it is sharded."""
    return [parameter.to_local() if hasattr(parameter, "to_local") else parameter for parameter in trained]


def save_average(average: EMAModel, path: Path) -> None:
    """Write an average; of sharded weights this process's part."""
    tensors = {f"{number:05}": tensor.contiguous() for number, tensor in enumerate(average.shadow_params)}
    save_file({**tensors, STEPS: torch.tensor(average.optimization_step)}, path)


def load_average(average: EMAModel, path: Path) -> None:
    """Read what `save_average` wrote.

    Raises:
        KeyError, RuntimeError: it is that of other weights.
    """
    tensors = load_file(path)
    average.optimization_step = int(tensors[STEPS])
    for number, tensor in enumerate(average.shadow_params):
        tensor.copy_(tensors[f"{number:05}"])
