"""Measures of a prediction beside another method's prediction of the same case."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch

from jointnet_cli.evaluation.intervals import mean_estimate
from jointnet_cli.evaluation.metrics.metric import PerCase, Predictions, number_in
from jointnet_cli.evaluation.report import Cell, Column
from jointnet_cli.evaluation.runner import Record, Runner
from jointnet_cli.model.perceptual import Perceptual


class DistanceToReference(PerCase):
    """How far images and depth are from those of a reference method: perceptual distance, PSNR, RMSE of disparity.

    Args:
        perceptual: compares images.
        key: what it was opened by.
        resamples: of the bootstrap.
    """

    def __init__(self, perceptual: Perceptual, key: str, resamples: int) -> None:
        columns = {
            "distance": Column(f"{perceptual.name} to reference", "lower"),
            "psnr": Column("PSNR, dB", "higher", digits=1),
            "depth": Column("RMSE of disparity", "lower"),
        }
        super().__init__(columns, resamples, self._compare, key=key, title="distance to the reference")
        self.reference: Predictions | None = None
        self._perceptual, self._own_key = perceptual, key

    def records(self, predictions: Predictions, runner: Runner) -> Mapping[int, Record]:
        """Measure cases that both methods predicted; none of the reference itself."""
        if self.reference is None or self.reference.key == predictions.key:
            return {}
        self._key = f"{self._own_key} {self.reference.key}"
        return super().records(predictions, runner)

    def _compare(self, predictions: Predictions, number: int) -> Record:
        assert self.reference is not None
        names = ("image", "depth")
        made, true = predictions.read(number, names), self.reference.read(number, names)
        images = torch.cat([predictions.tensor(number), self.reference.tensor(number)])
        error = float((images[0] - images[1]).square().mean())
        depth = None
        if made.depth is not None and true.depth is not None:
            depth = float(np.sqrt(np.square(made.depth - true.depth).mean()))
        return {
            "distance": float(self._perceptual.pairs(images.to(self._perceptual.shift.device))[0]),
            "psnr": -10 * math.log10(max(error, 1e-10)),
            "depth": depth,
        }


class Difference:
    """The mean difference of numbers of each case from those of another method, with a paired interval.

    Args:
        metric: measures the numbers.
        columns: names of the differences, by the key of the record.
        resamples: of the bootstrap.
    """

    def __init__(self, metric: PerCase, columns: Mapping[str, str], resamples: int) -> None:
        self.other: Predictions | None = None
        self._metric, self._resamples = metric, resamples
        self._columns = {key: Column(f"change of {name}") for key, name in columns.items()}
        self.columns = list(self._columns.values())

    def __call__(self, predictions: Predictions, runner: Runner) -> Mapping[str, Cell]:
        """Return the differences, none before there is another method."""
        if self.other is None or self.other.key == predictions.key:
            return {}
        own, others = (self._metric.records(each, runner) for each in (predictions, self.other))
        cells: dict[str, Cell] = {}
        for key, column in self._columns.items():
            pairs = [(number_in(own[each], key), number_in(others[each], key)) for each in own.keys() & others.keys()]
            values = [left - right for left, right in pairs if left is not None and right is not None]
            cells[column.name] = mean_estimate(values, resamples=self._resamples) if values else None
        return cells
