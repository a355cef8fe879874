"""Checkpoints of a training, and averaged weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from jointnet_cli.files.paths import file_digest
from jointnet_cli.files.text import to_json

WEIGHTS = "model.safetensors"
"""The file of a checkpoint that holds the network, as accelerate names it."""

MANIFEST = "manifest.json"
"""Size and SHA-256 of every file of a checkpoint; written last."""

READERS = 4


@dataclass
class Clock:
    """Steps and minutes of work done, over all pieces of a run."""

    step: int = 0
    minutes: float = 0.0

    def advance(self, seconds: float) -> None:
        """Count one step that took so many seconds."""
        self.step += 1
        self.minutes += seconds / 60


CLOCK = "clock.json"


def save_clock(clock: Clock, samples: int, checkpoint: Path) -> None:
    """Write a clock and the number of samples of a step."""
    (checkpoint / CLOCK).write_text(to_json({**asdict(clock), "samples_a_step": samples}))


def load_clock(checkpoint: Path) -> tuple[Clock, int]:
    """Read what `save_clock` wrote."""
    record = json.loads((checkpoint / CLOCK).read_text())
    samples = record.pop("samples_a_step")
    return Clock(**record), samples


def distinct_weights(network: nn.Module) -> dict[str, Tensor]:
    """Return the state of a network for a file: contiguous, and each tensor that branches share under one name."""
    firsts = {id(value): name for name, value in reversed(network.state_dict(keep_vars=True).items())}
    state = network.state_dict()
    return {name: state[name].contiguous() for name in firsts.values()}


def gather_weights(accelerator: Accelerator, network: nn.Module) -> dict[str, Tensor]:
    """Return the weights that are spread over the processes; every process must call it."""
    state = accelerator.get_state_dict(network)
    return {name: value.full_tensor() if hasattr(value, "full_tensor") else value for name, value in state.items()}


def load_weights(network: nn.Module, path: Path) -> None:
    """Read a file of `distinct_weights`.

    Raises:
        RuntimeError: the file is of another network.
    """
    weights = load_file(path)
    if weights.keys() != distinct_weights(network).keys():
        raise RuntimeError(f"{path} holds the weights of another network")
    network.load_state_dict(weights, strict=False)  # the further names of shared ones are not there


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of a run: `000001234/`, named by the step. One process at a time may change the folder."""

    folder: Path
    keep: int

    def path(self, step: int) -> Path:
        """Return the checkpoint of a step."""
        return self.folder / f"{step:09}"

    def partial(self, step: int) -> Path:
        """Return the folder in which the checkpoint of a step is written."""
        return self.folder / f"{step:09}.partial"

    def begin(self, step: int) -> None:
        """Start a checkpoint; remove unfinished ones."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob("*.partial"):
            shutil.rmtree(left)
        self.partial(step).mkdir()

    def finish(self, step: int) -> None:
        """Give a complete checkpoint its name, then remove old ones.

        Checkpoints of later steps are damaged, or the run would have resumed from one.
        """
        partial, path = self.partial(step), self.path(step)
        (partial / MANIFEST).write_text(to_json(_contents(partial), indent=1))
        if path.exists():
            shutil.rmtree(path)
        partial.rename(path)
        earlier = [number for number in self.steps() if number <= step]
        for number in set(self.steps()) - set(earlier[-self.keep :]):
            shutil.rmtree(self.path(number))

    def steps(self) -> list[int]:
        """Return the steps with a checkpoint, in order."""
        return sorted(int(path.name) for path in self.folder.glob("*") if path.name.isdecimal())

    def newest(self) -> int | None:
        """Return the step of the newest intact checkpoint; `None` when there is none."""
        return next((step for step in reversed(self.steps()) if is_whole(self.path(step))), None)


def is_whole(checkpoint: Path) -> bool:
    """Return whether a checkpoint is intact: its files have the sizes and hashes that were written."""
    try:
        manifest = json.loads((checkpoint / MANIFEST).read_text())
        return bool(manifest) and manifest == _contents(checkpoint, manifest)
    except (OSError, ValueError):
        return False


def _contents(folder: Path, sizes: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return size and hash of every file of a checkpoint; without hashes where a size differs from `sizes`."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    files.pop(MANIFEST, None)
    found = {name: {"size": path.stat().st_size} for name, path in files.items()}
    if sizes is not None and found != {name: {"size": entry["size"]} for name, entry in sizes.items()}:
        return found
    with ThreadPoolExecutor(READERS) as readers:
        digests = readers.map(file_digest, files.values())
        return {name: {**found[name], "sha256": digest} for name, digest in zip(files, digests, strict=True)}


STEPS = "steps"


def build_average(trained: Sequence[nn.Parameter], decay: float) -> EMAModel:
    """Start an average from the weights, on their device; of sharded weights from this process's part."""
    return EMAModel(local_parts(trained), decay=decay, foreach=True)


def local_parts(trained: Sequence[nn.Parameter]) -> list[Tensor]:
    """Return this process's part of every parameter: all of it, unless it is sharded."""
    return [parameter.to_local() if hasattr(parameter, "to_local") else parameter for parameter in trained]


def save_average(average: EMAModel, path: Path) -> None:
    """Write an average; of sharded weights this process's part."""
    tensors = {f"{number:05}": tensor.contiguous() for number, tensor in enumerate(average.shadow_params)}
    save_file({**tensors, STEPS: torch.tensor(average.optimization_step)}, path)


def load_average(average: EMAModel, path: Path) -> None:
    """Read what `save_average` wrote.

    Raises:
        KeyError, RuntimeError: the file is of other weights.
    """
    tensors = load_file(path)
    average.optimization_step = int(tensors[STEPS])
    for number, tensor in enumerate(average.shadow_params):
        tensor.copy_(tensors[f"{number:05}"])
