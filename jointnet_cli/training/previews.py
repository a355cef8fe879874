"""Pictures during training."""

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
from jointnet_cli.modality import MODALITIES
from jointnet_cli.model.checkpoint import JointModel
from jointnet_cli.sampling.layout import single_tile
from jointnet_cli.sampling.loop import Job, sample
from jointnet_cli.sampling.presets import Resolved
from jointnet_cli.tensors import from_map

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

PREVIEW_SAMPLING = Resolved(preset="paper", scheduler="ddim", steps=20, guidance=3.0)
COLUMNS = 6

MARGIN = 96
"""Pixels at the left of a progress grid for the step."""
LARGEST = 256
"""Side of a picture in a progress grid, at most."""


@dataclass(frozen=True)
class Pictures:
    """Pictures of the same samples, in rows."""

    rows: Sequence[Tensor]
    """Each (B, 3, H, W) in [0, 1]: one branch, or one side of a comparison."""
    columns: int | None = None
    """Samples that a grid shows side by side; further ones follow below. `None` shows all, also in a progress grid."""

    def grid(self) -> Image:
        """Arrange the samples in columns, with all rows of a sample below each other. A short last line ends black."""
        from PIL import Image

        count = max(len(row) for row in self.rows)
        wide = min(self.columns or count, count)
        lines = [row[start : start + wide].float() for start in range(0, count, wide) for row in self.rows]
        full = [torch.cat([line, line.new_zeros(wide - len(line), *line.shape[1:])]) for line in lines]
        return Image.fromarray(_pixels(torch.cat([torch.cat(list(line), dim=-1) for line in full], dim=-2)))

    def line(self) -> Image:
        """Arrange all pictures in one line of a progress grid: sample by sample, the branches next to each other."""
        from PIL import Image

        if self.columns is None:
            return self.grid()
        cells = [Image.fromarray(_pixels(picture)) for sample in zip(*self.rows, strict=True) for picture in sample]
        width, height = cells[0].size
        scale = min(1.0, LARGEST / max(width, height))
        small = (max(1, round(width * scale)), max(1, round(height * scale)))
        line = Image.new("RGB", (small[0] * len(cells), small[1]))
        for number, cell in enumerate(cells):
            line.paste(cell.resize(small, Image.Resampling.LANCZOS), (number * small[0], 0))
        return line


def _pixels(picture: Tensor) -> NDArray[np.uint8]:
    """Convert (3, H, W) in [0, 1] to (H, W, 3)."""
    pixels: NDArray[np.uint8] = (picture.float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return pixels


def save_picture(picture: Image, path: Path) -> None:
    """Write a PNG, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as temporary:
        picture.save(temporary)


def as_picture(maps: Tensor, modality: str) -> Tensor:
    """Convert maps (B, 3, H, W) in [-1, 1] to pictures in [0, 1] to look at."""
    values = from_map(maps, modality)
    match MODALITIES[modality].values:
        case "disparity":
            return values[:, None].expand(-1, 3, -1, -1)
        case "direction":
            return (values + 1) / 2
        case "color":
            return values


@torch.inference_mode()
def sample_prompts(model: JointModel, prompts: Sequence[str]) -> Pictures | None:
    """Generate every prompt with its own number as the seed; `None` without prompts."""
    if not prompts:
        return None
    maps = torch.stack([_maps(model, prompt, seed) for seed, prompt in enumerate(prompts)], dim=1)
    return Pictures([as_picture(each, name) for each, name in zip(maps, model.joint.names, strict=True)], COLUMNS)


def _maps(model: JointModel, prompt: str, seed: int) -> Tensor:
    """Return (N, 3, H, W) maps of all branches."""
    job = Job(prompt=prompt, seed=seed, layout=single_tile(model.window, model.window), sampling=PREVIEW_SAMPLING)
    return model.decode(sample(model, job).latents).cpu()


@contextmanager
def undisturbed_randomness() -> Iterator[None]:
    """Restore all random states afterwards, whatever is drawn inside."""
    python, arrays = random.getstate(), np.random.get_state()  # noqa: NPY002 - the state that libraries share
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(arrays)  # noqa: NPY002


@dataclass(frozen=True)
class ProgressGrid:
    """One picture of a whole run: a row for every preview, with its step at the left."""

    folder: Path
    """Holds `progress.png`, and its rows in `rows/`."""

    def row(self, step: int) -> Path:
        """Return the file of a step's row."""
        return self.folder / "rows" / f"{step:09}.png"

    def drop_after(self, step: int) -> None:
        """Forget the rows of later steps, which will be done again."""
        for path in self._rows():
            if int(path.stem) > step:
                path.unlink()

    def add(self, step: int, pictures: Pictures) -> None:
        """Keep the pictures of a step as a row, and write `progress.png` anew."""
        save_picture(pictures.line(), self.row(step))
        self._assemble()

    def _assemble(self) -> None:
        from PIL import Image, ImageDraw, ImageFont

        lines = {}
        for path in self._rows():
            with Image.open(path) as picture:
                lines[int(path.stem)] = picture.convert("RGB")
        size = (MARGIN + max(line.width for line in lines.values()), sum(line.height for line in lines.values()))
        grid, top = Image.new("RGB", size, "white"), 0
        draw, font = ImageDraw.Draw(grid), ImageFont.load_default(16)
        for step, line in lines.items():
            grid.paste(line, (MARGIN, top))
            draw.text((MARGIN - 8, top + line.height // 2), f"{step:,}", fill="black", font=font, anchor="rm")
            top += line.height
        save_picture(grid, self.folder / "progress.png")

    def _rows(self) -> list[Path]:
        return sorted(path for path in (self.folder / "rows").glob("*.png") if path.stem.isdecimal())
