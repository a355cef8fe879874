"""The optimizer of a recipe, and its learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec

import torch
from torch import nn
from torch.optim import Optimizer

from jointnet_cli.errors import UserError
from jointnet_cli.training.recipe import Train
from jointnet_cli.training.state import Clock


def require_optimizer(train: Train) -> None:
    """Refuse an optimizer that cannot work here.

    Raises:
        UserError: 8-bit AdamW without a GPU, or without bitsandbytes.
    """
    if train.optimizer != "adamw8bit":
        return
    if not torch.cuda.is_available():
        raise UserError("train.optimizer = 'adamw8bit' needs a CUDA GPU", hint="use train.optimizer = 'adamw'")
    if find_spec("bitsandbytes") is None:
        raise UserError("train.optimizer = 'adamw8bit' needs bitsandbytes", hint="pip install bitsandbytes")


def build_optimizer(train: Train, trained: Sequence[nn.Parameter]) -> Optimizer:
    """AdamW over the parameters that train."""
    settings = {"lr": train.learning_rate, "betas": train.betas, "weight_decay": train.weight_decay}
    if train.optimizer == "adamw8bit":
        from bitsandbytes.optim import AdamW8bit

        chosen: Optimizer = AdamW8bit(trained, **settings)
        return chosen
    return torch.optim.AdamW(trained, fused=True, **settings)  # type: ignore[arg-type]


def progress_of(train: Train, clock: Clock) -> float:
    """How much of the run is done, in [0, 1]: by steps or by minutes, whichever is nearer its end."""
    done = clock.step / train.max_steps
    if train.max_minutes is not None:
        done = max(done, clock.minutes / train.max_minutes)
    return min(done, 1.0)


def learning_rate(train: Train, clock: Clock) -> float:
    """Linear warm-up, then constant or a cosine over the run's progress."""
    rate = train.learning_rate * min(1.0, (clock.step + 1) / max(train.warmup_steps, 1))
    if train.schedule == "constant":
        return rate
    cosine = 0.5 * (1 + math.cos(math.pi * progress_of(train, clock)))
    return rate * (train.final_learning_rate + (1 - train.final_learning_rate) * cosine)
