"""Tables, folders of images and shards as one table in SQL with the columns `url` and `caption`."""

from __future__ import annotations

import gzip
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from jointnet_cli.data.columns import Purpose, groups_of, is_identifier, is_number, spellings
from jointnet_cli.data.filter import BOUNDED, needed_columns
from jointnet_cli.data.folders import images_below, images_in_shards, write_index
from jointnet_cli.data.rows import HIDDEN
from jointnet_cli.data.settings import FilterSettings, PrepareSettings
from jointnet_cli.data.source_files import IMAGES, SHARDS, Source, find_files
from jointnet_cli.data.sql import connect, quoted, without_nan
from jointnet_cli.data.unify import unified
from jointnet_cli.errors import UserError, closest, did_you_mean
from jointnet_cli.files.text import marked_encoding, open_regular, warn

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# The first line is the header: no line is skipped, and none is a comment, because captions may begin with #. Quotes are
# double quotes, so that one that is not closed is a fault rather than text.
CSV = (
    "read_csv({}, all_varchar = true, header = true, union_by_name = true, sample_size = -1, skip = 0, comment = '', "
    "quote = '\"', escape = '\"', max_line_size = 16777216, buffer_size = 33554432)"
)

TSV = f"{CSV[:-1]}, delim = '\t')"

# Every line of every file is looked at, so that no late key is lost. Numbers keep all their digits in JSON columns.
JSON = "read_json({}, sample_size = -1, maximum_depth = 1, union_by_name = true, format = 'newline_delimited')"

READERS = {"parquet": "read_parquet({})", "csv": CSV, "tsv": TSV, "jsonl": JSON, "ndjson": JSON}

GUESSES = {"url": ("url", "image_url", "link"), "caption": ("caption", "text", "alt", "title")}
"""Names of the two columns that are needed, where `--columns` does not say. A row takes the first that has a value there."""

SPELLINGS = ("", "_1", "_2")
"""What DuckDB appends to the name of a column whose name differs from an earlier one in case alone: `url` beside `URL`."""

INDEX = "index.jsonl"

LINES = (
    "give every line as many values as the header, quote values with delimiters or line breaks, and end all lines alike"
)


@dataclass(frozen=True)
class SourceTable:
    """A source that can be queried."""

    relation: str
    """SQL of a subquery; its columns have our names."""
    columns: tuple[str, ...]
    web_only: bool
    """Whether its addresses have to be web addresses."""
    roots: tuple[Path, ...] | None = None
    """Folders in which files have to lie that its addresses name; `None` for an index of files that the user named."""


def table_columns(source: Source) -> list[str] | None:
    """Return the columns of the first table of a source; `None` for images and shards.

    Raises:
        UserError: as `find_files`, or a table that cannot be read.
    """
    import duckdb

    with TemporaryDirectory(prefix="jointnet-") as scratch, connect() as connection:
        found = find_files(connection, source)
        if found.kind in (SHARDS, IMAGES):
            return None
        files = _as_text(found.kind, found.files[:1], source, Path(scratch))
        try:
            return list(spellings(groups_of(connection, READERS[found.kind], files, same=True)).values())
        except duckdb.Error as error:
            raise unreadable(str(source), error, files) from error


def missing_columns(settings: PrepareSettings, columns: Iterable[str]) -> list[str]:
    """Return the columns that settings need and a table lacks, by the table's names and in any case."""
    ours = ("url", "caption", *sorted(needed_columns(settings.filter)), *settings.filter.dedupe)
    there = {column.lower() for column in columns}
    needed = dict.fromkeys(settings.columns.get(name, name) for name in ours)
    return [name for name in needed if name.lower() not in there]


