"""Publish tables: files, plots, contact sheets."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.report import Column, Estimate, Table, value_of
from jointnet_cli.files.atomic import atomic_file, write_text
from jointnet_cli.files.text import to_json


def publish(table: Table, folder: Path, *, as_json: bool, quiet: bool = False) -> None:
    """Write `table.json`, `table.md` and `table.png`, and print the Markdown, or one line of JSON.

    The names of the files go to stderr unless `quiet`. Without matplotlib there is no plot, which stderr reports.
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
"""Width of a panel in inches."""

ABREAST = 4
"""Most panels in a row."""


def draw(table: Table, path: Path) -> None:
    """Plot a table as PNG.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("the plot needs matplotlib", hint="pip install 'jointnet-cli[eval]'") from error

    names = [] if table.steps else list(table.rows)
    across = min(ABREAST, len(table.columns))
    down = -(-len(table.columns) // across)
    size = (PANEL * across + 1.5, 0.4 + down * (2.6 if table.steps else 0.8 + 0.35 * len(names)))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(down, across, sharey=not table.steps, squeeze=False).flatten()
    for panel in panels[len(table.columns) :]:
        panel.set_axis_off()
    for panel, column in zip(panels, table.columns, strict=False):
        scale = 100 if column.percent else 1
        panel.set_title(column.title + (", %" if column.percent else ""), fontsize=9)
        if table.steps:
            _draw_curves(panel, table, column, scale)
            continue
        for place, name in enumerate(names):
            cell = table.rows[name].get(column.name)
            number = value_of(cell)
            if number is None:
                continue
            if isinstance(cell, Estimate):
                panel.hlines(place, cell.low * scale, cell.high * scale, color=f"C{place}", linewidth=2)
            panel.plot(number * scale, place, "o", color=f"C{place}")
        panel.set_yticks(range(len(names)), names, fontsize=8)
        panel.set_ylim(len(names) - 0.5, -0.5)
        panel.tick_params(axis="x", labelsize=8)
        panel.grid(axis="x", alpha=0.3)
    figure.suptitle(table.title, fontsize=10)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _draw_curves(panel: Any, table: Table, column: Column, scale: int) -> None:
    """Draw one column over training steps: a curve with its interval for every run, a line for every other row."""
    runs = dict.fromkeys(run for run, _ in table.steps.values())
    for color, run in enumerate(runs):
        names = [name for name in table.rows if table.steps.get(name, ("",))[0] == run]
        cells = [(table.steps[name][1], table.rows[name].get(column.name)) for name in names]
        points = [(step, cell) for step, cell in cells if isinstance(cell, Estimate) and value_of(cell) is not None]
        steps = [step for step, _ in points]
        panel.plot(steps, [cell.value * scale for _, cell in points], marker="o", color=f"C{color}", label=run)
        bounds = [[getattr(cell, end) * scale for _, cell in points] for end in ("low", "high")]
        panel.fill_between(steps, *bounds, color=f"C{color}", alpha=0.2)
    for color, name in enumerate((name for name in table.rows if name not in table.steps), len(runs)):
        if (number := value_of(table.rows[name].get(column.name))) is not None:
            panel.axhline(number * scale, color=f"C{color}", linestyle="--", label=name)
    panel.set_xscale("symlog", linthresh=50)
    panel.tick_params(labelsize=8)
    panel.grid(alpha=0.3)
    panel.legend(fontsize=7)


GAP = 6
"""Pixels between the cells of a sheet."""
SHEET_WIDTH = 840
"""Pixels across a sheet of a single method, at most."""

LINES = 4
"""Lines of text below a cell."""

FONT_SIZE = 11

_TYPICAL = "a white lighthouse"  # the number of letters that fit a line is estimated from its width


@dataclass(frozen=True)
class SheetCell:
    """One cell of a contact sheet."""

    images: Sequence[NDArray[np.float32]]
    """(H, W, 3) sRGB in [0, 1], from top to bottom."""
    text: str


def write_columns(columns: Sequence[Mapping[int, SheetCell]], path: Path, *, quiet: bool = False) -> None:
    """Write a contact sheet with a column for every method and a row for every case, and name it on stderr.

    The cases of a single method stand beside each other, as many as fit `SHEET_WIDTH`. Every
    cell has room for the most and the largest images of any.
    """
    numbers = sorted({number for column in columns for number in column})
    blank = SheetCell((), "")
    cells = [column.get(number, blank) for number in numbers for column in columns]
    width = max(image.shape[1] for cell in cells for image in cell.images)
    abreast = len(columns) if len(columns) > 1 else max(1, min(len(cells), SHEET_WIDTH // (width + GAP)))
    height = max(image.shape[0] for cell in cells for image in cell.images)
    font = ImageFont.load_default(FONT_SIZE)
    line = FONT_SIZE + 2
    deepest = max(len(cell.images) for cell in cells)
    cell_width, cell_height = width + GAP, height * deepest + LINES * line + GAP
    rows = -(-len(cells) // abreast)
    sheet = Image.new("RGB", (abreast * cell_width + GAP, rows * cell_height + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    letters = max(8, int(width * len(_TYPICAL) / font.getlength(_TYPICAL)))
    for number, cell in enumerate(cells):
        left, top = GAP + number % abreast * cell_width, GAP + number // abreast * cell_height
        for image in cell.images:
            sheet.paste(Image.fromarray(np.rint(image * 255).astype(np.uint8)), (left, top))
            top += height
        text = "\n".join(textwrap.wrap(cell.text, letters)[:LINES])
        draw.multiline_text((left, top + 1), text, fill="black", font=font, spacing=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as partial:
        sheet.save(partial, "PNG")
    if not quiet:
        print(path, file=sys.stderr)
