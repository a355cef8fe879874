"""The paper's Table 2: errors of disparity, row by row."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from jointnet_cli.evaluation.cases import Cases
from jointnet_cli.evaluation.depth_rows import Predicting, Predictor, open_predictor
from jointnet_cli.evaluation.measure import Metric, Record, Watch, measure
from jointnet_cli.evaluation.methods import MethodSpec
from jointnet_cli.evaluation.metrics.depth import FIT_PIXELS, FITS, at_size, depth_errors
from jointnet_cli.evaluation.report import Column, Table
from jointnet_cli.evaluation.runner import Runner

METRICS = (
    Metric(Column("AbsRel", "lower"), "abs_rel"),
    Metric(Column("RMSE (disparity)", "lower"), "rmse"),
    Metric(Column("delta1", "higher", digits=1, percent=True), "delta1"),
    Metric(Column("pixels compared", digits=1, percent=True), "compared"),
)


def measure_depth(
    scenes: Cases,
    rows: Sequence[MethodSpec],
    items: Runner,
    *,
    how: Predicting,
    depth_cap: float | None,
    count: int,
    resamples: int,
    watch: Watch,
) -> Table:
    """Compare every row's disparity with the true one.

    Args:
        scenes: pictures with depth.
        rows: of the kinds of `depth_rows.KINDS`.
        items: where finished scenes are kept.
        how: settings of the predictions.
        depth_cap: depth beyond which the truth does not count, in its unit.
        count: so many scenes, from the first on.
        resamples: of the bootstrap.
        watch: called with each row's name.

    Raises:
        UserError: a row that cannot be opened.
    """

    def judge(predictor: Predictor, number: int) -> Record:
        scene = scenes[number]
        assert scene.inverse_depth is not None
        truth = torch.from_numpy(scene.inverse_depth)
        if not ((truth > 0) if depth_cap is None else (truth >= 1 / depth_cap)).any():
            return {"key": scene.key, **dict.fromkeys(metric.key for metric in METRICS)}
        predicted = predictor(scene, number)
        errors, compared = depth_errors(
            at_size(predicted.values, *truth.shape), truth, depth_cap=depth_cap, seed=number
        )
        return {"key": scene.key, **vars(errors), "compared": compared, "settings": predicted.settings}

    return measure(
        "Depth",
        METRICS,
        scenes,
        {row: open_predictor(row, how) for row in rows},
        items,
        judge,
        count=count,
        resamples=resamples,
        watch=watch,
        facts={
            "depth cap": "none" if depth_cap is None else depth_cap,
            "alignment": f"median of {FITS} fits of {FIT_PIXELS} random pixels in disparity space",
        },
        references=[row.name for row in rows if row.kind == "autoencoder"],
    )