def open_table(
    connection: DuckDBPyConnection, source: Source, names: Mapping[str, str], scratch: Path, wanted: FilterSettings
) -> SourceTable:
    """Open a source. Not-a-number is read as NULL, and columns with a bound as numbers.

    Args:
        connection: what will query the table.
        source: tables, folders of images, or shards.
        names: our column -> the source's, where they differ.
        scratch: a folder for the index of images and shards.
        wanted: the bounds and the columns without duplicates that will be asked for.

    Raises:
        UserError: as `find_files`; a file that cannot be read, a column that is not there; a column that is needed and has
            nested values, or types that no common type keeps exactly.
    """
    import duckdb

    found, spec = find_files(connection, source), str(source)
    is_index = found.kind in (SHARDS, IMAGES)  # its captions are decided already
    if is_index:
        entries = images_in_shards if found.kind == SHARDS else images_below
        write_index(entries(map(Path, found.files)), scratch / INDEX)
        kind, files = "jsonl", [str(scratch / INDEX)]
    else:
        kind, files = found.kind, _as_text(found.kind, found.files, source, scratch)
    try:
        groups = groups_of(connection, READERS[kind], files, same=READERS[kind] in (CSV, TSV))
        hidden = frozenset() if is_index else HIDDEN
        given = [column for lower, column in spellings(groups).items() if lower not in hidden]
        _check_header(spec, kind, given, files)
        ours = _our_names(spec, given, names, wanted)
        guessed = {name: _guesses(name, given)[: 1 if is_index else None] for name in GUESSES.keys() - names}
        relation, types = unified(connection, groups, _purpose(ours, names, guessed, wanted), untyped=kind != "parquet")
    except duckdb.Error as error:
        raise unreadable(spec, error, files) from error
    selected = {name: quoted(column) for name, column in ours.items() if column in types}
    for name in needed_columns(wanted) - GUESSES.keys():
        if name in selected and not is_number(types[ours[name]]):
            selected[name] = _as_number(connection, spec, name, selected[name], relation)
    for name in GUESSES:
        columns = [quoted(column) for column in guessed.get(name, [ours.get(name, "")]) if column in types]
        text = ", ".join(f"nullif(ltrim({column}, chr(65279)), '')" for column in columns)  # without a byte-order mark
        selected[name] = f"coalesce({text}, '')" if text else "''"
    listed = ", ".join(f"{column} AS {quoted(name)}" for name, column in selected.items())
    roots = (
        None if is_index or source.is_remote else (Path.cwd(), *(Path(file).parent.resolve() for file in found.files))
    )
    return SourceTable(f"(SELECT {listed} FROM {relation})", tuple(selected), source.is_remote, roots)


def _guesses(name: str, given: Sequence[str]) -> list[str]:
    """Return the source's columns that may hold one of `GUESSES`, best first."""
    lower = {column.lower(): column for column in reversed(given)}
    spelt = [guess + end for guess in GUESSES[name] if guess in lower for end in SPELLINGS]
    return [lower[each] for each in spelt if each in lower]


def _purpose(
    ours: Mapping[str, str], names: Mapping[str, str], guessed: Mapping[str, Sequence[str]], wanted: FilterSettings
) -> Purpose:
    """Return what the columns that we name are used for."""
    used = {*GUESSES, *names, *needed_columns(wanted), *wanted.dedupe}
    listed = [[column.lower() for column in columns] for columns in guessed.values()]
    return Purpose(
        text={ours[name].lower() for name in GUESSES if name in ours}.union(*listed),
        identifiers={
            column.lower()
            for name, column in ours.items()
            if name in wanted.dedupe or is_identifier(name) or is_identifier(column)
        },
        wanted={ours[name].lower() for name in used if name in ours},
        earlier={
            column: set(columns[:number]) for columns in listed for number, column in enumerate(columns) if number
        },
    )


def _as_number(connection: DuckDBPyConnection, spec: str, name: str, column: str, relation: str) -> str:
    """Return SQL of a column of text as numbers. Warn on stderr of values that are not numbers: they pass no bound."""
    text = f"trim(CAST({column} AS VARCHAR))"
    number = f"TRY_CAST({text} AS DOUBLE)"
    count, example = connection.execute(
        f"SELECT count(*), min({text}) FROM {relation} WHERE {number} IS NULL AND {text} <> ''"
    ).fetchall()[0]
    if count:
        warn(f"{spec}: {count} values of {name} are not numbers, such as {example!r}; no bound keeps them")
    return without_nan(number)


def unreadable(spec: str, error: Exception, files: Sequence[str] = ()) -> UserError:
    """Return what DuckDB finds wrong with a source, and what to do about it."""
    lines, text = re.sub(r"^[A-Z][A-Za-z ]* Error: ", "", str(error)).splitlines(), str(error).lower()
    if "unicode" in text or "utf-8 encoding in" in text:
        where = re.search(r"\bline:? (\d+)", text)
        return UserError(f"{spec} is not UTF-8 text{f', line {where[1]}' if where else ''}", hint="save it as UTF-8")
    if "csv error" in text or "sniffing" in text:
        return _unclosed(files) or UserError(f"{spec}: {lines[0]}", hint=LINES)
    return UserError(f"{spec}: {lines[0]}")


