"""Batch files: every row overrides the options of one item, with the same checks as the flags."""

from __future__ import annotations

import csv
import difflib
import io
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from jointnet_cli.errors import UserError
from jointnet_cli.text_file import decode_text

if TYPE_CHECKING:
    from pydantic import TypeAdapter


@dataclass(frozen=True)
class Row:
    """What one row of a batch file says."""

    place: str
    """Where it stands, such as `items.csv line 3`; empty for the command line itself."""
    values: Mapping[str, Any]
    """By option name: text from a text or CSV file, JSON values from a JSONL file. What a row leaves blank is not there."""

    def override(self, groups: Sequence[Any]) -> list[Any]:
        """The option groups with this row's values in them.

        Raises:
            UserError: a column that is no option of these groups, or a value that the flag would refuse.
        """
        known = {field.name for group in groups for field in fields(group)}
        for column in self.values:
            if column not in known:
                near = difflib.get_close_matches(column, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
                raise UserError(f"{self.place}: unknown column {column}", hint)
        return [replace(group, **self._values_of(group)) for group in groups]

    def _values_of(self, group: Any) -> dict[str, Any]:
        from pydantic import ValidationError

        kind: type = type(group)
        checked = {}
        for name in (field.name for field in fields(group) if field.name in self.values):
            wrong = f"{self.place}: {name} {self.values[name]!r}"
            try:
                value = checked[name] = _checker(kind, name).validate_python(self.values[name])
            except ValidationError as error:
                reason = error.errors()[0]["msg"]
                raise UserError(f"{wrong}: {reason[0].lower()}{reason[1:]}") from None
            if isinstance(value, float) and not math.isfinite(value):
                raise UserError(f"{wrong}: not a finite number")
        return checked


@cache
def _checker(group: type, name: str) -> TypeAdapter[Any]:
    """Converts and checks values of an option as its flag does."""
    from pydantic import Field, TypeAdapter

    hint = get_type_hints(group, include_extras=True)[name]
    # Typer keeps the flag's bounds in the annotation that describes the flag.
    flag = hint.__metadata__[0]
    bounded: Any = Annotated[hint, Field(ge=getattr(flag, "min", None), le=getattr(flag, "max", None))]
    return TypeAdapter(bounded)


def read_rows(source: str) -> list[Row]:
    """The rows of a batch file, or of stdin for `-`.

    `.csv` has a header of option names, `.jsonl` an object a line; anything else is a prompt a line, where blank lines
    and lines that start with `#` are skipped. On stdin a leading `{` says that it is JSONL.

    Raises:
        UserError: a file that cannot be read, is malformed, or holds no row.
    """
    place = "stdin" if source == "-" else source
    text = sys.stdin.read().removeprefix("\N{BYTE ORDER MARK}") if source == "-" else _read_text(Path(source))
    suffix = Path(source).suffix.lower()
    if suffix == ".csv":
        rows = list(_csv_rows(text, place))
    elif suffix == ".jsonl" or (source == "-" and text.lstrip().startswith("{")):
        rows = list(_json_rows(text, place))
    else:
        rows = [Row(where, {"prompt": line}) for where, line in _lines(text, place) if not line.startswith("#")]
    if not rows:
        raise UserError(f"no prompts in {place}", "write one prompt a line; blank lines and lines with # are skipped")
    return rows


def _read_text(path: Path) -> str:
    try:
        return decode_text(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"no file {path}", "--prompts takes a .txt, .csv or .jsonl file, or - for stdin") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder", "--prompts takes a .txt, .csv or .jsonl file") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text", "save it as UTF-8") from None


def _lines(text: str, place: str) -> Iterator[tuple[str, str]]:
    """The lines that are not blank, each with its place."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"{place} line {number}", line.strip()


def _csv_rows(text: str, place: str) -> Iterator[Row]:
    reader = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
    try:
        for cells in reader:
            where = f"{place} line {reader.line_num}"
            if None in cells:
                raise UserError(f"{where}: more cells than the header has", "put text with commas in double quotes")
            yield _row(where, ((name, cell.strip()) for name, cell in cells.items() if cell and cell.strip()))
    except csv.Error as error:
        raise UserError(f"{place} line {reader.line_num}: not CSV: {error}") from None


def _json_rows(text: str, place: str) -> Iterator[Row]:
    for where, line in _lines(text, place):
        try:
            values = json.loads(line)
        except ValueError as error:
            raise UserError(f"{where}: not JSON: {error}") from None
        if not isinstance(values, dict):
            raise UserError(f"{where}: not a JSON object", 'write {"prompt": "ocean reef", "seed": 3}')
        yield _row(where, ((name, value) for name, value in values.items() if value is not None))


def _row(place: str, values: Iterable[tuple[str, Any]]) -> Row:
    """A row whose columns may be written as flags are: `negative-prompt`."""
    return Row(place, {name.strip().replace("-", "_"): value for name, value in values})
