"""Make the pictures of the image tasks: `python tools/pictures/tasks.py SHARDS docs/images`.

SHARDS are evaluation worlds of `jointnet prepare`. Writes `tasks.png`, with a column for each world and a row for each input
or result, and `methods.png`, one panorama by each method.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from jointnet_cli.data.shards.format import Sample
from jointnet_cli.data.shards.shard_set import ShardSet
from jointnet_cli.engine import Engine
from jointnet_cli.evaluation.cases import relative_depth
from jointnet_cli.files.color import colorize
from jointnet_cli.files.images import write_png
from jointnet_cli.sampling.presets import METHODS
from jointnet_cli.tasks import Depth, Generate, Inpaint, Panorama, Refine

Picture = NDArray[np.float32]
NUMBERS = (0, 1, 3, 5, 6, 7, 8, 9)
"""Indices of the worlds that are shown."""
NIGHT = "snowy mountains at night"
REDUCTION = 4


def column(engine: Engine, sample: Sample) -> Iterator[Picture]:
    """Yield the inputs and results of one world, from top to bottom."""
    photo = sample.image.astype(np.float32) / np.float32(255)
    disparity = relative_depth(sample.inverse_depth, sample.key).numpy()
    yield photo
    predicted = engine.depth(Depth(image=photo, seed=0, ensemble=5))
    yield colorize(predicted.maps["depth"])
    yield colorize(np.clip(4 * predicted.uncertainty["depth"], 0, 1))
    yield colorize(disparity)
    yield engine.generate(Generate(prompt=sample.caption, seed=0, maps={"depth": disparity})).image
    yield engine.generate(Generate(prompt=NIGHT, seed=0, maps={"depth": disparity})).image
    mask = np.zeros(photo.shape[:2], np.float32)
    side = len(mask) // 4
    mask[side:-side, side:-side] = 1
    yield np.where(mask[..., None] > 0, np.float32(1), photo)
    painted = engine.inpaint(
        Inpaint(image=photo, prompt=sample.caption, seed=1, masks={"rgb": mask}, maps={"depth": disparity})
    )
    yield painted.image
    yield colorize(painted.maps["depth"])
    reduced = F.avg_pool2d(torch.from_numpy(disparity)[None], REDUCTION)[0].numpy()
    yield colorize(reduced.repeat(REDUCTION, 0).repeat(REDUCTION, 1))
    task = Refine(image=photo, maps={"depth": reduced}, prompt=sample.caption, seed=0, target="depth", scale=1)
    yield colorize(engine.refine(task).maps["depth"])


def main() -> None:
    """Write both sheets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path)
    parser.add_argument("images", type=Path)
    options = parser.parse_args()
    images: Path = options.images
    engine = Engine.open()
    samples = list(ShardSet.open(options.shards, max(NUMBERS) + 1, evaluation=True).samples(("depth",)))
    columns = [np.concatenate(list(column(engine, samples[number]))) for number in NUMBERS]
    write_png(images / "tasks.png", np.concatenate(columns, axis=1))
    panoramas = [
        engine.panorama(Panorama(prompt="ocean reef", seed=0, width=1024, method=method)).image for method in METHODS
    ]
    write_png(images / "methods.png", np.concatenate(panoramas))


if __name__ == "__main__":
    main()