def _unclosed(files: Iterable[str]) -> UserError | None:
    """Return the fault of the first quoted value in text files that is not closed."""
    for file in filter(os.path.isfile, files):
        opened = gzip.open if file.endswith(".gz") else open
        with opened(file, "rt", encoding="utf-8", errors="replace") as lines:
            if line := unclosed_quote(lines):
                return UserError(
                    f"{file}, line {line}: a quote is opened and not closed",
                    hint='close it, or write a quote inside of a value as ""',
                )
    return None


_CLOSED = re.compile(r'(?:[^"]|"")*"(?!")')


def unclosed_quote(lines: Iterable[str]) -> int | None:
    """Return the line, counted from 1, where a quoted value begins that has no end before a delimiter; `None` without one."""
    delimiter, begun = "", 0
    for number, line in enumerate(lines, 1):
        text, place = line.rstrip("\r\n"), 0
        delimiter = delimiter or max(",;|\t", key=text.count)
        while True:
            if not begun:
                opened = re.compile(f'(?:^|{re.escape(delimiter)})"').search(text, place)
                if opened is None:
                    break
                begun, place = number, opened.end()
            closed = _CLOSED.match(text, place)
            if closed is None:  # the value goes on in the next line
                break
            place = closed.end()
            if place < len(text) and text[place] != delimiter:
                return begun
            begun = 0
    return begun or None


def _check_header(spec: str, kind: str, given: Sequence[str], files: Sequence[str]) -> None:
    """Refuse text that was read as one column because its lines do not fit together."""
    if READERS[kind] in (CSV, TSV) and len(given) == 1 and any(mark in given[0] for mark in ",;|\t"):
        header = f"{spec}: lines do not have as many values as the header {given[0]}"
        raise _unclosed(files) or UserError(header, hint=LINES)
    if READERS[kind] in (CSV, TSV) and given == ["column0"]:  # DuckDB's name where there is no header
        raise UserError(f"{spec} is empty", hint="the first line names the columns")
    if READERS[kind] is JSON and given == ["json"]:  # DuckDB's name for values that are no objects
        raise UserError(f"{spec}: there are no JSON objects in it", hint="write one JSON object a line")


def _our_names(spec: str, given: Sequence[str], names: Mapping[str, str], wanted: FilterSettings) -> dict[str, str]:
    """Return our names and the source's columns that they stand for; one column may have several."""
    lower = {column.lower(): column for column in reversed(given)}
    theirs: dict[str, str] = {}
    for name, column in names.items():
        if column not in given and column.lower() not in lower:
            raise UserError(
                f"{spec} has no column {column} for {name}; it has {', '.join(given)}",
                hint=did_you_mean(column, given),
            )
        theirs[name] = column if column in given else lower[column.lower()]
    for name in GUESSES:
        if name not in theirs and (found := _guesses(name, given)):
            theirs[name] = found[0]
    if "url" not in theirs:
        listed, guess = ", ".join(given), closest("url", given) or "NAME"
        raise UserError(f"{spec} has no column of addresses; it has {listed}", hint=f"name it: --columns url={guess}")
    # A column that we call otherwise has no second name, and one whose name we gave to another is left out.
    taken, plain = {name.lower() for name in theirs}, {*BOUNDED, *wanted.dedupe}
    rest = (column for column in given if column.lower() not in taken and column not in theirs.values())
    return theirs | {
        column.lower() if column not in plain and column.lower() in plain else column: column for column in rest
    }


def _as_text(kind: str, files: Sequence[str], source: Source, scratch: Path) -> list[str]:
    """Return tables as DuckDB reads them: local text without byte-order marks."""
    if kind == "parquet" or source.is_remote:
        return list(files)
    return [_without_mark(Path(file), scratch / f"{number}-{Path(file).name}") for number, file in enumerate(files)]


def _without_mark(file: Path, copy: Path) -> str:
    """Return a text table for DuckDB: the file, or a UTF-8 copy without its byte-order mark."""
    with open_regular(file) as stream:
        encoding = marked_encoding(stream.read(4))
    if encoding is None:
        return str(file)
    try:
        with file.open(encoding=encoding, newline="") as source, copy.open("w", encoding="utf-8", newline="") as target:
            shutil.copyfileobj(source, target)
    except UnicodeError as error:
        raise UserError(f"{file} is not text in {encoding}: {error}", hint="save it as UTF-8") from error
    return str(copy)
