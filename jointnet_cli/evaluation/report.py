"""Tables of estimates as JSON and Markdown."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Estimate:
    """A measured number with its interval. The interval of one item is NaN; with no items the number is NaN, too."""

    value: float
    low: float
    high: float
    count: int
    """Items that were measured."""


_RUN_FACTS = (
    *("model", "model_hash", "preset", "scheduler", "steps", "spacing", "strength", "guidance", "guidance_interval"),
    *("tiling", "evaluations", "width", "height", "dtype"),
)


def run_facts(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a result that a measured number must be stated with."""
    return {name: settings[name] for name in _RUN_FACTS}


ARROWS = {"higher": " ↑", "lower": " ↓", None: ""}

Cell = Estimate | float | None
"""A number with or without an interval; `None` if a method has no such number."""


@dataclass(frozen=True)
class Column:
    """One number of every method."""

    name: str
    """A metric of features contains the name of their network, such as `FD-EffLite0`."""
    better: Literal["higher", "lower"] | None = None
    digits: int = 3
    """Digits after the decimal point."""
    percent: bool = False
    """Whether it is shown in percent; the number itself is a share in [0, 1]."""

    @property
    def title(self) -> str:
        """The name, with an arrow towards better numbers."""
        return self.name + ARROWS[self.better]

    def show(self, number: float) -> str:
        """Format a number of this column."""
        return f"{number:.{self.digits}{'%' if self.percent else 'f'}}"


@dataclass(frozen=True)
class Table:
    """Cells by method and column, and what they were measured on."""

    title: str
    columns: tuple[Column, ...]
    rows: Mapping[str, Mapping[str, Cell]]
    facts: Mapping[str, Any]
    """Data, models, settings, counts: what a number must be stated with. Ready for JSON."""
    references: Collection[str] = ()
    """Rows that do not compete for the best number of a column, such as one that has seen the truth."""
    steps: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """By row, the run and the training step of a checkpoint."""

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values, with `null` for empty cells."""
        return {
            "title": self.title,
            "columns": [asdict(column) for column in self.columns],
            "rows": {
                name: {column.name: _plain(cells.get(column.name)) for column in self.columns}
                for name, cells in self.rows.items()
            },
            "facts": dict(self.facts),
        }

    def to_markdown(self) -> str:
        """Return values with intervals, the best number of a column in bold, and the facts below."""
        best = {column.name: self._best(column) for column in self.columns}
        lines = [
            f"### {self.title}",
            "",
            "| " + " | ".join(["row", *(column.title for column in self.columns)]) + " |",
            "|---" * (len(self.columns) + 1) + "|",
        ]
        for name, cells in self.rows.items():
            competes = name not in self.references
            shown = [
                _show(column, cells.get(column.name), best[column.name] if competes else None)
                for column in self.columns
            ]
            lines.append("| " + " | ".join([_escaped(name), *shown]) + " |")
        lines += ["", *(line for name, value in self.facts.items() for line in _bullets(name, value))]
        return "\n".join(lines).rstrip() + "\n"

    def _best(self, column: Column) -> float | None:
        """Return the best number of a column; `None` without a better direction or if fewer than two methods have one."""
        competing = [cells for name, cells in self.rows.items() if name not in self.references]
        cells = (value_of(cells.get(column.name)) for cells in competing)
        numbers = [number for number in cells if number is not None]
        if column.better is None or len(numbers) < 2:
            return None
        return max(numbers) if column.better == "higher" else min(numbers)


def value_of(cell: Cell) -> float | None:
    """Return the number of a cell, `None` if it is empty."""
    number = cell.value if isinstance(cell, Estimate) else cell
    return None if number is None or math.isnan(number) else number


def _plain(cell: Cell) -> dict[str, float | None] | float | None:
    """Return a cell for JSON, which has no NaN."""
    if value_of(cell) is None:
        return None
    if not isinstance(cell, Estimate):
        return cell
    return {name: None if math.isnan(number) else number for name, number in asdict(cell).items()}


def _show(column: Column, cell: Cell, best: float | None) -> str:
    number = value_of(cell)
    if number is None:
        return ""
    shown = f"**{column.show(number)}**" if number == best else column.show(number)
    if isinstance(cell, Estimate) and not math.isnan(cell.low):
        shown += f" [{column.show(cell.low)}, {column.show(cell.high)}]"
    return shown


def _bullets(name: str, value: Any) -> list[str]:
    """Return the lines of a fact; parts that have parts get lines of their own."""
    if isinstance(value, Mapping) and value and all(isinstance(part, Mapping) for part in value.values()):
        return [f"- {name}:", *(f"  - {part}: {_fact(facts)}" for part, facts in value.items())]
    return [f"- {name}: {_fact(value)}"]


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_fact(part)}" for name, part in value.items() if part is not None)
    return ", ".join(map(_fact, value)) if isinstance(value, list | tuple) else str(value)


def _escaped(name: str) -> str:
    return name.replace("|", "\\|")
