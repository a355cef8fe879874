"""A table as a picture: one panel a column, the rows as points with their intervals."""

from __future__ import annotations

from pathlib import Path

from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.intervals import Estimate
from jointnet_cli.evaluation.table import Table, value_of
from jointnet_cli.output.atomic import atomic_path

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
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
