"""Start, synchronize and end the processes of a distributed run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
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

PATIENCE = timedelta(hours=6)
"""How long processes wait for each other, such as for the first one to encode a cached set. The launcher notices at once
when a process dies."""

TRACKING = "tracking"
"""Name of the trackers' folder in the run folder."""


def open_accelerator(mixed_precision: str, trackers: Sequence[str], run: Path) -> Accelerator:
    """Join the processes that `accelerate launch` or `torchrun` started; without either there is one process.

    Args:
        mixed_precision: `no`, `bf16` or `fp16`.
        trackers: where the log also goes, such as `tensorboard`.
        run: the run folder.

    Raises:
        UserError: float16 without a GPU.
    """
    gpu = torch.cuda.is_available()
    if mixed_precision == "fp16" and not gpu:
        raise UserError("train.mixed_precision = 'fp16' needs a GPU", hint="use 'bf16' or 'no'")
    return Accelerator(
        mixed_precision=mixed_precision,
        cpu=not gpu,
        log_with=list(trackers) or None,
        project_dir=str(run / TRACKING),
        # The trainer itself divides the loss and delays the exchange of gradients.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        kwargs_handlers=[
            DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True),
            InitProcessGroupKwargs(timeout=PATIENCE),
        ],
    )


def leave() -> None:
    """Leave the process group at the end of a command.

    Without this call gloo's threads outlive the interpreter and sometimes abort the process.
    """
    if distributed.is_initialized():
        distributed.destroy_process_group()


def is_sharded(accelerator: Accelerator) -> bool:
    """Return whether every process holds only a part of the weights (FSDP)."""
    return bool(accelerator.distributed_type == DistributedType.FSDP)


def require_shared_folder(accelerator: Accelerator, folder: Path) -> None:
    """Check that all processes see the same folder.

    Raises:
        UserError: one of them does not see a file of the main process.
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
    """State that all processes share at the end of a step."""

    now: float
    """Seconds on the main process's clock."""
    seconds: float
    """Seconds that the main process took for the step."""
    signal: int
    """The signal that any process received, or 0."""


class RankSync:
    """Exchange a few numbers between the processes without waiting for their GPUs."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._main, self._alone = accelerator.is_main_process, accelerator.num_processes == 1
        own = not self._alone and distributed.get_backend() != "gloo"
        self._group = distributed.new_group(backend="gloo", timeout=PATIENCE) if own else None

    def __call__(self, now: float, seconds: float = 0.0, signal: int = 0) -> StepEnd:
        """Return the main process's times and the highest signal; every process must call it."""
        if self._alone:
            return StepEnd(now, seconds, signal)
        told = torch.tensor([now if self._main else 0, seconds if self._main else 0, signal], dtype=torch.float64)
        distributed.all_reduce(told, distributed.ReduceOp.MAX, group=self._group)
        now, seconds, number = told.tolist()
        return StepEnd(now, seconds, int(number))
