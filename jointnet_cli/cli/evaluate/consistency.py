"""`jointnet evaluate consistency`: whether image, depth and normals of one result belong together."""

from __future__ import annotations

from typing import Annotated

from jointnet_cli.cli.evaluate.options import DeviceOptions, EvaluateOptions, conclude
from jointnet_cli.cli.evaluate.prompts import Prompts, listed_prompts
from jointnet_cli.cli.options import PROMPT_PANEL, SamplingOptions, option
from jointnet_cli.params import VIEW_PANEL

DEFAULT_ROWS = ("jointnet:diorama",)


def consistency(
    *,
    prompts: Prompts = None,
    samples: Annotated[
        int, option("--samples", panel=PROMPT_PANEL, min=1, metavar="N", help="Images with maps of every row.")
    ] = 128,
    panoramas: Annotated[
        int, option("--panoramas", panel=PROMPT_PANEL, min=0, metavar="N", help="Closed panoramas of every row.")
    ] = 16,
    width: Annotated[
        int | None,
        option(
            "--width",
            panel=VIEW_PANEL,
            min=1,
            metavar="PIXELS",
            help="Width of the panoramas.",
            show_default="four times the model's size",
        ),
    ] = None,
    sampling: SamplingOptions,
    place: DeviceOptions,
    evaluation: EvaluateOptions,
) -> None:
    """Depth edges against image edges, depth against normals, depth predicted again, and the seam of panoramas.

    Every row has a second one as a control, with the maps of other results. Rows: `jointnet:MODEL`, `shards:FOLDER` (true
    maps), `folder:RESULTS`.
    """
    from jointnet_cli.evaluation.consistency_rows import KINDS, Sampled, open_source
    from jointnet_cli.evaluation.consistency_table import measure_consistency
    from jointnet_cli.evaluation.methods import parse_rows
    from jointnet_cli.evaluation.runner import Runner

    rows = parse_rows(evaluation.rows or DEFAULT_ROWS, KINDS)
    listed = listed_prompts(prompts)
    how = Sampled(listed, samples, panoramas, width, sampling.request(), place.device, place.dtype)
    sources = {row: open_source(row, how) for row in rows}
    folder = evaluation.folder("consistency")
    items = Runner(folder, {"command": "consistency", "prompts": listed})
    table = measure_consistency(
        sources,
        items,
        width=width,
        limit=evaluation.limit,
        resamples=evaluation.resamples,
        watch=evaluation.watch(items),
    )
    conclude(table, items, folder, evaluation)
