"""Does refinement bring back what a low-resolution depth map has lost (paper 5.2)?

The true depth of evaluation worlds is reduced, and refined under their full-resolution pictures. The map before is the reduced
one enlarged by the nearest pixel, as refinement takes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.cases import WORLDS_CAP, samples_with_depth, true_disparity
from jointnet_cli.evaluation.metrics.depth import DepthErrors, depth_errors, means
from jointnet_cli.evaluation.report import run_facts
from jointnet_cli.progress import Progress
from jointnet_cli.sampling.presets import Sampling
from jointnet_cli.tasks import Refine
from jointnet_cli.tensors import relative_disparity, upsample

if TYPE_CHECKING:
    from jointnet_cli.engine import Engine


def evaluate_refinement(
    engine: Engine,
    shards: str | Path,
    *,
    reduction: int = 4,
    strength: float = 0.4,
    sampling: Sampling | None = None,
    limit: int | None = 128,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Reduce, refine and compare with the truth.

    Args:
        engine: the model; it must have a depth branch.
        shards: the evaluation worlds.
        reduction: factor by which the true map is reduced, by the mean of blocks.
        strength: of the refinement.
        sampling: steps and guidance; the default is the model's.
        limit: use only the first worlds.
        progress: called with the worlds done and their number.

    Returns:
        Ready for JSON: the mean errors before and after, and of every world that could not be measured the reason.

    Raises:
        UserError: no world could be measured.
    """
    samples = list(samples_with_depth(shards, limit))
    before: list[DepthErrors] = []
    after: list[DepthErrors] = []
    left_out: dict[str, str] = {}
    settings: dict[str, Any] = {}
    for number, sample in enumerate(samples):
        truth = true_disparity(sample)
        reduced = F.avg_pool2d(relative_disparity(truth[None]), reduction)
        task = Refine(
            image=sample.image.astype(np.float32) / np.float32(255),
            maps={"depth": reduced[0].numpy()},
            prompt=sample.caption,
            seed=number,
            what="depth",
            scale=1,
            strength=strength,
            sampling=sampling or Sampling(),
        )
        refined = engine.refine(task)
        settings = refined.settings
        height, width = truth.shape
        depths = upsample(reduced, (height, width), "depth")[0], torch.from_numpy(refined.maps["depth"])
        try:
            pair = [depth_errors(depth, truth, depth_cap=WORLDS_CAP, seed=number)[0] for depth in depths]
        except UserError as error:
            left_out[sample.key] = str(error)
        else:
            before.append(pair[0])
            after.append(pair[1])
        if progress:
            progress(number + 1, len(samples))
    if not before:
        raise UserError(f"no picture could be measured: {next(iter(left_out.values()), 'there is none')}")
    return {
        "pictures": len(before),
        "left_out": left_out,
        "reduction": reduction,
        "settings": run_facts(settings),
        "before": means(before),
        "after": means(after),
    }
