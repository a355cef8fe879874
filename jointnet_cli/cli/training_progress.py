"""Show a training on stderr: a progress bar on a terminal, one line a stage elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from jointnet_cli.cli.console import note, stderr
from jointnet_cli.files.text import to_json

if TYPE_CHECKING:
    from rich.progress import Progress
    from torch import Tensor

INTERVAL = 0.5
"""Seconds between two updates of the losses, because reading one waits for the GPU."""

NOT_LOSSES = {"step", "minutes", "progress", "samples_per_second", "learning_rate", "memory_gib", "gradient_norm"}
"""Keys of a step's record beside the losses."""

PHASES = {"counted": "count shards", "encoded": "encode shards"}
"""Work before the first step, by the key of its records."""


class TrainingProgress:
    """Receives the records and steps of a run.

    Args:
        stage: `vae`, `base` or `joint`.
        batch: samples of a step, of all processes.
        as_json: print records on stdout, one JSON object a line.
        quiet: show nothing on stderr.
        bar: the bar of a terminal; `None` elsewhere.
    """

    def __init__(self, stage: str, batch: int, *, as_json: bool, quiet: bool, bar: Progress | None) -> None:
        self._stage, self._batch, self._json, self._quiet, self._bar = stage, batch, as_json, quiet, bar
        self._task = bar.add_task(stage, total=1.0, detail="") if bar else None
        self.last: dict[str, Any] = {}
        self._begun: tuple[float, int, float] | None = None
        self._updated = 0.0
        self._detail = ""

    def log(self, record: dict[str, Any]) -> None:
        """Show a record of the run."""
        if self._json:
            print(to_json(record), flush=True)
        phase = next((key for key in PHASES if key in record), None)
        if phase:
            self._show_phase(PHASES[phase], record[phase], record["shards"])
        elif "step" in record:
            self.last = record
        elif "resumed" in record and not self._json:
            self._note(f"{self._stage}: resumed at step {record['resumed']:,}, {record['minutes']:.3g} min")
        elif not self._json:
            self._note("  ".join(f"{key} {_short(value)}" for key, value in record.items()))

    def step(self, step: int, progress: float, losses: Mapping[str, Tensor]) -> None:
        """Show a step on the bar; `progress` is the share of the run that is done, in [0, 1]."""
        if self._bar is None or self._task is None:
            return
        now = time.monotonic()
        if self._begun is None:
            self._begun = (now, step, progress)
        elif now - self._updated >= INTERVAL or progress >= 1:
            self._updated = now
            then, first, share = self._begun
            speed = (step - first) * self._batch / max(now - then, 1e-6)
            left = (1 - progress) * (now - then) / max(progress - share, 1e-9)
            parts = [f"{name} {value:.4g}" for name, value in _losses({key: float(x) for key, x in losses.items()})]
            self._detail = "  ".join([*parts, f"{speed:.3g} samples/s", f"{_duration(left)} left"])
        words = f"{self._stage}  step {step:,}"
        self._bar.update(self._task, completed=progress, description=words, detail=self._detail)

    def finish(self) -> None:
        """Print the last step that was logged."""
        if self.last and not self._json:
            losses = [f"{name} {value:.4g}" for name, value in _losses(self.last)]
            speed, minutes = self.last["samples_per_second"], self.last["minutes"]
            parts = [f"step {self.last['step']:,}", *losses, f"{speed:.3g} samples/s", f"{minutes:.3g} min"]
            note(f"{self._stage}: {', '.join(parts)}", self._quiet)

    def _show_phase(self, phase: str, done: int, total: int) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task, completed=done / total, description=f"{self._stage}  {phase}", detail=f"{done}/{total}"
            )
        elif done == total and not self._json:
            self._note(f"{self._stage}: {phase}, {total} of {total}")

    def _note(self, line: str) -> None:
        if self._bar is not None and not self._quiet:
            self._bar.console.print(line, markup=False)
        else:
            note(line, self._quiet)


@contextmanager
def training_progress(stage: str, batch: int, *, as_json: bool, quiet: bool) -> Iterator[TrainingProgress]:
    """Show a training while entered; a line about the last step takes the place of the bar."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
    from rich.table import Column

    console = stderr()
    columns = (
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
        BarColumn(12),
        TaskProgressColumn(),
        TextColumn("{task.fields[detail]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
    )
    show_bar = console.is_terminal and not quiet
    bar = Progress(*columns, console=console, transient=True, redirect_stdout=False) if show_bar else None
    shown = TrainingProgress(stage, batch, as_json=as_json, quiet=quiet, bar=bar)
    try:
        with bar or nullcontext():
            yield shown
    finally:
        shown.finish()


def _losses(record: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Return the losses of a step; their sum only where there are several."""
    found = [(key, value) for key, value in record.items() if key not in NOT_LOSSES and key != "loss"]
    return [("loss", record["loss"]), *found] if len(found) != 1 else found


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
