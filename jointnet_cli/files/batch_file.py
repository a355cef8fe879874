"""Rows of batch files: each overrides the parameters of one item, and is checked as flags are."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from jointnet_cli.errors import UserError
from jointnet_cli.files.text import MOST_TABLE, from_json, read_bytes, read_stream, read_text
from jointnet_cli.params import check, columns, override

T = TypeVar("T")


@dataclass(frozen=True)
class BatchRow:
    """A row of a batch file."""

    place: str
    """Where it stands, such as `items.csv line 3`; empty for the command line itself."""
    values: Mapping[str, Any]
    """By parameter: text from a text file or table, JSON values from JSON. Blank cells are left out."""
    header: str = ""
    """Where the names of its columns stand, if it is the row of a table."""

    def override(self, settings: T) -> T:
        """Return the settings with this row's values in them.

        Raises:
            UserError: an unknown column, or a value that the flag would refuse.
        """
        place = self.header or self.place
        try:
            columns(type(settings), self.values)
            place = self.place
            return override(settings, check(type(settings), self.values))
        except UserError as fault:
            raise UserError(f"{place}: {fault}", fault.hint) from None


def read_rows(source: str) -> list[BatchRow]:
    """Read the rows of a batch file, or of stdin for `-`.

    `.csv` and `.tsv` have a header of option names, which shows the delimiter: comma, semicolon or tab. `.json` is an array
    of prompts or objects, `.jsonl` one of them a line. Anything else is a prompt a line, where blank lines and lines that
    start with `#` are skipped. Stdin is JSONL if it starts with `{`, and JSON if it is an array.

    Raises:
        UserError: a file that cannot be read, is malformed, or holds no row.
    """
    place = "stdin" if source == "-" else source
    text = _read_text(source, place)
    suffix, begin = Path(source).suffix.lower(), text.lstrip()[:1] if source == "-" else ""
    lines_of_json = suffix == ".json" and not _is_json(text) and _is_json(_first_line(text))
    hint = "write one prompt a line; blank lines and lines with # are skipped"
    if not text.strip():
        rows = []
    elif suffix in (".csv", ".tsv"):
        rows = list(_table_rows(text, place, "\t,;" if suffix == ".tsv" else ",;\t"))
        hint = "the first line of a table names its columns, such as prompt,seed"
    elif suffix in (".jsonl", ".ndjson") or begin == "{" or lines_of_json:
        rows = list(_lines_of_json(text, place))
    elif suffix == ".json" or (begin == "[" and _is_json(text)):
        rows = list(_json_rows(text, place))
    else:
        rows = [BatchRow(where, {"prompt": line}) for where, line in _lines(text, place) if not line.startswith("#")]
    if not rows:
        raise UserError(f"no prompts in {place}", hint)
    return rows


def _read_text(source: str, place: str) -> str:
    formats = "a .txt, .csv, .tsv, .json or .jsonl file"
    if Path(source).suffix.lower() in (".xlsx", ".xls", ".ods", ".parquet"):
        raise UserError(f"{source} is not a text file", f"save it as CSV; --prompts takes {formats}")
    if source != "-" and (Path(source).is_char_device() or Path(source).is_block_device()):
        raise UserError(f"{source} is a device, not a file", f"--prompts takes {formats}, or - for stdin")
    try:
        stdin = source == "-"
        data = read_stream(sys.stdin.buffer, place, MOST_TABLE) if stdin else read_bytes(source, MOST_TABLE, pipes=True)
    except FileNotFoundError:
        raise UserError(f"no file {source}", f"--prompts takes {formats}, or - for stdin") from None
    except IsADirectoryError:
        raise UserError(f"{source} is a folder", f"--prompts takes {formats}") from None
    text = read_text(data, place)
    if "\0" in text:  # such as UTF-16 without a byte-order mark
        raise UserError(f"{place} is not UTF-8 text", "save it as UTF-8")
    return text


def _lines(text: str, place: str) -> Iterator[tuple[str, str]]:
    """Yield the lines that are not blank, each with its place."""
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
        if line.strip():
            yield f"{place} line {number}", line.strip()


def _first_line(text: str) -> str:
    return next((line for _, line in _lines(text, "")), "")


def _table_rows(text: str, place: str, delimiters: str) -> Iterator[BatchRow]:
    """Yield the rows of a table, separated as Excel's line `sep=;` says or by what the header has most of."""
    header = re.sub(r'"[^"]*"|^sep=', "", _first_line(text))
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=max(delimiters, key=header.count),
        skipinitialspace=True,
        strict=True,
    )
    names: list[str] = []
    start, named = 1, ""
    try:
        for cells in reader:
            where, start = f"{place} line {start}", reader.line_num + 1
            if not any(cell.strip() for cell in cells) or (not names and cells[0] == "sep="):
                continue
            if not names:
                names, named = [_column(name) for name in cells], where
                if twice := next((name for name in names if name and names.count(name) > 1), None):
                    raise UserError(f"{where}: the column {twice} occurs twice", "leave one of them out")
            elif len(cells) > len(names):
                raise UserError(f"{where}: more cells than the header has", "put text with commas in double quotes")
            else:
                filled = {name: cell.strip() for name, cell in zip(names, cells, strict=False) if cell.strip()}
                if "" in filled:
                    raise UserError(f"{named}: column {names.index('') + 1} has no name", "name it, or leave it out")
                yield BatchRow(where, filled, named)
    except csv.Error as error:
        known = {"end of data": "a double quote is not closed", "field limit": "a cell is too long"}
        fault = next(
            (words for part, words in known.items() if part in str(error)), "text follows a closing double quote"
        )
        hint = "close every double quote, and write a quote inside of quoted text twice"
        raise UserError(f"{place} line {start}: {fault}", hint) from None


