"""What `--source` names, as a table in SQL with the columns `url` and `caption`."""

from __future__ import annotations

import glob
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jointnet_cli.data.columns import (
    Purpose,
    groups_of,
    is_identifier,
    is_number,
    quoted,
    spellings,
    unified,
    without_nan,
)
from jointnet_cli.data.filter import BOUNDED, check_columns, needed_columns
from jointnet_cli.data.folders import SOURCE_SUFFIXES, images_below, images_in_shards, write_index
from jointnet_cli.data.rows import HIDDEN
from jointnet_cli.data.settings import FilterSettings
from jointnet_cli.errors import UserError, did_you_mean
from jointnet_cli.files.text import marked_encoding

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# The first line is the header: no line is skipped, and none is a comment, because captions may begin with #.
CSV = "read_csv({}, all_varchar = true, header = true, union_by_name = true, sample_size = -1, skip = 0, comment = '')"

# Every line of every file is looked at, so that no late key is lost. Numbers keep all their digits in JSON columns.
JSON = "read_json({}, sample_size = -1, maximum_depth = 1, union_by_name = true, format = 'newline_delimited')"

READERS = {"parquet": "read_parquet({})", "csv": CSV, "tsv": CSV, "jsonl": JSON, "ndjson": JSON}

GUESSES = {"url": ("url", "image_url", "link"), "caption": ("caption", "text", "alt", "title")}
"""Names of the two columns that are needed, where `--columns` does not say. A row takes the first that has a value there."""

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


def open_table(
    connection: DuckDBPyConnection, spec: str, names: Mapping[str, str], scratch: Path, wanted: FilterSettings
) -> SourceTable:
    """Open a source. Not-a-number is read as NULL, and columns with a bound as numbers.

    Args:
        connection: what will query the table.
        spec: files, a folder or a pattern; `hf://`, `s3://` or `https://`; a folder of images or of shards.
        names: our column -> the source's, where they differ.
        scratch: a folder for the index of a folder.
        wanted: the bounds and the columns without duplicates that will be asked for.

    Raises:
        UserError: nothing there, an unknown kind of file, a file that cannot be read, a column that is not there; a column
            that is needed and has nested values, or types that no common type keeps exactly.
    """
    import duckdb

    kind, files = _files(connection, spec, scratch)
    if kind != "parquet" and not is_remote(spec):
        files = [
            _without_mark(Path(file), scratch / f"{number}-{Path(file).name}") for number, file in enumerate(files)
        ]
    bounded = needed_columns(wanted)
    try:
        groups = groups_of(connection, READERS[kind], files, same=READERS[kind] is CSV)
        is_index = (scratch / INDEX).exists()  # its captions are decided already
        hidden = frozenset() if is_index else HIDDEN
        given = [column for lower, column in spellings(groups).items() if lower not in hidden]
        _check_header(spec, kind, given)
        ours = _our_names(spec, given, names)
        lower = {column.lower(): column for column in reversed(given)}
        guessed = {
            name: [lower[guess] for guess in GUESSES[name] if guess in lower][: 1 if is_index else None]
            for name in GUESSES.keys() - names
        }
        used = {*GUESSES, *names, *bounded, *wanted.dedupe}
        purpose = Purpose(
            text={ours[name].lower() for name in GUESSES if name in ours}
            | {column.lower() for columns in guessed.values() for column in columns},
            identifiers={
                column.lower()
                for name, column in ours.items()
                if name in wanted.dedupe or is_identifier(name) or is_identifier(column)
            },
            wanted={ours[name].lower() for name in used if name in ours},
            earlier={
                column.lower(): {before.lower() for before in columns[:number]}
                for columns in guessed.values()
                for number, column in enumerate(columns)
                if number
            },
        )
        relation, types = unified(connection, groups, purpose, untyped=kind != "parquet")
    except duckdb.Error as error:
        raise unreadable(spec, error) from error
    found = {name: quoted(column) for name, column in ours.items() if column in types}
    for name in bounded - GUESSES.keys():
        if name in found and not is_number(types[ours[name]]):
            found[name] = _as_number(connection, spec, name, found[name], relation)
    for name in GUESSES:
        columns = [quoted(column) for column in guessed.get(name, [ours.get(name, "")]) if column in types]
        text = ", ".join(f"nullif(ltrim({column}, chr(65279)), '')" for column in columns)  # without a byte-order mark
        found[name] = f"coalesce({text}, '')" if text else "''"
    selected = ", ".join(f"{column} AS {quoted(name)}" for name, column in found.items())
    return SourceTable(f"(SELECT {selected} FROM {relation})", tuple(found), is_remote(spec))


