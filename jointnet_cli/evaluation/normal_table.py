"""Errors of predicted normals, row by row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jointnet_cli.engine import NOMINAL_FOV
from jointnet_cli.evaluation.cases import Case, Cases
from jointnet_cli.evaluation.depth_rows import KINDS as DEPTH_KINDS
from jointnet_cli.evaluation.depth_rows import PredictDepth, Predicting, Prediction, Predictor, open_predictor
from jointnet_cli.evaluation.folders import digest, find_maps, match
from jointnet_cli.evaluation.measure import Metric, Record, Watch, measure
from jointnet_cli.evaluation.methods import MethodSpec
from jointnet_cli.evaluation.metrics.depth import align, at_size
from jointnet_cli.evaluation.metrics.normals import normal_errors, normals_of, pinhole
from jointnet_cli.evaluation.report import Column, Table
from jointnet_cli.evaluation.runner import Runner
from jointnet_cli.files.maps import read_map
from jointnet_cli.scene.scene import DepthScale
from jointnet_cli.tensors import resize, to_array, to_tensor

METRICS = (
    Metric(Column("mean angle, °", "lower", digits=2), "mean"),
    Metric(Column("median angle, °", "lower", digits=2), "median"),
    Metric(Column("< 11.25°", "higher", digits=1, percent=True), "within_11_25"),
    Metric(Column("< 22.5°", "higher", digits=1, percent=True), "within_22_5"),
    Metric(Column("< 30°", "higher", digits=1, percent=True), "within_30"),
)
NEAR, FAR = 1.0, 30.0
"""Between these distances disparity is taken to lie where there is no true depth to fit it to, as in a panorama's mesh."""


class JointNormal(PredictDepth):
    """The normal branch of a joint model, its picture given."""

    modality = "normal"


class FinishedNormals:
    """Finished normal maps."""

    def __init__(self, value: str, how: Predicting) -> None:
        self._maps = find_maps(Path(value), "normal")
        self.identity = digest(Path(value), self._maps)

    def __call__(self, scene: Case, number: int) -> Prediction:
        return Prediction(torch.from_numpy(read_map(match(scene.key, self._maps), "normal").values))


@dataclass(frozen=True)
class FromDepth:
    """The normals of another predictor's depth, brought to the true scale and shift where true depth is known."""

    predictor: Predictor

    @property
    def identity(self) -> str:
        return self.predictor.identity

    def __call__(self, scene: Case, number: int) -> Prediction:
        height, width = scene.image.shape[:2]
        predicted = self.predictor(scene, number)
        disparity = at_size(predicted.values, height, width)
        camera = pinhole(height, width, NOMINAL_FOV) if scene.intrinsics is None else scene.intrinsics
        normals = normals_of(_inverse_depth(disparity, scene, number), camera)
        field = {"field of view": f"{NOMINAL_FOV:g}° assumed"} if scene.intrinsics is None else {}
        shift = {"range of depth": f"{NEAR:g} to {FAR:g} assumed"} if scene.inverse_depth is None else {}
        return replace(predicted, values=torch.from_numpy(normals), settings={**predicted.settings, **field, **shift})


def _from_depth(value: str, how: Predicting) -> Predictor:
    """`MODEL`, or the spec of any row of `jointnet evaluate depth`."""
    kind, _, rest = value.partition(":")
    row = MethodSpec(value, kind, rest) if kind in DEPTH_KINDS else MethodSpec(value, "jointnet", value)
    return FromDepth(open_predictor(row, how))


KINDS: dict[str, Callable[[str, Predicting], Predictor]] = {
    "jointnet": JointNormal,
    "from-depth": _from_depth,
    "folder": FinishedNormals,
}


def measure_normal(
    scenes: Cases,
    rows: Sequence[MethodSpec],
    items: Runner,
    *,
    how: Predicting,
    count: int,
    resamples: int,
    watch: Watch,
) -> Table:
    """Compare every row's normals with the true ones; the arguments are those of `measure_depth`.

    Raises:
        UserError: a row that cannot be opened.
    """

    def judge(predictor: Predictor, number: int) -> Record:
        scene = scenes[number]
        assert scene.normal is not None
        if not scene.normal.any():
            return {"key": scene.key, **dict.fromkeys(metric.key for metric in METRICS)}
        predicted = predictor(scene, number)
        height, width = scene.normal.shape[:2]
        values = to_array(resize(to_tensor(predicted.values.numpy()), (height, width), "normal"))
        return {"key": scene.key, **vars(normal_errors(values, scene.normal)), "settings": predicted.settings}

    return measure(
        "Normals",
        METRICS,
        scenes,
        {row: KINDS[row.kind](row.value, how) for row in rows},
        items,
        judge,
        count=count,
        resamples=resamples,
        watch=watch,
        facts={"averages": "of each picture's angles, then over the pictures"},
    )


def _inverse_depth(disparity: Tensor, scene: Case, seed: int) -> NDArray[np.float64]:
    """Disparity up to scale and shift (H, W) to inverse depth, 0 where there is none."""
    there = disparity > 0
    if scene.inverse_depth is None:
        top = disparity.max().clamp(min=1e-9)
        distance = DepthScale.from_range(NEAR, FAR).distance((disparity / top).numpy())
        return np.where(there.numpy(), 1 / distance, 0)
    truth = at_size(torch.from_numpy(scene.inverse_depth), *disparity.shape)
    valid = there & (truth > 0)
    if not valid.any():
        return np.zeros(disparity.shape)
    scale, shift = align(disparity[valid].double(), truth[valid].double(), torch.Generator().manual_seed(seed))
    aligned = (disparity.double() * scale + shift).clamp(min=truth[valid].min().item())
    return np.where(there.numpy(), aligned.numpy(), 0)
