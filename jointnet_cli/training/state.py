"""Where a run stands: its clock, and checkpoints that are written whole or not at all."""

from __future__ import annotations

import pickle
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

KEEP = 2


@dataclass
class Clock:
    """Steps and minutes of work done, over all the pieces of a run."""

    step: int = 0
    minutes: float = 0.0

    def advance(self, seconds: float) -> None:
        """Count one step that took so many seconds."""
        self.step += 1
        self.minutes += seconds / 60


def save_state(folder: Path, clock: Clock, state: dict[str, Any]) -> Path:
    """Write a checkpoint, then remove all but the newest two."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{clock.step:09}.pt"
    partial = path.with_suffix(".partial")
    torch.save({"clock": asdict(clock), **state}, partial)
    partial.replace(path)
    for old in sorted(folder.glob("*.pt"))[:-KEEP]:
        old.unlink()
    return path


def load_newest(folder: Path) -> tuple[Clock, dict[str, Any]] | None:
    """The newest checkpoint that can be read; a damaged one is passed over. `None` when there is none."""
    for path in sorted(folder.glob("*.pt"), reverse=True):
        try:
            state = torch.load(path, weights_only=True, map_location="cpu")
            return Clock(**state.pop("clock")), state
        except (RuntimeError, EOFError, KeyError, OSError, pickle.UnpicklingError, zipfile.BadZipFile):
            continue
    return None