def _as_number(connection: DuckDBPyConnection, spec: str, name: str, column: str, relation: str) -> str:
    """Return SQL of a column of text as numbers. Warn on stderr of values that are not numbers: they pass no bound."""
    text = f"trim(CAST({column} AS VARCHAR))"
    number = f"TRY_CAST({text} AS DOUBLE)"
    count, example = connection.execute(
        f"SELECT count(*), min({text}) FROM {relation} WHERE {number} IS NULL AND {text} <> ''"
    ).fetchall()[0]
    if count:
        print(
            f"warning: {spec}: {count} values of {name} are not numbers, such as {example!r}; no bound keeps them",
            file=sys.stderr,
        )
    return without_nan(number)


def unreadable(spec: str, error: Exception) -> UserError:
    """Say what DuckDB finds wrong with a source, and what to do about it."""
    lines, text = str(error).splitlines(), str(error).lower()
    if "unicode" in text or "utf-8 encoding in" in text:
        where = re.search(r"\bline:? (\d+)", text)
        return UserError(f"{spec} is not UTF-8 text{f', line {where[1]}' if where else ''}", hint="save it as UTF-8")
    return UserError(f"{spec}: {lines[0]}", hint=LINES if "sniffing" in lines[0] else None)


def _check_header(spec: str, kind: str, given: Sequence[str]) -> None:
    """Refuse text that was read as one column because its lines do not fit together."""
    if READERS[kind] is CSV and len(given) == 1 and any(mark in given[0] for mark in ",;|\t"):
        raise UserError(f"{spec}: lines do not have as many values as the header {given[0]}", hint=LINES)
    if READERS[kind] is JSON and given == ["json"]:  # DuckDB's name for values that are no objects
        raise UserError(f"{spec}: there are no JSON objects in it", hint="write one JSON object a line")


def _our_names(spec: str, given: Sequence[str], names: Mapping[str, str]) -> dict[str, str]:
    """Return our names and the source's columns that they stand for; one column may have several."""
    for name, column in names.items():
        if column not in given:
            raise UserError(
                f"{spec} has no column {column} for {name}; it has {', '.join(given)}",
                hint=did_you_mean(column, given),
            )
    theirs = dict(names)
    lower = {column.lower(): column for column in reversed(given)}
    for name, guesses in GUESSES.items():
        found = [lower[guess] for guess in guesses if guess in lower]
        if name not in theirs and found:
            theirs[name] = found[0]
    check_columns(["url"], {*theirs, *given}, "a download")
    # A column that we call otherwise has no second name, and one whose name we gave to another is left out.
    taken = {name.lower() for name in theirs}
    rest = (column for column in given if column.lower() not in taken and column not in theirs.values())
    return theirs | {column.lower() if column.lower() in BOUNDED else column: column for column in rest}


def _files(connection: DuckDBPyConnection, spec: str, scratch: Path) -> tuple[str, Sequence[str]]:
    """Return the tables that a source names, and their kind."""
    if is_remote(spec):
        connect_remote(connection, spec)
        pattern = spec if _kind(spec) else f"{spec.rstrip('/')}/**/*.parquet"
        return _of_one_kind(spec, remote_files(connection, pattern))
    path = Path(spec)
    if path.is_dir():
        return _folder(path, scratch)
    files = [spec] if path.is_file() else sorted(glob.glob(spec, recursive=True))  # noqa: PTH207 - a pattern may be absolute
    if files and all(file.endswith(".tar") for file in files):
        return _index(images_in_shards(map(Path, files)), scratch)
    return _of_one_kind(spec, files)


def _folder(folder: Path, scratch: Path) -> tuple[str, Sequence[str]]:
    """Return what lies in a folder: shards before tables, because tables also lie beside shards; then images."""
    if shards := sorted(folder.glob("*.tar")):
        return _index(images_in_shards(shards), scratch)
    if tables := sorted(str(path) for path in folder.rglob("*") if path.is_file() and _kind(path.name)):
        return _of_one_kind(str(folder), tables)
    if any(path.suffix.lower() in SOURCE_SUFFIXES for path in folder.rglob("*")):
        return _index(images_below(folder), scratch)
    raise UserError(f"{folder}: no tables, shards or images in it", hint=f"tables are {', '.join(READERS)}")


