"""Grids of pictures that show how a training goes."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from jointnet_cli.files.atomic import atomic_file
from jointnet_cli.model.checkpoint import JointModel
from jointnet_cli.sampling.layout import single_tile
from jointnet_cli.sampling.loop import Job, sample
from jointnet_cli.sampling.presets import Sampling
from jointnet_cli.tensors import from_map

if TYPE_CHECKING:
    from PIL.Image import Image

PREVIEW_SAMPLING = Sampling(scheduler="ddim", steps=20, guidance=3.0)
COLUMNS = 6
BRANCHES = "branches"
"""Text chunk of a PNG: how many of its rows belong together, one a branch."""
MARGIN = 96
"""Pixels at the left of a progress grid for the step."""
LARGEST = 256
"""Side of a picture in a progress grid, at most."""


def save_grid(rows: Sequence[Tensor], path: Path, branches: int | None = None) -> None:
    """Write rows of pictures, each (B, 3, H, W) in [0, 1], as one PNG; a short last row is filled with black.

    `branches` is how many rows in turn show the same samples; it is noted in the file.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    widest = max(len(row) for row in rows)
    full = [torch.cat([row.float(), row.new_zeros(widest - len(row), *row.shape[1:]).float()]) for row in rows]
    grid = torch.cat([torch.cat(list(row), dim=-1) for row in full], dim=-2).clamp(0, 1)
    notes = PngInfo()
    if branches:
        notes.add_text(BRANCHES, f"{branches} {len(rows)} {widest}")
    pixels = (grid * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    with atomic_file(path) as temporary:
        Image.fromarray(pixels).save(temporary, pnginfo=notes)


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
        save_grid(rows, path, branches=len(model.joint.names))


def _maps(model: JointModel, prompt: str, seed: int) -> Tensor:
    """(N, 3, H, W) maps of all branches."""
    job = Job(prompt=prompt, seed=seed, layout=single_tile(model.window, model.window), sampling=PREVIEW_SAMPLING)
    return model.decode(sample(model, job)).cpu()


@contextmanager
def undisturbed_randomness() -> Iterator[None]:
    """Whatever is drawn inside, all random states are as before afterwards."""
    python, arrays = random.getstate(), np.random.get_state()  # noqa: NPY002 - the state that libraries share
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(arrays)  # noqa: NPY002


@dataclass(frozen=True)
class ProgressGrid:
    """One picture of a whole run: a row for every preview, with its step at the left; the rows are kept as files."""

    folder: Path
    """`progress.png`, and the previews as they were made in `rows/`."""

    def row(self, step: int) -> Path:
        """The file of a step's row."""
        return self.folder / "rows" / f"{step:09}.png"

    def drop_after(self, step: int) -> None:
        """Forget the rows of later steps, which will be done again."""
        for path in self._rows():
            if int(path.stem) > step:
                path.unlink()

    def assemble(self) -> None:
        """Write `progress.png` from the rows that are there."""
        from PIL import Image, ImageDraw, ImageFont

        lines = {int(path.stem): _as_line(path) for path in self._rows()}
        if not lines:
            return
        size = (MARGIN + max(line.width for line in lines.values()), sum(line.height for line in lines.values()))
        grid, top = Image.new("RGB", size, "white"), 0
        draw, font = ImageDraw.Draw(grid), ImageFont.load_default(16)
        for step, line in lines.items():
            grid.paste(line, (MARGIN, top))
            draw.text((MARGIN - 8, top + line.height // 2), f"{step:,}", fill="black", font=font, anchor="rm")
            top += line.height
        with atomic_file(self.folder / "progress.png") as temporary:
            grid.save(temporary)

    def _rows(self) -> list[Path]:
        return sorted(path for path in (self.folder / "rows").glob("*.png") if path.stem.isdecimal())


def _as_line(path: Path) -> Image:
    """A preview as one row of a grid: sample by sample, the branches of each next to each other."""
    from PIL import Image

    with Image.open(path) as picture:
        if BRANCHES not in picture.info:
            return picture.convert("RGB")
        branches, rows, columns = map(int, picture.info[BRANCHES].split())
        width, height = picture.width // columns, picture.height // rows
        pixels = picture.convert("RGB")
    cells = [
        pixels.crop((column * width, row * height, (column + 1) * width, (row + 1) * height))
        for first in range(0, rows, branches)
        for column in range(columns)
        for row in range(first, first + branches)
    ]
    while len(cells) > branches and all(cell.getbbox() is None for cell in cells[-branches:]):
        del cells[-branches:]  # the black that filled the last row
    scale = min(1.0, LARGEST / max(width, height))
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    line = Image.new("RGB", (small[0] * len(cells), small[1]))
    for number, cell in enumerate(cells):
        line.paste(cell.resize(small, Image.Resampling.LANCZOS), (number * small[0], 0))
    return line
