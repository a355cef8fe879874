"""A table of estimates as JSON and Markdown."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Estimate:
    """A measured number with its interval. NaN is the interval of one item, and of none also the number."""

    value: float
    low: float
    high: float
    count: int
    """Items that it is measured on."""


def run_facts(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of a result's settings, those that a measured number must come with."""
    names = ("model", "model_hash", "scheduler", "steps", "strength", "guidance", "width", "height", "dtype")
    return {name: settings[name] for name in names}


ARROWS = {"higher": " ↑", "lower": " ↓", None: ""}

Cell = Estimate | float | None
"""A number with or without an interval; `None` where a row has no such number."""


@dataclass(frozen=True)
class Column:
    """One number of every row."""

    name: str
    """Of a metric made of features, with the name of their space, such as `FD-EffLite0`."""
    better: Literal["higher", "lower"] | None = None
    digits: int = 3
    """Shown after the decimal point."""
    percent: bool = False
    """Shown in percent; the number itself is a share in [0, 1]."""

    @property
    def title(self) -> str:
        """The name and which way is better."""
        return self.name + ARROWS[self.better]

    def show(self, number: float) -> str:
        """A number as this column shows it."""
        return f"{number:.{self.digits}{'%' if self.percent else 'f'}}"


@dataclass(frozen=True)
class Table:
    """Rows of measurements, each by the names of the columns, and what they were measured on."""

    title: str
    columns: tuple[Column, ...]
    rows: Mapping[str, Mapping[str, Cell]]
    facts: Mapping[str, Any]
    """Data, models, settings, counts: what a number has to come with. Ready for JSON."""
    references: Collection[str] = ()
    """Rows that do not compete for the best of a column, such as one that has seen the truth."""

    def to_json(self) -> dict[str, Any]:
        """Everything, with `null` for empty cells."""
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
        """Values with their intervals, the best of a column in bold, and the facts below."""
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
    """The number of a cell, `None` of an empty one."""
    number = cell.value if isinstance(cell, Estimate) else cell
    return None if number is None or math.isnan(number) else number


def _plain(cell: Cell) -> dict[str, float | None] | float | None:
    """A cell for JSON, which has no NaN."""
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
    """A fact, with a line of its own for every part that has parts."""
    if isinstance(value, Mapping) and value and all(isinstance(part, Mapping) for part in value.values()):
        return [f"- {name}:", *(f"  - {part}: {_fact(facts)}" for part, facts in value.items())]
    return [f"- {name}: {_fact(value)}"]


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_fact(part)}" for name, part in value.items())
    return ", ".join(map(_fact, value)) if isinstance(value, list | tuple) else str(value)


def _escaped(name: str) -> str:
    return name.replace("|", "\\|")
