"""The folder and the log of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from accelerate import Accelerator

from jointnet_cli.errors import UserError
from jointnet_cli.files.atomic import claim, set_aside, write_text
from jointnet_cli.files.paths import check_free
from jointnet_cli.files.text import from_json, load_json, to_json
from jointnet_cli.processes import TRACKING
from jointnet_cli.recipe_file import toml_value
from jointnet_cli.training.checkpoints import Checkpoints
from jointnet_cli.training.recipe import Train, read_record, to_toml_record

if TYPE_CHECKING:
    from torch import Tensor

Log = Callable[[dict[str, Any]], None]
"""Receives the records of a run."""

OnStep = Callable[[int, float, Mapping[str, "Tensor"]], None]
"""Receives the number of a step, the share of the run that is done, in [0, 1], and the step's losses. Reading a loss waits
for the GPU."""


def require_trackers(train: Train) -> None:
    """Refuse trackers that are not installed.

    Raises:
        UserError: with the line that installs them.
    """
    missing = [name for name in train.trackers if find_spec(name) is None]
    if missing:
        raise UserError(f"train.trackers: {missing[0]} is not installed", hint=f"pip install {' '.join(missing)}")


def set_run_aside(out: Path) -> None:
    """Rename all that a run left in its folder, so that another begins at step 0 there. Without checkpoints there was none."""
    checkpoints = Checkpoints(out / "state", keep=1)
    if not checkpoints.steps():
        return
    checkpoints.restart()
    for name in ("log.jsonl", "model", "models", "previews", "tokenizer", TRACKING):
        if (out / name).exists():
            set_aside(out / name)


class RunLog:
    """Writes the records of a run; only the main process has one that does."""

    def __init__(self, run: Path, accelerator: Accelerator, log: Log) -> None:
        self._path = run / "log.jsonl"
        self._accelerator, self._log = accelerator, log

    def open(self, step: int, settings: dict[str, Any]) -> None:
        """Continue after a step; drop the lines of later steps, which a killed process left behind.

        Where a line before them is damaged, the log as it was is kept under another name.
        """
        if self._accelerator.is_main_process and self._path.is_file():
            lines = self._path.read_bytes().splitlines(keepends=True)
            steps = [_step_of(line) for line in lines]
            if None in steps[:-1]:  # a kill cuts only the last line
                path = set_aside(self._path)
                self._log({"warning": f"a line of {self._path} is damaged; the log as it was is kept as {path.name}"})
            kept = [line for line, number in zip(lines, steps, strict=True) if number is not None and number <= step]
            write_text(self._path, b"".join(kept).decode())
        if self._accelerator.log_with:
            name = self._path.parent.resolve().name
            options: dict[str, Any] = {"tensorboard": {"purge_step": step + 1}}
            if "wandb" in map(str, self._accelerator.log_with):
                options["wandb"] = self._wandb(name)
            plain = {
                key: value if isinstance(value, bool | int | float | str) else to_json(value)
                for key, value in _leaves(settings)
            }
            self._accelerator.init_trackers(name, plain, init_kwargs=options)

    def write(self, line: dict[str, Any]) -> None:
        """Add the record of a step."""
        if self._accelerator.is_main_process:
            with self._path.open("a") as log:
                log.write(to_json(line) + "\n")
        self._accelerator.log({key: value for key, value in line.items() if key != "step"}, step=line["step"])
        self._log(line)

    def close(self) -> None:
        """Let the trackers finish."""
        for tracker in self._accelerator.trackers:
            tracker.finish()

    def _wandb(self, name: str) -> dict[str, Any]:
        """Return wandb's options; all pieces of a run continue one run of wandb."""
        kept = self._path.parent / TRACKING / "wandb-id"
        if self._accelerator.is_main_process and not kept.is_file():
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_text(kept, uuid4().hex)
        self._accelerator.wait_for_everyone()
        return {"id": kept.read_text(), "resume": "allow", "name": name, "dir": str(kept.parent)}


def _step_of(line: bytes) -> float | None:
    """Return the step of a line; `None` for a line that was cut off or damaged."""
    try:
        return float(from_json(line)["step"])
    except (ValueError, KeyError, TypeError):
        return None


FREE = {
    "train": {
        *("max_steps", "max_minutes", "log_every", "checkpoint_minutes", "keep_checkpoints"),
        *("preview_minutes", "preview_steps", "export_steps", "trackers"),
        *("batch_size", "accumulation", "gradient_checkpointing"),
    },
    "data": {"workers"},
}
"""Settings that may change between the pieces of a run. The trainer checks that a step keeps its number of samples."""

SHOWN = 3
"""Changed settings that a message lists."""


def check_run_folder(out: Path, record: dict[str, Any], resume: bool) -> None:
    """Check that a run folder is new or holds a run with the same settings, apart from those in `FREE`.

    Without `resume` it must be new, or all its checkpoints must be damaged.

    Raises:
        UserError: it cannot be written to, a setting has changed, or the run is not to be resumed.
    """
    before = out / "recipe.json"
    check_free([before], overwrite=True)
    if not resume:
        checkpoints = Checkpoints(out / "state", 1)
        steps = checkpoints.steps()
        if checkpoints.newest() is not None or (before.exists() and not steps):
            raise UserError(f"{out} holds a run already", hint="pass --resume to continue it, or choose another --out")
        return
    if not before.exists():
        return
    try:  # as a recipe, so that a key that is new since then has its default
        old = _fixed(to_toml_record(read_record(load_json(before))))
    except ValueError as error:
        cause = str(error).splitlines()[0]
        raise UserError(
            f"{before} is damaged: {cause}",
            hint="remove it to continue the run with the settings of this command, or choose another --out",
        ) from error
    new = _fixed(record)
    changed = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    if changed:
        values = [f"{key} = {_toml(old.get(key))}, now {_toml(new.get(key))}" for key in changed[:SHOWN]]
        more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        raise UserError(
            f"{out} holds a run with other settings: {'; '.join(values)}{more}",
            hint="keep the settings of the run to continue it, or choose another --out",
        )


def _fixed(record: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that must not change between the pieces of a run, by their keys such as `train.seed`."""
    free = {"description", *(f"{table}.{key}" for table, keys in FREE.items() for key in keys)}
    return {key: value for key, value in _leaves(record) if key not in free}


def _leaves(settings: dict[str, Any], table: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the settings of nested tables by their keys, such as `train.seed`."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{table}{key}.")
        else:
            yield f"{table}{key}", value


def _toml(value: Any) -> str:
    return "not set" if value is None else toml_value(value)


@contextmanager
def run_folder(out: Path) -> Iterator[None]:
    """Create a run folder and lock it while entered; folders that are still empty at the end are removed.

    The lock dies with its process.

    Raises:
        UserError: another process trains in the folder.
    """
    created = [folder for folder in (out, *out.parents) if not folder.exists()]
    out.mkdir(parents=True, exist_ok=True)
    try:
        with claim(out / "training") as lock:
            if lock is None:
                raise UserError(
                    f"another process trains in {out}", hint="wait for it or stop it, or choose another --out"
                )
            yield
    finally:
        for folder in created:
            with suppress(OSError):  # it is not empty
                folder.rmdir()
