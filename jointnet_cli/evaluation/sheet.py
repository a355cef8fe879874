"""A contact sheet: pictures above their depth, words below."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from jointnet_cli.output.atomic import atomic_path
from jointnet_cli.output.color import colorize
from jointnet_cli.tasks import Result

COLUMNS = 6
GAP = 6
LINES = 4
FONT_SIZE = 11
_TYPICAL = "a white lighthouse"  # how many letters fit a line is judged by it


@dataclass(frozen=True)
class Cell:
    """One place of a sheet."""

    pictures: Sequence[NDArray[np.float32]]
    """(H, W, 3) sRGB in [0, 1], from top to bottom."""
    text: str


def write_sheet(path: Path, results: Sequence[Result], columns: int = COLUMNS) -> None:
    """Write results of one size as a PNG, row by row in their order, each with its prompt."""
    write_cells(path, [Cell((each.image, *_previews(each)), each.task.prompt) for each in results], columns)


def write_cells(path: Path, cells: Sequence[Cell], columns: int) -> None:
    """Write cells as a PNG, row by row in their order, each with room for the most and the largest pictures of any."""
    pictures = [picture for cell in cells for picture in cell.pictures]
    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    font = ImageFont.load_default(FONT_SIZE)
    line = FONT_SIZE + 2
    deepest = max(len(cell.pictures) for cell in cells)
    cell_width, cell_height = width + GAP, height * deepest + LINES * line + GAP
    rows = -(-len(cells) // columns)
    sheet = Image.new("RGB", (columns * cell_width + GAP, rows * cell_height + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    letters = max(8, int(width * len(_TYPICAL) / font.getlength(_TYPICAL)))
    for number, cell in enumerate(cells):
        left, top = GAP + number % columns * cell_width, GAP + number // columns * cell_height
        for picture in cell.pictures:
            sheet.paste(Image.fromarray(np.rint(picture * 255).astype(np.uint8)), (left, top))
            top += height
        text = "\n".join(textwrap.wrap(cell.text, letters)[:LINES])
        draw.multiline_text((left, top + 1), text, fill="black", font=font, spacing=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as partial:
        sheet.save(partial, "PNG")


def _previews(result: Result) -> list[np.ndarray]:
    return [colorize(result.maps["depth"])] if "depth" in result.maps else []
