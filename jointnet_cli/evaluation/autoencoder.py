"""What a model's autoencoder keeps of the maps of evaluation worlds: the ceiling of all that the model makes."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from jointnet_cli.data.shards.samples import sample_map
from jointnet_cli.data.shards.shard_set import ShardSet
from jointnet_cli.errors import UserError
from jointnet_cli.progress import Progress

if TYPE_CHECKING:
    from jointnet_cli.engine import Engine
    from jointnet_cli.model.checkpoint import JointModel

MAPS = ("rgb", "depth", "normal")


def psnr(first: Tensor, second: Tensor) -> float:
    """Peak signal-to-noise ratio of maps in [-1, 1], in dB; infinite for equal ones."""
    return float(10 * torch.log10(4 / (first - second).square().mean()))


@torch.inference_mode()
def evaluate_autoencoder(
    engine: Engine, shards: str | Path, *, limit: int | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """The mean PSNR of every kind of map that the worlds have, after encoding and decoding.

    Depth is relative disparity, and is decoded as the mean of the three channels, as the model reads it.

    Args:
        engine: the model.
        shards: the evaluation worlds.
        limit: use only the first worlds.
        progress: called with the worlds done and their number.

    Raises:
        UserError: the model works on pixels.
    """
    if engine.model.vae is None:
        raise UserError(f"{engine.name} works on pixels: it has no autoencoder to measure")
    samples = list(islice(ShardSet.open(shards, evaluation=True).samples(MAPS[1:]), limit))
    found: dict[str, list[float]] = {name: [] for name in MAPS}
    for number, sample in enumerate(samples):
        for name in MAPS:
            if {"depth": sample.inverse_depth, "normal": sample.normal}.get(name, sample.image) is None:
                continue
            true, decoded = _round_trip(engine.model, sample_map(sample, name))
            if name == "depth":
                true, decoded = true[:1], decoded.mean(dim=0, keepdim=True)
            found[name].append(psnr(true, decoded))
        if progress:
            progress(number + 1, len(samples))
    return {
        "pictures": len(samples),
        "model": engine.name,
        "psnr": {name: round(fmean(values), 2) for name, values in found.items() if values},
    }


def _round_trip(model: JointModel, values: Tensor) -> tuple[Tensor, Tensor]:
    """A map (3, H, W), cut to what the factor divides, and what comes back of it."""
    height, width = (side // model.factor * model.factor for side in values.shape[-2:])
    true = values[:, :height, :width]
    decoded = model.decode(model.encode(true[None]))
    return true, decoded[0].clamp(-1, 1).float().cpu()
