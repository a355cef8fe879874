"""Batch files: every row overrides the options of one item, with the same checks as the flags."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from jointnet_cli.errors import UserError, did_you_mean
from jointnet_cli.files.text import read_text

if TYPE_CHECKING:
    from pydantic import TypeAdapter


@dataclass(frozen=True)
class BatchRow:
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
                hint = did_you_mean(column, known) or f"known are {', '.join(sorted(known))}"
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


def read_rows(source: str) -> list[BatchRow]:
    """The rows of a batch file, or of stdin for `-`.

    `.csv` has a header of option names, `.jsonl` an object a line; anything else is a prompt a line, where blank lines
    and lines that start with `#` are skipped. On stdin a leading `{` says that it is JSONL.

    Raises:
        UserError: a file that cannot be read, is malformed, or holds no row.
    """
    place = "stdin" if source == "-" else source
    text = _read_text(source, place)
    suffix = Path(source).suffix.lower()
    if suffix == ".csv":
        rows = list(_csv_rows(text, place))
    elif suffix == ".jsonl" or (source == "-" and text.lstrip().startswith("{")):
        rows = list(_json_rows(text, place))
    else:
        rows = [BatchRow(where, {"prompt": line}) for where, line in _lines(text, place) if not line.startswith("#")]
    if not rows:
        raise UserError(f"no prompts in {place}", "write one prompt a line; blank lines and lines with # are skipped")
    return rows


def _read_text(source: str, place: str) -> str:
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except FileNotFoundError:
        raise UserError(f"no file {source}", "--prompts takes a .txt, .csv or .jsonl file, or - for stdin") from None
    except IsADirectoryError:
        raise UserError(f"{source} is a folder", "--prompts takes a .txt, .csv or .jsonl file") from None
    text = read_text(data, place)
    if "\0" in text:  # such as UTF-16 without a byte-order mark
        raise UserError(f"{place} is not UTF-8 text", "save it as UTF-8")
    return text


def _lines(text: str, place: str) -> Iterator[tuple[str, str]]:
    """The lines that are not blank, each with its place."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"{place} line {number}", line.strip()


def _csv_rows(text: str, place: str) -> Iterator[BatchRow]:
    reader = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    try:
        names = [_column(name) for name in reader.fieldnames or ()]
        if twice := [name for name in dict.fromkeys(names) if name and names.count(name) > 1]:
            raise UserError(f"{place}: the column {twice[0]} occurs twice", "leave one of them out")
        for cells in reader:
            where = f"{place} line {reader.line_num}"
            if None in cells:
                raise UserError(f"{where}: more cells than the header has", "put text with commas in double quotes")
            yield _row(where, ((name, cell.strip()) for name, cell in cells.items() if cell and cell.strip()))
    except csv.Error as error:
        hint = "close every double quote, and write a quote inside of quoted text twice"
        raise UserError(f"{place}, after line {reader.line_num}: not CSV: {error}", hint) from None


def _json_rows(text: str, place: str) -> Iterator[BatchRow]:
    for where, line in _lines(text, place):
        try:
            values = json.loads(line)
        except ValueError as error:
            raise UserError(f"{where}: not JSON: {error}") from None
        if not isinstance(values, dict):
            raise UserError(f"{where}: not a JSON object", 'write {"prompt": "ocean reef", "seed": 3}')
        yield _row(where, ((name, value) for name, value in values.items() if value is not None))


def _row(place: str, values: Iterable[tuple[str, Any]]) -> BatchRow:
    """A row whose columns may be written as flags are: `negative-prompt`."""
    row = {_column(name): value for name, value in values}
    for name, value in row.items():
        if not str(value).isascii() and any("\ud800" <= character <= "\udfff" for character in str(value)):
            raise UserError(f"{place}: {name} holds half of a surrogate pair, which is not text")
    return BatchRow(place, row)


def _column(name: str) -> str:
    return name.strip().replace("-", "_")
