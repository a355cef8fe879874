"""Checkpoints of a training, and averaged weights."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from jointnet_cli.errors import UserError
from jointnet_cli.files.atomic import follow_umask, set_aside
from jointnet_cli.files.paths import file_digest
from jointnet_cli.files.text import load_json, to_json

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
    record = load_json(checkpoint / CLOCK)
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


RUN = "run"
"""The file of a checkpoint that names its run: an identifier that all pieces of one run share."""


@dataclass
class Checkpoints:
    """The checkpoints of a run: `000001234/`, named by the step. One process at a time may change the folder.

    Only checkpoints of this run are ever deleted: those with its identifier, and the one that it resumed from. Damaged ones
    and those of other runs stay; where one is in the way it is renamed.
    """

    folder: Path
    keep: int
    run: str = field(default_factory=lambda: uuid4().hex)
    """Identifier of the run; `resume` takes it over from the checkpoint."""
    _resumed: int | None = None

    def path(self, step: int) -> Path:
        """Return the checkpoint of a step."""
        return self.folder / f"{step:09}"

    def partial(self, step: int) -> Path:
        """Return the folder in which the checkpoint of a step is written."""
        return self.folder / f"{step:09}.partial"

    def begin(self, step: int) -> None:
        """Start a checkpoint; remove unfinished ones."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob("[0-9]*.partial"):
            shutil.rmtree(left)
        self.partial(step).mkdir()

    def finish(self, step: int) -> None:
        """Give a complete checkpoint its name, then remove old ones of this run."""
        partial, path = self.partial(step), self.path(step)
        (partial / RUN).write_text(self.run)
        (partial / MANIFEST).write_text(to_json(_contents(partial), indent=1))
        follow_umask(partial)
        if path.exists():
            set_aside(path)
        partial.rename(path)
        own = [number for number in self.steps() if number <= step and self._is_own(number)]
        for number in own[: -self.keep]:
            shutil.rmtree(self.path(number))

    def steps(self) -> list[int]:
        """Return the steps with a checkpoint, in order.

        Raises:
            UserError: the folder cannot be read.
        """
        with _readable(self.folder):
            try:
                names = [entry.name for entry in os.scandir(self.folder) if entry.is_dir()]
            except FileNotFoundError:
                return []
        return sorted(int(name) for name in names if re.fullmatch("[0-9]{9,}", name))

    def newest(self) -> int | None:
        """Return the step of the newest intact checkpoint; `None` when there is none.

        Raises:
            UserError: a checkpoint cannot be read.
        """
        return next((step for step in reversed(self.steps()) if not find_faults(self.path(step))), None)

    def resume(self, warn: Callable[[str], None]) -> int | None:
        """Continue the run of the newest intact checkpoint and return its step; `None` where there are no checkpoints.

        Damaged checkpoints of later steps are renamed; `warn` receives what is wrong with each.

        Raises:
            UserError: a checkpoint cannot be read, or there are checkpoints and none is intact.
        """
        damaged: dict[int, str] = {}
        for step in reversed(self.steps()):
            if faults := find_faults(self.path(step)):
                damaged[step] = "; ".join(faults)
                continue
            for number, fault in damaged.items():
                kept = set_aside(self.path(number))
                warn(f"checkpoint {self.path(number)} is damaged ({fault}); kept as {kept.name}, going on from {step}")
            self._resumed = step
            with suppress(FileNotFoundError):  # older checkpoints name no run
                self.run = (self.path(step) / RUN).read_text()
            return step
        if damaged:
            raise UserError(
                f"no checkpoint of {self.folder} is intact: {_listed(damaged)}",
                hint="restore one of them, or pass --no-resume to begin at step 0; the damaged ones are kept",
            )
        return None

    def restart(self) -> None:
        """Rename all checkpoints, so that a run begins at step 0 beside them."""
        for step in self.steps():
            set_aside(self.path(step))

    def _is_own(self, step: int) -> bool:
        try:
            return step == self._resumed or (self.path(step) / RUN).read_text() == self.run
        except (OSError, UnicodeDecodeError):
            return False


def find_faults(checkpoint: Path) -> list[str]:
    """Return what is wrong with a checkpoint; nothing if its files have the sizes and hashes of its manifest.

    Other files in the folder, which file managers and network drives create, are ignored.

    Raises:
        UserError: it cannot be read. A fault of the disk or of the network is not damage.
    """
    with _readable(checkpoint):
        try:
            manifest = load_json(checkpoint / MANIFEST)
            wanted = {
                name: (entry["size"], entry["sha256"]) for name, entry in manifest.items() if not _is_foreign(name)
            }
        except _ABSENT:
            return [f"{MANIFEST} is missing"]
        except (UserError, ValueError, KeyError, TypeError, AttributeError):
            return [f"{MANIFEST} is damaged"]
        faults = [fault for name, (size, _) in wanted.items() if (fault := _size_fault(checkpoint / name, name, size))]
        if faults or not wanted:
            return faults or [f"{MANIFEST} lists no files"]
        with ThreadPoolExecutor(READERS) as readers:
            digests = readers.map(lambda name: file_digest(checkpoint / name), wanted)
            found = dict(zip(wanted, digests, strict=True))
    return [f"{name}: the SHA-256 differs" for name, (_, digest) in wanted.items() if found[name] != digest]


_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


def _size_fault(path: Path, name: str, size: int) -> str | None:
    try:
        status = path.stat()
    except _ABSENT:
        return f"{name} is missing"
    if not stat.S_ISREG(status.st_mode):
        return f"{name} is not a regular file"
    return None if status.st_size == size else f"{name} has {status.st_size} bytes rather than {size}"


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn a failed read into a `UserError` that says that nothing was changed."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{error.filename or path} cannot be read: {error.strerror or error}",
            hint="this is a fault of the disk, the network drive or the permissions; nothing was changed. Mend it, "
            "then give the same command again",
        ) from error


def _is_foreign(name: str) -> bool:
    """Return whether a file is one that a file manager or a network drive creates: `.DS_Store`, `@eaDir/x`, `Thumbs.db`."""
    return any(part.startswith((".", "@", "#")) or part.lower() in _FOREIGN for part in name.split("/"))


_FOREIGN = ("thumbs.db", "desktop.ini", "ehthumbs.db", "lost+found", "__macosx")


def _contents(folder: Path) -> dict[str, dict[str, Any]]:
    """Return size and hash of every file of a checkpoint."""
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    files = {name: path for name, path in paths.items() if name != MANIFEST and not _is_foreign(name)}
    with ThreadPoolExecutor(READERS) as readers:
        digests = readers.map(file_digest, files.values())
        found = zip(files.items(), digests, strict=True)
        return {name: {"size": path.stat().st_size, "sha256": digest} for (name, path), digest in found}


def _listed(faults: Mapping[int, str]) -> str:
    return ", ".join(f"{step:09} ({fault})" for step, fault in faults.items())


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
