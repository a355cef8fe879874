"""The folder and the log of a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

from accelerate import Accelerator

from jointnet_cli.errors import UserError
from jointnet_cli.files.atomic import write_text
from jointnet_cli.files.text import to_json
from jointnet_cli.processes import TRACKING
from jointnet_cli.training.recipe import Train, read_record, to_toml_record

Log = Callable[[dict[str, Any]], None]


def require_trackers(train: Train) -> None:
    """Refuse trackers that are not installed.

    Raises:
        UserError: with the line that installs them.
    """
    missing = [name for name in train.trackers if find_spec(name) is None]
    if missing:
        raise UserError(f"train.trackers: {missing[0]} is not installed", hint=f"pip install {' '.join(missing)}")


class RunLog:
    """Writes the records of a run; only the main process has one that does."""

    def __init__(self, run: Path, accelerator: Accelerator, log: Log) -> None:
        self._path = run / "log.jsonl"
        self._accelerator, self._log = accelerator, log

    def open(self, step: int, settings: dict[str, Any]) -> None:
        """Go on after a step: lines of later ones, which a piece that was killed left behind, are dropped."""
        if self._accelerator.is_main_process and self._path.is_file():
            lines = self._path.read_text().splitlines(keepends=True)
            write_text(self._path, "".join(line for line in lines if _step_of(line) <= step))
        if self._accelerator.log_with:
            name = self._path.parent.resolve().name
            options: dict[str, Any] = {"tensorboard": {"purge_step": step + 1}}
            if "wandb" in map(str, self._accelerator.log_with):
                options["wandb"] = self._wandb(name)
            self._accelerator.init_trackers(name, _flat(settings), init_kwargs=options)

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
        """Return the pieces of a run go on with one of wandb's."""
        kept = self._path.parent / TRACKING / "wandb-id"
        if self._accelerator.is_main_process and not kept.is_file():
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_text(kept, uuid4().hex)
        self._accelerator.wait_for_everyone()
        return {"id": kept.read_text(), "resume": "allow", "name": name, "dir": str(kept.parent)}


def _step_of(line: str) -> float:
    """Return the step of a line; a line that a kill cut off belongs to none."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


def _flat(settings: dict[str, Any], table: str = "") -> dict[str, Any]:
    """Return nested settings as one table of plain values, as trackers take them."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{table}{key}.")
        else:
            flat[f"{table}{key}"] = value if isinstance(value, bool | int | float | str) else to_json(value)
    return flat


FREE = {
    "train": {
        *("max_steps", "max_minutes", "log_every", "checkpoint_minutes", "keep_checkpoints"),
        *("preview_minutes", "preview_steps", "export_steps", "trackers"),
        *("batch_size", "accumulation", "gradient_checkpointing"),
    },
    "data": {"workers"},
}
"""What may change between the pieces of a run; the samples of a step stay as many, which the trainer sees to."""


def _fixed(record: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe less what may change between the pieces of a run."""
    kept = {
        table: {key: value for key, value in record[table].items() if key not in free} for table, free in FREE.items()
    }
    return {**record, **kept}


def check_run_folder(out: Path, record: dict[str, Any], resume: bool) -> None:
    """Make sure that a run folder is new or holds a run of the same recipe.

    Raises:
        UserError: another recipe, or a run that is not to be resumed.
    """
    before = out / "recipe.json"
    if not before.exists():
        return
    if not resume:
        raise UserError(f"{out} holds a run already", hint="give --resume to go on with it, or another --out")
    # Read as a recipe, so that a key that is new since then has its default.
    old = to_toml_record(read_record(json.loads(before.read_text())))
    if _fixed(old) != _fixed(record):
        raise UserError(f"{out} holds a run of another recipe", hint="choose another --out")
