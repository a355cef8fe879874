"""Grids of pictures that show how a training goes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from jointnet_cli.modality import from_map
from jointnet_cli.model.checkpoint import JointModel
from jointnet_cli.sampling.job import Job, run
from jointnet_cli.sampling.layout import single_tile

PREVIEW_STEPS = 20
PREVIEW_GUIDANCE = 3.0
COLUMNS = 6


def save_grid(rows: Sequence[Tensor], path: Path) -> None:
    """Write rows of pictures, each (B, 3, H, W) in [0, 1], as one PNG; a short last row is filled with black."""
    from PIL import Image

    widest = max(len(row) for row in rows)
    full = [torch.cat([row.float(), row.new_zeros(widest - len(row), *row.shape[1:]).float()]) for row in rows]
    grid = torch.cat([torch.cat(list(row), dim=-1) for row in full], dim=-2).clamp(0, 1)
    Image.fromarray((grid * 255).round().byte().permute(1, 2, 0).cpu().numpy()).save(path)


def as_picture(maps: Tensor, modality: str) -> Tensor:
    """Maps (B, 3, H, W) in [-1, 1] as pictures in [0, 1] to look at."""
    values = from_map(maps, modality)
    if modality == "depth":
        return values[:, None].expand(-1, 3, -1, -1)
    return (values + 1) / 2 if modality == "normal" else values


@torch.inference_mode()
def preview_prompts(model: JointModel, prompts: Sequence[str], path: Path) -> None:
    """Generate every prompt with its own number as the seed; one row of pictures a branch for every six prompts."""
    finished = [_maps(model, prompt, seed) for seed, prompt in enumerate(prompts)]
    rows = []
    for start in range(0, len(finished), COLUMNS):
        for branch, name in enumerate(model.joint.names):
            maps = torch.stack([maps[branch] for maps in finished[start : start + COLUMNS]])
            rows.append(as_picture(maps, name))
    if rows:
        save_grid(rows, path)


def _maps(model: JointModel, prompt: str, seed: int) -> Tensor:
    """(N, 3, H, W) maps of all branches."""
    job = Job(
        prompt=prompt,
        seed=seed,
        layout=single_tile(model.window, model.window),
        scheduler="ddim",
        steps=PREVIEW_STEPS,
        guidance=PREVIEW_GUIDANCE,
    )
    return model.decode(run(model, job)).cpu()
