"""Failures of a training, explained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from jointnet_cli.errors import UserError
from jointnet_cli.training.recipe import Train


class RunFailed(UserError):
    """A training that cannot go on as it is set; the command line exits with code 1."""


def not_finite(step: int, train: Train) -> RunFailed:
    """Return that the loss or the gradient of a step was infinite or not a number."""
    precision = "" if train.mixed_precision == "no" else ", or train in float32 (train.mixed_precision = 'no')"
    return RunFailed(
        f"the loss or its gradient is no longer finite at step {step}; the last checkpoint is from before",
        hint=f"lower train.learning_rate or train.gradient_clip{precision}, and start a new run",
    )


@contextmanager
def memory_faults_explained(train: Train) -> Iterator[None]:
    """Turn an exhausted memory into a `RunFailed` that says how to need less."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not _is_exhaustion(error):
            raise
        raise RunFailed(
            f"out of memory with micro-batches of {train.batch_size}: {(str(error) or 'MemoryError').splitlines()[0]}",
            hint="; ".join(_remedies(train)),
        ) from error


def _is_exhaustion(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _remedies(train: Train) -> Iterator[str]:
    if train.batch_size > 1:
        parts = 2 if train.batch_size % 2 == 0 else train.batch_size
        batch, accumulation = train.batch_size // parts, train.accumulation * parts
        yield f"set train.batch_size={batch} and train.accumulation={accumulation}, which trains the same steps"
    if not train.gradient_checkpointing:
        yield "set train.gradient_checkpointing=true"
    if train.optimizer == "adamw":
        yield "or train.optimizer='adamw8bit'"
    yield "or train on smaller images (data.size, data.crop)"
