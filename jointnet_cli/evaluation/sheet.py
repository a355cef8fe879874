"""A contact sheet: pictures above their depth, the prompt below."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jointnet_cli.output.atomic import atomic_path
from jointnet_cli.output.color import colorize
from jointnet_cli.tasks import Result

COLUMNS = 6
GAP = 6
LINES = 4
FONT_SIZE = 11
_TYPICAL = "a white lighthouse"  # how many letters fit a line is judged by it


def write_sheet(path: Path, results: Sequence[Result], columns: int = COLUMNS) -> None:
    """Write results of one size as a PNG, row by row in their order."""
    height, width = results[0].image.shape[:2]
    font = ImageFont.load_default(FONT_SIZE)
    line = FONT_SIZE + 2
    cell_width, cell_height = width + GAP, height * (1 + bool(results[0].maps)) + LINES * line + GAP
    rows = -(-len(results) // columns)
    sheet = Image.new("RGB", (columns * cell_width + GAP, rows * cell_height + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    letters = max(8, int(width * len(_TYPICAL) / font.getlength(_TYPICAL)))
    for number, result in enumerate(results):
        left, top = GAP + number % columns * cell_width, GAP + number // columns * cell_height
        for picture in (result.image, *_previews(result)):
            sheet.paste(Image.fromarray(np.rint(picture * 255).astype(np.uint8)), (left, top))
            top += height
        text = "\n".join(textwrap.wrap(result.task.prompt, letters)[:LINES])
        draw.multiline_text((left, top + 1), text, fill="black", font=font, spacing=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as partial:
        sheet.save(partial, "PNG")


def _previews(result: Result) -> list[np.ndarray]:
    return [colorize(result.maps["depth"])] if "depth" in result.maps else []
