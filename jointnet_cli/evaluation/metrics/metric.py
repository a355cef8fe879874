"""What metrics have in common: predictions to look at, columns, cells."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.intervals import mean_estimate
from jointnet_cli.evaluation.methods import Prediction
from jointnet_cli.evaluation.report import Cell, Column
from jointnet_cli.evaluation.runner import Record, Runner


@dataclass(frozen=True)
class Predictions:
    """What a method predicted for the cases of a part."""

    name: str
    """What the table calls the method."""
    key: str
    """What tells these predictions from any others."""
    records: Mapping[int, Record]
    """By number of the case; failed cases are missing."""
    read: Callable[[int, Collection[str]], Prediction]
    """From a number and names of maps to a prediction with these maps, where it has them. Raises UserError: cannot be read."""
    finished: bool = False
    """Whether they are read where somebody else left them."""
    grid: int = 1
    """Pixels of a latent pixel."""

    def image(self, number: int) -> NDArray[np.float32]:
        """Return one image (H, W, 3), sRGB in [0, 1].

        Raises:
            UserError: it cannot be read.
        """
        if (image := self.read(number, ("image",)).image) is None:
            raise UserError(
                f"the image of item {number} is missing", hint="remove the record of the item, or its folder"
            )
        return image

    def tensor(self, number: int) -> Tensor:
        """Return one image as (1, 3, H, W) in [0, 1]."""
        values = np.ascontiguousarray(self.image(number), np.float32)
        return torch.from_numpy(values).permute(2, 0, 1)[None]


class Metric(Protocol):
    """Turns predictions into the cells of its columns."""

    @property
    def columns(self) -> Sequence[Column]: ...

    def __call__(self, predictions: Predictions, runner: Runner) -> Mapping[str, Cell]:
        """Return cells by column; columns without a number may be missing. Every process must call it."""
        ...


class PerCase:
    """Means of numbers of each case: those in the records of predictions, or measured on kept predictions and kept as well.

    Args:
        columns: by the key of the record; `seams.image.tiles` is a number within an object within an object.
        resamples: of the bootstrap.
        measure: from predictions and the number of a case to a record of its own.
        key: what tells this measurement from others.
        title: shown with the progress.
    """

    def __init__(
        self,
        columns: Mapping[str, Column],
        resamples: int,
        measure: Callable[[Predictions, int], Record] | None = None,
        *,
        key: str = "",
        title: str = "",
    ) -> None:
        self.columns = list(columns.values())
        self._columns, self._key, self._measure, self._resamples, self._title = columns, key, measure, resamples, title

    def records(self, predictions: Predictions, runner: Runner) -> Mapping[int, Record]:
        """Measure the cases that are not measured yet, and return the records of all."""
        if (measure := self._measure) is None:
            return predictions.records
        title = f"{predictions.name}, {self._title}"
        key = f"{predictions.key} {self._key}"
        return runner.run(key, predictions.records, lambda number: measure(predictions, number), title)

    def __call__(self, predictions: Predictions, runner: Runner) -> Mapping[str, Cell]:
        return means(self.records(predictions, runner), self._columns, self._resamples)


def means(records: Mapping[int, Record], columns: Mapping[str, Column], resamples: int) -> dict[str, Cell]:
    """Return the means of numbers of records; a record without a number does not count, no numbers are an empty cell."""
    cells: dict[str, Cell] = {}
    for key, column in columns.items():
        values = [value for record in records.values() if (value := number_in(record, key)) is not None]
        cells[column.name] = mean_estimate(values, resamples=resamples) if values else None
    return cells


def number_in(record: Record, key: str) -> Any:
    """Return what a record holds at `seams.image.tiles` or the like, `None` if it holds nothing there."""
    found: Any = record
    for name in key.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found
