"""Publish a table: files, plots, contact sheets."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.report import Estimate, Table, value_of
from jointnet_cli.files.atomic import atomic_file, write_text
from jointnet_cli.files.color import colorize
from jointnet_cli.files.text import to_json
from jointnet_cli.results import Result


def publish(table: Table, folder: Path, *, as_json: bool, quiet: bool = False) -> None:
    """Write `table.json`, `table.md` and `table.png`, name them on stderr, and print the Markdown, or one line of JSON.

    Quiet, the files are not named. Without matplotlib there is no picture, which is said on stderr.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record, markdown = table.to_json(), table.to_markdown()
    paths = [folder / "table.json", folder / "table.md"]
    write_text(paths[0], to_json(record, indent=2, ensure_ascii=False) + "\n")
    write_text(paths[1], markdown)
    try:
        draw(table, folder / "table.png")
        paths.append(folder / "table.png")
    except UserError as fault:
        print(f"{fault}: {fault.hint}", file=sys.stderr)
    if not quiet:
        print(*paths, sep="\n", file=sys.stderr)
    print(to_json(record, ensure_ascii=False) if as_json else markdown, end="\n" if as_json else "", flush=True)


PANEL = 3.2
"""Inches across a panel."""

ABREAST = 4
"""Panels beside each other."""


def draw(table: Table, path: Path) -> None:
    """Write a table's plot as PNG.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("the plot needs matplotlib", hint="pip install 'jointnet-cli[eval]'") from error

    names = list(table.rows)
    across = min(ABREAST, len(table.columns))
    down = -(-len(table.columns) // across)
    size = (PANEL * across + 1.5, 0.4 + down * (0.8 + 0.35 * len(names)))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(down, across, sharey=True, squeeze=False).flatten()
    for panel in panels[len(table.columns) :]:
        panel.set_axis_off()
    for panel, column in zip(panels, table.columns, strict=False):
        scale = 100 if column.percent else 1
        for place, name in enumerate(names):
            cell = table.rows[name].get(column.name)
            number = value_of(cell)
            if number is None:
                continue
            if isinstance(cell, Estimate):
                panel.hlines(place, cell.low * scale, cell.high * scale, color=f"C{place}", linewidth=2)
            panel.plot(number * scale, place, "o", color=f"C{place}")
        panel.set_title(column.title + (", %" if column.percent else ""), fontsize=9)
        panel.set_yticks(range(len(names)), names, fontsize=8)
        panel.set_ylim(len(names) - 0.5, -0.5)
        panel.tick_params(axis="x", labelsize=8)
        panel.grid(axis="x", alpha=0.3)
    figure.suptitle(table.title, fontsize=10)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=110)


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
    with atomic_file(path) as partial:
        sheet.save(partial, "PNG")


def _previews(result: Result) -> list[np.ndarray]:
    return [colorize(result.maps["depth"])] if "depth" in result.maps else []
