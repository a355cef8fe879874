"""Rows of batch files: each overrides the parameters of one item, and is checked as flags are."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from jointnet_cli.errors import UserError
from jointnet_cli.files.text import read_text
from jointnet_cli.params import check, override

T = TypeVar("T")


@dataclass(frozen=True)
class BatchRow:
    """A row of a batch file."""

    place: str
    """Where it stands, such as `items.csv line 3`; empty for the command line itself."""
    values: Mapping[str, Any]
    """By parameter: text from a text or CSV file, JSON values from a JSONL file. Blank cells are left out."""

    def override(self, settings: T) -> T:
        """Return the settings with this row's values in them.

        Raises:
            UserError: an unknown column, or a value that the flag would refuse.
        """
        try:
            return override(settings, check(type(settings), self.values))
        except UserError as fault:
            raise UserError(f"{self.place}: {fault}", fault.hint) from None


def read_rows(source: str) -> list[BatchRow]:
    """Read the rows of a batch file, or of stdin for `-`.

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
    """Yield the lines that are not blank, each with its place."""
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
    """Return a row whose columns may be written as flags are: `negative-prompt`."""
    row = {_column(name): value for name, value in values}
    for name, value in row.items():
        if not str(value).isascii() and any("\ud800" <= character <= "\udfff" for character in str(value)):
            raise UserError(f"{place}: {name} holds half of a surrogate pair, which is not text")
    return BatchRow(place, row)


def _column(name: str) -> str:
    return name.strip().replace("-", "_")
