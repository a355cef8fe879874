"""`jointnet evaluate depth-to-image`: the paper's Table 5."""

from __future__ import annotations

from typing import Annotated

from jointnet_cli.cli.evaluate.generation import FeatureOptions, Reference, open_reference, open_shards
from jointnet_cli.cli.evaluate.options import DeviceOptions, EvaluateOptions, Shards, conclude
from jointnet_cli.cli.options import SamplingOptions, option
from jointnet_cli.errors import UserError

DEFAULT_ROWS = ("jointnet:diorama",)


def depth_to_image(
    *,
    shards: Shards = None,
    reference: Reference = None,
    predictor: Annotated[
        str, option("--predictor", metavar="KIND:VALUE", help="What depth is predicted with from the painted pictures.")
    ] = "jointnet:diorama",
    predictor_steps: Annotated[
        int | None, option("--predictor-steps", min=1, metavar="N", help="Its steps.", show_default="model's")
    ] = None,
    networks: FeatureOptions,
    sampling: SamplingOptions,
    place: DeviceOptions,
    evaluation: EvaluateOptions,
) -> None:
    """Pictures painted for given depth: distance from real ones, and whether they have that depth (Table 5).

    Rows: `jointnet:MODEL`, `sd2-depth:ID`, `controlnet-depth:CONTROLNET,BASE`, `folder:PICTURES` (in the order of the samples).
    The predictor is `jointnet:MODEL`, `midas:NAME` or `midas+refine:MODEL`.
    """
    from jointnet_cli.evaluation.depth_rows import Predicting
    from jointnet_cli.evaluation.depth_to_image_table import KINDS, PREDICTORS, measure_depth_to_image
    from jointnet_cli.evaluation.methods import Making, parse_row, parse_rows
    from jointnet_cli.evaluation.runner import Runner
    from jointnet_cli.sampling.presets import Sampling

    rows = parse_rows(evaluation.rows or DEFAULT_ROWS, KINDS)
    judging = parse_row(predictor, PREDICTORS)
    given = open_shards(shards)
    if given is None:
        from jointnet_cli.data.shards.shard_set import EVALUATION_COMMAND

        raise UserError("no depth to paint for", hint=f"give --shards DIR, such as those of {EVALUATION_COMMAND}")
    folder = evaluation.folder("depth-to-image")
    items = Runner(folder, {"command": "depth-to-image", "depth": given.facts["digest"]})
    table = measure_depth_to_image(
        given,
        rows,
        networks.open(items, evaluation, place.device),
        real=open_reference(reference) or given,
        predictor=judging,
        predicting=Predicting(Sampling(steps=predictor_steps), device=place.device, dtype=place.dtype),
        how=Making(sampling.request(), place.device, place.dtype),
        count=evaluation.count(len(given)),
    )
    conclude(table, items, folder, evaluation)
