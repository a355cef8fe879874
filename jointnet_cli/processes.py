"""The processes of a run, one or many: how they start, and what they agree on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import torch
from accelerate import Accelerator
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    GradientAccumulationPlugin,
    InitProcessGroupKwargs,
    broadcast_object_list,
    gather_object,
)
from torch import distributed

from jointnet_cli.errors import UserError

if TYPE_CHECKING:
    from jointnet_cli.training.recipe import Train

PATIENCE = timedelta(hours=6)
"""How long processes wait for each other: the first encodes the samples of a cached set while the others wait. A process that
died is noticed by the launcher at once."""

TRACKING = "tracking"
"""Folder of what trackers write, in the run's."""


def open_accelerator(train: Train, run: Path) -> Accelerator:
    """Join the processes that `accelerate launch` or `torchrun` started; without either the run has one.

    Raises:
        UserError: float16 without a GPU.
    """
    gpu = torch.cuda.is_available()
    if train.mixed_precision == "fp16" and not gpu:
        raise UserError("train.mixed_precision = 'fp16' needs a GPU", hint="use 'bf16' or 'no'")
    return Accelerator(
        mixed_precision=train.mixed_precision,
        cpu=not gpu,
        log_with=list(train.trackers) or None,
        project_dir=str(run / TRACKING),
        # The trainer divides the loss and holds the exchange of gradients back itself.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        kwargs_handlers=[
            DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True),
            InitProcessGroupKwargs(timeout=PATIENCE),
        ],
    )


def leave() -> None:
    """Part from the other processes, at the end of a command.

    Groups that are left to the interpreter's end abort the process now and then: gloo's threads outlive it.
    """
    if distributed.is_initialized():
        distributed.destroy_process_group()


def is_sharded(accelerator: Accelerator) -> bool:
    """Whether every process holds only a part of the weights (FSDP)."""
    return bool(accelerator.distributed_type == DistributedType.FSDP)


def require_shared_folder(accelerator: Accelerator, folder: Path) -> None:
    """Make sure that all processes see the same folder.

    Raises:
        UserError: one does not see what the main process wrote.
    """
    if accelerator.num_processes == 1:
        return
    token = broadcast_object_list([folder / f".shared-{uuid4().hex[:8]}"])[0]
    if accelerator.is_main_process:
        token.touch()
    accelerator.wait_for_everyone()
    seen = gather_object([token.exists()])
    if accelerator.is_main_process:
        token.unlink()
    if not all(seen):
        raise UserError(f"not all nodes see the same {folder}", hint="give --out on a file system that they share")


@dataclass(frozen=True)
class StepEnd:
    """What all processes know at the end of a step."""

    now: float
    """Seconds on the main process's clock."""
    seconds: float
    """How long the main process took for the step."""
    signal: int
    """The signal that any process received, or 0."""


class RankSync:
    """Exchanges a few numbers between the processes without waiting for their GPUs."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._main, self._alone = accelerator.is_main_process, accelerator.num_processes == 1
        own = not self._alone and distributed.get_backend() != "gloo"
        self._group = distributed.new_group(backend="gloo", timeout=PATIENCE) if own else None

    def __call__(self, now: float, seconds: float = 0.0, signal: int = 0) -> StepEnd:
        """The main process's times and the highest of the signals; every process has to call it."""
        if self._alone:
            return StepEnd(now, seconds, signal)
        told = torch.tensor([now if self._main else 0, seconds if self._main else 0, signal], dtype=torch.float64)
        distributed.all_reduce(told, distributed.ReduceOp.MAX, group=self._group)
        now, seconds, number = told.tolist()
        return StepEnd(now, seconds, int(number))
