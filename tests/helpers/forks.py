"""Processes that are forked from a server in which the training code is imported already: importing it takes 10 seconds."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

PRELOADED = [
    f"jointnet_cli.training.{name}" for name in ("stages.base", "stages.joint", "stages.vae", "trainer", "preflight")
]


def start(function: Callable[..., object], *arguments: object, log: Path) -> BaseProcess:
    """Call `function`, which must be importable, in a forked process in the current folder; its output goes to `log`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_call, args=(function, arguments, Path.cwd(), log))
    process.start()
    return process


def launch(function: Callable[..., object], *arguments: object, processes: int, folder: Path) -> tuple[str, str]:
    """Call `function` in processes that torchrun's launcher starts; return what they print and what goes to stderr.

    Raises:
        ChildFailedError: a process failed.
    """
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=folder.name,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        start_method="forkserver",
        logs_specs=DefaultLogsSpecs(str(folder), redirects=Std.ALL),
    )
    handlers = {
        number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    }
    try:
        elastic_launch(config, _in_folder)(function, arguments, Path.cwd())
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    stdout, stderr = (sorted(folder.rglob(f"{name}.log")) for name in ("stdout", "stderr"))
    return "".join(path.read_text() for path in stdout), "".join(path.read_text() for path in stderr)


def jointnet(words: Sequence[str]) -> None:
    """Run the command line in this process."""
    from jointnet_cli.cli import app

    app(list(words), prog_name="jointnet", standalone_mode=False)


def train_sharded(record: dict[str, Any], environment: dict[str, str], whole: Path, resumed: Path, step: int) -> None:
    """Train with weights sharded over CPU processes, then go on from a copy of the checkpoint of `step`."""
    os.environ.update(environment)
    from accelerate import state
    from accelerate.utils import DistributedType

    accelerate = state.PartialState(cpu=True)
    state.PartialState._shared_state["distributed_type"] = DistributedType.MULTI_XPU  # accelerate never shards on CPUs
    train_record(record, whole)
    if accelerate.is_main_process:
        shutil.copytree(whole, resumed)
        shutil.rmtree(resumed / "model")
        for folder in (resumed / "state").iterdir():
            if int(folder.name) > step:
                shutil.rmtree(folder)
    accelerate.wait_for_everyone()
    train_record(record, resumed)
    torch.distributed.destroy_process_group()


def train_record(record: dict[str, Any], out: Path) -> None:
    """Train the recipe of a record."""
    from jointnet_cli.training.recipe import read_record
    from jointnet_cli.training.run import train

    train(read_record(record), out=out)


def _call(function: Callable[..., object], arguments: Sequence[object], folder: Path, log: Path) -> None:
    with log.open("a") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    _in_folder(function, arguments, folder)


def _in_folder(function: Callable[..., object], arguments: Sequence[object], folder: Path) -> None:
    torch.set_num_threads(1)
    os.chdir(folder)
    function(*arguments)
