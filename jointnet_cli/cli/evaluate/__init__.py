"""`jointnet evaluate`: the paper's tables, re-measured; one file a command."""

from __future__ import annotations

from collections.abc import Callable

from jointnet_cli.cli.evaluate.compare import compare
from jointnet_cli.cli.evaluate.consistency import consistency
from jointnet_cli.cli.evaluate.depth import depth
from jointnet_cli.cli.evaluate.depth_to_image import depth_to_image
from jointnet_cli.cli.evaluate.generation import generation
from jointnet_cli.cli.evaluate.normal import normal
from jointnet_cli.cli.evaluate.panorama import panorama
from jointnet_cli.cli.evaluate.tally import tally
from jointnet_cli.cli.options import command_group

EXAMPLES: dict[str, tuple[Callable[..., None], str]] = {
    "depth": (depth, "jointnet evaluate depth --shards worlds/evaluation"),
    "normal": (normal, "jointnet evaluate normal --shards worlds/evaluation"),
    "generation": (generation, "jointnet evaluate generation --shards worlds/evaluation"),
    "depth-to-image": (depth_to_image, "jointnet evaluate depth-to-image --shards worlds/evaluation"),
    "panorama": (panorama, "jointnet evaluate panorama --seeds 4"),
    "consistency": (consistency, "jointnet evaluate consistency --row jointnet:diorama --row shards:worlds/evaluation"),
    "compare": (compare, "jointnet evaluate compare ours/ baseline=outputs/baseline"),
    "tally": (tally, "jointnet evaluate tally votes-*.json --key evaluation/compare/compare.key.json"),
}

evaluate = command_group("evaluate", "Measure models: the paper's tables, with intervals.", EXAMPLES)
