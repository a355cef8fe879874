"""How image quality and depth go while a joint model trains (the paper's Fig. 8), for several runs side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from jointnet_cli.data.shards.format import Sample
from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.cases import WORLDS_CAP, samples_with_depth, true_disparity
from jointnet_cli.evaluation.judge.classifier import Judge, shrink
from jointnet_cli.evaluation.metrics.captions import last_features
from jointnet_cli.evaluation.metrics.depth import depth_errors
from jointnet_cli.evaluation.metrics.distribution import RealFeatures
from jointnet_cli.progress import Progress
from jointnet_cli.results import Result
from jointnet_cli.sampling.presets import Sampling
from jointnet_cli.tasks import Depth, Generate

if TYPE_CHECKING:
    from jointnet_cli.engine import Engine

BATCH = 128
SHOWN = 3
"""Pictures of every snapshot that the figure shows."""


@dataclass
class Snapshot:
    """A model as it was after some steps of a run."""

    run: str
    step: int
    frechet: float
    """Distance of its pictures from the reserved worlds."""
    abs_rel: float | None
    """Error of the depth it predicts; `None` of a model without depth, or if no prediction could be measured."""
    shown: list[Result]
    left_out: dict[str, str] = field(default_factory=dict)
    """Samples whose depth could not be measured -> the reason."""


def find_snapshots(run: Path) -> dict[int, Path]:
    """The models that a run exported (`train.export_steps`), by step.

    Raises:
        UserError: none there.
    """
    found = {int(path.name): path for path in sorted(run.glob("models/*")) if path.name.isdecimal()}
    if not found:
        raise UserError(f"{run} has no snapshots", hint="train it with --set train.export_steps=[0,50,200,1000]")
    return found


def evaluate_progression(
    models: Sequence[tuple[str, int, Path]],
    open_engine: Callable[[Path], Engine],
    judge: Judge,
    shards: Path,
    *,
    pictures: int = 256,
    depths: int = 64,
    sampling: Sampling,
    progress: Progress | None = None,
) -> list[Snapshot]:
    """Measure models, one after the other.

    Args:
        models: name of the run, step and folder.
        open_engine: opens a folder.
        judge: whose features the Fréchet distance is taken in.
        shards: reserved worlds: all their pictures are the real set, the first captions the prompts.
        pictures: generated of every model.
        depths: predicted by every model that has depth.
        sampling: of pictures; depth takes the same without guidance.
        progress: called with the models done and their number.
    """
    samples = list(samples_with_depth(shards, None))
    real = RealFeatures(_features(judge, [sample.image for sample in samples]))
    found = []
    for number, (run, step, folder) in enumerate(models):
        engine = open_engine(folder)
        made = [
            engine.generate(Generate(prompt=sample.caption, seed=seed, sampling=sampling))
            for seed, sample in enumerate(samples[:pictures])
        ]
        distance = real.distance(_features(judge, [result.image for result in made]))
        predicted = samples[:depths] if "depth" in engine.folder.branches else []
        error, left_out = _depth_error(engine, predicted, sampling)
        found.append(Snapshot(run, step, distance, error, made[:SHOWN], left_out))
        if progress:
            progress(number + 1, len(models))
    return found


def _depth_error(engine: Engine, samples: Sequence[Sample], sampling: Sampling) -> tuple[float | None, dict[str, str]]:
    """Mean AbsRel of depth predicted from the picture alone, and the samples left out with the reason."""
    errors = []
    left_out: dict[str, str] = {}
    for seed, sample in enumerate(samples):
        photo = sample.image.astype(np.float32) / np.float32(255)
        result = engine.depth(Depth(image=photo, seed=seed, sampling=replace(sampling, guidance=1.0)))
        depth, truth = torch.from_numpy(result.maps["depth"]), true_disparity(sample)
        try:
            errors.append(depth_errors(depth, truth, depth_cap=WORLDS_CAP, seed=seed)[0].abs_rel)
        except UserError as error:
            left_out[sample.key] = str(error)
    return fmean(errors) if errors else None, left_out


def _features(judge: Judge, images: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """(N, 160) features of pictures."""
    pictures = torch.stack([shrink(_picture(image)[None])[0] for image in images])
    return torch.cat([last_features(judge, batch) for batch in pictures.split(BATCH)]).numpy()


def _picture(image: np.ndarray[Any, Any]) -> Tensor:
    """(3, H, W) in [0, 1]."""
    values = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    return values.float() / 255 if values.dtype == torch.uint8 else values.float()


def draw_figure(snapshots: Sequence[Snapshot], path: Path) -> None:
    """One figure: a row of pictures with their depth for every run, a column for every step; beside them both curves.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("the figure needs matplotlib", hint='pip install "jointnet-cli[eval]"') from error

    runs = {
        run: [each for each in snapshots if each.run == run] for run in dict.fromkeys(each.run for each in snapshots)
    }
    grid = {run: each for run, each in runs.items() if len(each) > 1}
    steps = max((len(each) for each in grid.values()), default=1)
    figure = Figure(figsize=(2.1 * steps + 5, 2.2 * max(2, len(grid))), layout="constrained")
    panels: Any = figure.subfigures(1, 2, width_ratios=[2.1 * steps, 5])
    left, right = panels
    cells = left.subplots(len(grid), steps, squeeze=False)
    for row, (run, each) in zip(cells, grid.items(), strict=True):
        for cell, snapshot in zip(row, each, strict=False):
            cell.imshow(_strip(snapshot))
            cell.set_title(f"step {snapshot.step}", fontsize=8)
        for cell in row:
            cell.set(xticks=[], yticks=[])
            cell.spines[:].set_visible(False)
        row[0].set_ylabel(run, fontsize=9)
    above, below = right.subplots(2, 1, sharex=True)
    for run, each in runs.items():
        style = {"marker": "o"} if len(each) > 1 else {"marker": "*", "linestyle": "none"}
        above.plot([one.step for one in each], [one.frechet for one in each], label=run, **style)
        errors = [(one.step, one.abs_rel) for one in each if one.abs_rel is not None]
        below.plot([step for step, _ in errors], [error for _, error in errors], label=run, **style)
    above.set_ylabel("Fréchet distance of RGB")
    above.legend(fontsize=8)
    below.set(ylabel="AbsRel of depth", xlabel="step")
    for axis in (above, below):
        axis.set_xscale("symlog", linthresh=50)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _strip(snapshot: Snapshot) -> np.ndarray[Any, Any]:
    """The pictures of a snapshot side by side, each above its depth."""
    from jointnet_cli.files.color import colorize

    columns = [
        np.concatenate([result.image, *([colorize(result.maps["depth"])] if "depth" in result.maps else [])])
        for result in snapshot.shown
    ]
    return np.concatenate(columns, axis=1)