def _index(entries: object, scratch: Path) -> tuple[str, Sequence[str]]:
    path = scratch / INDEX
    write_index(entries, path)  # type: ignore[arg-type]
    return "jsonl", [str(path)]


def _of_one_kind(spec: str, files: Sequence[str]) -> tuple[str, Sequence[str]]:
    if not files:
        raise UserError(
            f"there is no source {spec!r}",
            hint="name files, a folder, a pattern, hf://, s3:// or https://, or `worlds`",
        )
    kinds = sorted({_kind(file) or "" for file in files})
    if not kinds[0]:
        raise UserError(f"{spec}: cannot tell what kind of table this is", hint=f"tables are {', '.join(READERS)}")
    if len(kinds) > 1:
        raise UserError(
            f"{spec} has tables of several kinds: {', '.join(kinds)}",
            hint=f"name those of one kind by a pattern in quotes, such as 'FOLDER/*.{kinds[0]}'",
        )
    return kinds[0], files


def _without_mark(file: Path, copy: Path) -> str:
    """A table of text as DuckDB reads it: the file, or where it begins with a byte-order mark a copy in UTF-8 without it."""
    with file.open("rb") as stream:
        encoding = marked_encoding(stream.read(4))
    if encoding is None:
        return str(file)
    try:
        with file.open(encoding=encoding, newline="") as source, copy.open("w", encoding="utf-8", newline="") as target:
            shutil.copyfileobj(source, target)
    except UnicodeError as error:
        raise UserError(f"{file} is not text in {encoding}: {error}", hint="save it as UTF-8") from error
    return str(copy)


def _kind(file: str) -> str | None:
    name = file.removesuffix(".gz").removesuffix(".zst")
    return next((kind for kind in READERS if name.endswith(f".{kind}")), None)


SCHEMES = ("hf://", "s3://", "https://", "http://")

AWS = {
    "KEY_ID": "AWS_ACCESS_KEY_ID",
    "SECRET": "AWS_SECRET_ACCESS_KEY",
    "SESSION_TOKEN": "AWS_SESSION_TOKEN",
    "REGION": "AWS_REGION",
    "ENDPOINT": "AWS_ENDPOINT",
}
"""Settings of an S3 secret and the variables that they come from."""


def is_remote(spec: str) -> bool:
    """Return whether a source lies elsewhere."""
    return spec.startswith(SCHEMES)


def connect_remote(connection: DuckDBPyConnection, spec: str) -> None:
    """Let a connection read `spec`; DuckDB fetches the extension on its first use.

    Raises:
        UserError: the extension cannot be had.
    """
    import duckdb

    try:
        connection.execute("LOAD httpfs")
    except duckdb.Error:
        try:
            connection.execute("INSTALL httpfs; LOAD httpfs")
        except duckdb.Error as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"{spec}: DuckDB needs its extension httpfs for this source: {reason}",
                hint="fetch the files with another tool (such as `hf download`) and name their folder",
            ) from error
    if spec.startswith("s3://"):
        _make_secret(connection, "s3", {key: os.environ.get(name) for key, name in AWS.items()})
    elif spec.startswith("hf://"):
        from huggingface_hub import get_token

        _make_secret(connection, "huggingface", {"TOKEN": get_token()})


def remote_files(connection: DuckDBPyConnection, pattern: str) -> list[str]:
    """Return the files of a pattern, in order.

    Raises:
        UserError: the place does not answer.
    """
    import duckdb

    try:
        found = connection.execute("SELECT file FROM glob(?) ORDER BY file", [pattern]).fetchall()
    except duckdb.Error as error:
        raise UserError(f"{pattern}: {str(error).splitlines()[0]}") from error
    return [file for (file,) in found]


def _make_secret(connection: DuckDBPyConnection, kind: str, settings: dict[str, str | None]) -> None:
    given = "".join(f", {key} '{value.replace(chr(39), chr(39) * 2)}'" for key, value in settings.items() if value)
    if given:
        connection.execute(f"CREATE OR REPLACE SECRET (TYPE {kind}{given})")
