"""`jointnet evaluate depth`: the paper's Table 2."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from jointnet_cli.cli.evaluate.options import DeviceOptions, EvaluateOptions, Shards, conclude
from jointnet_cli.cli.options import INPUT_PANEL, DepthKind, Ensemble, SamplingOptions, option
from jointnet_cli.errors import UserError

if TYPE_CHECKING:
    from jointnet_cli.evaluation.cases import Cases

DEFAULT_ROWS = ("jointnet:diorama", "constant", "autoencoder:diorama")

Truth = Annotated[
    Path | None,
    option("--truth", panel=INPUT_PANEL, metavar="DIR", help="Folder of pictures and true maps, such as MegaDepth."),
]


def depth(
    *,
    shards: Shards = None,
    truth: Truth = None,
    middlebury: Annotated[
        bool, option("--middlebury", panel=INPUT_PANEL, help="The Middlebury pair that scikit-image holds.")
    ] = False,
    depth_kind: DepthKind = "auto",
    depth_cap: Annotated[
        float | None,
        option(
            "--depth-cap",
            panel=INPUT_PANEL,
            min=0,
            metavar="DEPTH",
            help="Depth beyond which the truth does not count, in its unit; 0 is none.",
            show_default="80 m for shards, else none",
        ),
    ] = None,
    ensemble: Ensemble = 1,
    strength: Annotated[
        float, option("--strength", min=0, max=1, help="Strength of the refinement in `midas+refine`.")
    ] = 0.4,
    midas: Annotated[
        str, option("--midas", metavar="NAME", help="Whose map `midas+refine` refines.")
    ] = "dpt_beit_large_512",
    sampling: SamplingOptions,
    place: DeviceOptions,
    evaluation: EvaluateOptions,
) -> None:
    """Errors of predicted depth against the truth: AbsRel, RMSE of disparity, delta1 (Table 2).

    Scale and shift are fitted in disparity space, where prediction and truth are both valid.

    Rows: `jointnet:MODEL`, `midas:dpt_beit_large_512`, `midas:dpt_hybrid_384`, `midas+refine:MODEL`, `folder:MAPS`, `constant`,
    `mean-map:SHARDS`, `autoencoder:MODEL`.
    """
    from jointnet_cli.evaluation.depth_rows import KINDS, Predicting
    from jointnet_cli.evaluation.depth_table import measure_depth
    from jointnet_cli.evaluation.methods import parse_rows
    from jointnet_cli.evaluation.runner import Runner

    rows = parse_rows(evaluation.rows or DEFAULT_ROWS, KINDS)
    scenes = _open_scenes(shards, truth, middlebury, depth_kind)
    cap = scenes.depth_cap if depth_cap is None else depth_cap or None
    folder = evaluation.folder("depth")
    items = Runner(folder, {"command": "depth", "truth": scenes.identity, "depth cap": cap})
    table = measure_depth(
        scenes,
        rows,
        items,
        how=Predicting(sampling.request(), ensemble, strength, midas, place.device, place.dtype),
        depth_cap=cap,
        count=evaluation.count(len(scenes)),
        resamples=evaluation.resamples,
        watch=evaluation.watch(items),
    )
    conclude(table, items, folder, evaluation)


def _open_scenes(shards: str | None, truth: Path | None, middlebury: bool, kind: DepthKind) -> Cases:
    from jointnet_cli.evaluation.cases import FolderCases, Middlebury, ShardCases

    if sum((shards is not None, truth is not None, middlebury)) != 1:
        raise UserError("one ground truth is needed", hint="give --shards DIR, --truth DIR or --middlebury")
    if shards is not None:
        return ShardCases(shards, "depth")
    return FolderCases(truth, "depth", kind) if truth is not None else Middlebury()
