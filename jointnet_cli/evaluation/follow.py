"""Do pictures show what their prompts ask for? Fixed prompts, generated and judged by the classifier of `attributes`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from jointnet_cli.data.shards.shard_set import ShardSet
from jointnet_cli.evaluation.figures import write_sheet
from jointnet_cli.evaluation.judge.classifier import Judge, accuracy, labels_of_prompts, load_labelled, shrink
from jointnet_cli.evaluation.judge.prompts import Prompt, fixed_prompts, spread_evenly
from jointnet_cli.evaluation.report import run_facts
from jointnet_cli.progress import Progress
from jointnet_cli.results import Result
from jointnet_cli.sampling.presets import Sampling
from jointnet_cli.tasks import Generate
from jointnet_cli.tensors import from_map, to_map

if TYPE_CHECKING:
    from jointnet_cli.engine import Engine

T = TypeVar("T")

SHEET_PICTURES = 24

VAE_BATCH = 16


def evaluate_following(
    engine: Engine,
    judge: Judge,
    *,
    prompts: Sequence[Prompt] | None = None,
    sampling: Sampling | None = None,
    held_out: Path | None = None,
    sheet: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Generate every prompt with its number as the seed and judge the pictures.

    `generated` has the figures of `attributes.accuracy` for what the prompts ask for; a kind counts as absent where its
    biome never holds it. `judge` has the same figures for held-out worlds: what the classifier itself gets right.

    Args:
        engine: the model.
        judge: the trained classifier.
        prompts: what to generate; the default is `fixed_prompts`.
        sampling: steps and guidance; the default is the model's.
        held_out: shards of worlds that the classifier has not seen. They are judged once more after a round trip through
            the model's VAE, which no generated picture can look better than: `judge_through_autoencoder`.
        sheet: where to write a contact sheet of `SHEET_PICTURES` pictures above their depth.
        progress: called with the pictures done and their number.
    """
    prompts = fixed_prompts() if prompts is None else prompts
    shown = set(spread_evenly(range(len(prompts)), SHEET_PICTURES)) if sheet else set()
    pictures: list[Tensor] = []
    cells: list[Result] = []
    settings: dict[str, Any] = {}
    for number, prompt in enumerate(prompts):
        result = engine.generate(Generate(prompt=prompt.text, seed=number, sampling=sampling or Sampling()))
        settings = result.settings
        pictures.append(shrink(torch.from_numpy(result.image).permute(2, 0, 1)[None]))
        if number in shown:
            cells.append(result)
        if progress:
            progress(number + 1, len(prompts))
    if sheet:
        write_sheet(sheet, cells)
    report = {
        "images": len(prompts),
        "settings": run_facts(settings),
        "generated": accuracy(judge(torch.cat(pictures)), labels_of_prompts(prompts)),
        "judge": judge.facts,
    }
    if held_out is not None:
        report["judge_through_autoencoder"] = accuracy(
            judge(_softened(engine, held_out)), load_labelled(held_out).answers
        )
    return report


@torch.inference_mode()
def _softened(engine: Engine, shards: Path) -> Tensor:
    """The pictures of shards through the model's VAE and back, at the size that the classifier sees."""
    model, size = engine.model, engine.folder.size
    parts = []
    for samples in _batched(ShardSet.open(shards, evaluation=True).samples(()), VAE_BATCH):
        pictures = torch.stack([torch.from_numpy(np.array(sample.image)) for sample in samples])
        images = pictures.permute(0, 3, 1, 2).float() / 255
        if images.shape[-2:] != (size, size):
            images = F.interpolate(images, (size, size), mode="bilinear", antialias=True).clamp(0, 1)
        decoded = from_map(model.decode(model.encode(to_map(images, "rgb"))), "rgb")
        parts.append(shrink(decoded.cpu()))
    return torch.cat(parts)


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last one shorter where they do not come out even."""
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch
