"""`jointnet evaluate normal`: errors of predicted normals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jointnet_cli.cli.evaluate.depth import Truth
from jointnet_cli.cli.evaluate.options import DeviceOptions, EvaluateOptions, Shards, conclude
from jointnet_cli.cli.options import Ensemble, SamplingOptions
from jointnet_cli.errors import UserError

if TYPE_CHECKING:
    from jointnet_cli.evaluation.cases import Cases

DEFAULT_ROWS = ("jointnet:diorama", "from-depth:diorama")


def normal(
    *,
    shards: Shards = None,
    truth: Truth = None,
    ensemble: Ensemble = 1,
    sampling: SamplingOptions,
    place: DeviceOptions,
    evaluation: EvaluateOptions,
) -> None:
    """Angles between predicted and true normals: mean, median, and the share below 11.25°, 22.5° and 30°.

    Rows: `jointnet:MODEL` for a model with a normal branch, `from-depth:MODEL` for the normals of its depth (or of any row of
    `jointnet evaluate depth`, as in `from-depth:midas:dpt_hybrid_384`), `folder:MAPS`.
    """
    from jointnet_cli.evaluation.depth_rows import Predicting
    from jointnet_cli.evaluation.methods import parse_rows
    from jointnet_cli.evaluation.normal_table import KINDS, measure_normal
    from jointnet_cli.evaluation.runner import Runner

    rows = parse_rows(evaluation.rows or DEFAULT_ROWS, KINDS)
    scenes = _open_scenes(shards, truth)
    folder = evaluation.folder("normal")
    items = Runner(folder, {"command": "normal", "truth": scenes.identity})
    table = measure_normal(
        scenes,
        rows,
        items,
        how=Predicting(sampling.request(), ensemble, device=place.device, dtype=place.dtype),
        count=evaluation.count(len(scenes)),
        resamples=evaluation.resamples,
        watch=evaluation.watch(items),
    )
    conclude(table, items, folder, evaluation)


def _open_scenes(shards: str | None, truth: Path | None) -> Cases:
    from jointnet_cli.evaluation.cases import FolderCases, ShardCases

    if (shards is None) == (truth is None):
        raise UserError("one ground truth is needed", hint="give --shards DIR or --truth DIR")
    return ShardCases(shards, "normal") if shards is not None else FolderCases(Path(truth or "."), "normal")
