"""Do pictures that were painted for a depth map have that depth?

Each evaluation world's own depth and caption are given and its picture is painted anew. Depth is then predicted from the
painted picture alone, without the caption and from other noise, and compared with the given map; as a control with the map
of another world.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jointnet_cli.evaluation.agreement import OTHER_NOISE, partners, summary
from jointnet_cli.evaluation.depth import depth_errors, means, samples_with_depth, true_disparity
from jointnet_cli.evaluation.report import Progress, run_facts
from jointnet_cli.modality import relative_disparity
from jointnet_cli.sampling.resample import resize, to_tensor
from jointnet_cli.tasks import Depth, Generate, Sampling

if TYPE_CHECKING:
    from jointnet_cli.engine import Engine


def evaluate_painting(
    engine: Engine,
    shards: str | Path,
    *,
    sampling: Sampling | None = None,
    limit: int | None = 128,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Paint pictures for the depth maps of evaluation worlds and measure the depth that is found in them.

    Args:
        engine: the model; it must have a depth branch.
        shards: the evaluation worlds.
        sampling: steps and guidance of the painting; the default is the model's.
        limit: use only the first worlds.
        progress: called with the worlds done and their number.
    """
    samples = list(samples_with_depth(shards, limit))
    given, found, errors = [], [], []
    settings: dict[str, Any] = {}
    for number, sample in enumerate(samples):
        truth = true_disparity(sample)
        disparity = relative_disparity(truth[None])[0].numpy().astype(np.float32)
        task = Generate(prompt=sample.caption, seed=number, maps={"depth": disparity}, sampling=sampling or Sampling())
        painted = engine.generate(task)
        again = engine.depth(Depth(image=painted.image, seed=number + OTHER_NOISE))
        settings = {"generate": painted.settings, "depth": again.settings}
        height, width = truth.shape
        predicted = resize(to_tensor(again.maps["depth"]), (height, width), "depth")[0]
        given.append(disparity)
        found.append(predicted.numpy())
        errors.append(depth_errors(predicted, truth, seed=number))
        if progress:
            progress(number + 1, len(samples))
    return {
        "pictures": len(samples),
        "settings": {task: run_facts(facts) for task, facts in settings.items()},
        "own": summary(given, found),
        "shuffled": summary(given, [found[partner] for partner in partners(len(samples))]),
        "errors": means(errors),
    }
