"""Do the picture and the depth of a joint sample belong together?

Depth is predicted anew from the generated picture alone, without its prompt and from other noise, and correlated with
the depth that came with the picture. As a control it is also correlated with the depth of another picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.evaluation.prompts import Prompt, evenly, fixed_prompts
from jointnet_cli.evaluation.report import Progress, run_facts
from jointnet_cli.tasks import Depth, Generate, Sampling

if TYPE_CHECKING:
    from jointnet_cli.engine import Engine

OTHER_NOISE = 1_000_000
"""Added to a sample's seed when its depth is predicted, lest the same noise make the maps alike."""


def pearson(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Linear correlation of two maps in [-1, 1]; a flat map correlates 0 with anything."""
    a, b = (np.ravel(values).astype(np.float64) for values in (first, second))
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norm if norm > 1e-12 else 0.0


def spearman(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Correlation of ranks, which asks only whether the order from near to far is the same."""
    return pearson(_ranks(first), _ranks(second))


def _ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Ranks of values (P,); equal values share their mean rank."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[group]


def evaluate_agreement(
    engine: Engine,
    *,
    count: int = 64,
    prompts: Sequence[Prompt] | None = None,
    sampling: Sampling | None = None,
    depth_sampling: Sampling | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Correlate generated with re-predicted depth over `count` samples.

    Args:
        engine: the model.
        count: samples; their prompts are spread evenly over `prompts`, the default of which is `fixed_prompts`.
        prompts: what to generate.
        sampling: steps and guidance of the generation; the default is the model's.
        depth_sampling: those of the prediction.
        progress: called with the samples done and their number.
    """
    chosen = evenly(fixed_prompts() if prompts is None else prompts, count)
    generated, predicted = [], []
    settings: dict[str, Any] = {}
    for number, prompt in enumerate(chosen):
        sample = engine.generate(Generate(prompt=prompt.text, seed=number, sampling=sampling or Sampling()))
        photo = Depth(image=sample.image, seed=number + OTHER_NOISE, sampling=depth_sampling or Sampling())
        again = engine.depth(photo)
        generated.append(sample.maps["depth"])
        predicted.append(again.maps["depth"])
        settings = {"generate": sample.settings, "depth": again.settings}
        if progress:
            progress(number + 1, len(chosen))
    others = partners(len(chosen))
    return {
        "samples": len(chosen),
        "settings": {task: run_facts(facts) for task, facts in settings.items()},
        "own": summary(generated, predicted),
        "shuffled": summary(generated, [predicted[partner] for partner in others]),
    }


def partners(count: int) -> list[int]:
    """For every sample another one, by a fixed shuffle in which nobody keeps their own."""
    order = np.random.default_rng(0).permutation(count)
    partners = np.empty(count, dtype=int)
    partners[order] = np.roll(order, 1)
    return [int(partner) for partner in partners]


def summary(first: Sequence[NDArray[np.float32]], second: Sequence[NDArray[np.float32]]) -> dict[str, float]:
    """Mean and median of both correlations over pairs of maps."""
    correlations = {}
    for measure in (pearson, spearman):
        values = [measure(a, b) for a, b in zip(first, second, strict=True)]
        correlations[f"{measure.__name__}_mean"] = round(fmean(values), 4)
        correlations[f"{measure.__name__}_median"] = round(median(values), 4)
    return correlations