def _is_json(text: str) -> bool:
    try:
        return isinstance(from_json(text), list | dict)
    except ValueError:
        return False


def _parse(text: str, place: str, lines: bool = False) -> Any:
    """Decode JSON, objects as tuples of pairs.

    Raises:
        UserError: it is none; `lines` adds the line to the place.
    """
    try:
        return json.loads(text, object_pairs_hook=tuple)
    except json.JSONDecodeError as error:
        where = f"{place} line {error.lineno}" if lines else place
        raise UserError(f"{where}: not JSON: {error.msg}") from None
    except (ValueError, RecursionError):  # thousands of digits or brackets
        raise UserError(f"{place}: not JSON that can be read: a number or nesting without end") from None


def _json_rows(text: str, place: str) -> Iterator[BatchRow]:
    """Yield the items of a JSON array, or the single object of a file."""
    values = _parse(text, place, lines=True)
    for number, item in enumerate(values if isinstance(values, list) else [values], start=1):
        yield _json_row(f"{place} item {number}", item)


def _lines_of_json(text: str, place: str) -> Iterator[BatchRow]:
    for where, line in _lines(text, place):
        yield _json_row(where, _parse(line, where))


def _json_row(place: str, value: Any) -> BatchRow:
    if isinstance(value, str):
        value = (("prompt", value),)
    if not isinstance(value, tuple):
        raise UserError(f"{place}: not a JSON object", 'write {"prompt": "ocean reef", "seed": 3}')
    row: dict[str, Any] = {}
    for name, item in value:
        if _column(name) in row:
            raise UserError(f"{place}: {_column(name)} occurs twice", "leave one of them out")
        row[_column(name)] = dict(item) if isinstance(item, tuple) else item
    return BatchRow(place, {name: item for name, item in row.items() if item is not None})


def _column(name: str) -> str:
    """Return the parameter of a column, which may be written as flags are: `negative-prompt`."""
    return re.sub(r"[- ]", "_", name.strip().lower())
