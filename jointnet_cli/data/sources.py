"""What `--source` names, as a table in SQL with the columns `url` and `caption`."""

from __future__ import annotations

import difflib
import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jointnet_cli.data.filter import BOUNDED, check_columns
from jointnet_cli.data.folders import HIDDEN, IMAGES, images_below, images_in_shards, write_index
from jointnet_cli.data.remote import connect_remote, is_remote, remote_files
from jointnet_cli.errors import UserError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

READERS = {
    "parquet": "read_parquet({})",
    "csv": "read_csv({}, sample_size = -1)",
    "tsv": "read_csv({}, sample_size = -1)",
    # Every line is looked at, so that no late key is lost.
    "jsonl": "read_json({}, sample_size = -1, maximum_depth = 2, format = 'newline_delimited')",
    "ndjson": "read_json({}, sample_size = -1, maximum_depth = 2, format = 'newline_delimited')",
}
GUESSES = {"url": ("url", "image_url", "link"), "caption": ("caption", "text", "alt", "title")}
"""Under which names the two columns that are needed go, where `--columns` does not say."""
INDEX = "index.jsonl"
NESTED = ("STRUCT", "MAP", "UNION", "VARIANT", "JSON", "BLOB", "BIT", "GEOMETRY")
"""Types that are left out of the records; so are lists, whose names end in `]`."""


@dataclass(frozen=True)
class Table:
    """A source that can be queried."""

    relation: str
    """SQL of a subquery; its columns have our names."""
    columns: tuple[str, ...]
    web_only: bool
    """Whether its addresses have to be web addresses."""


def open_table(connection: DuckDBPyConnection, spec: str, names: Mapping[str, str], scratch: Path) -> Table:
    """Open a source.

    Args:
        connection: what will query the table.
        spec: files, a folder or a pattern; `hf://`, `s3://` or `https://`; a folder of images or of shards.
        names: our column -> the source's, where they differ.
        scratch: a folder for the index of a folder.

    Raises:
        UserError: nothing there, an unknown kind of file, a file that cannot be read, a column that is not there.
    """
    import duckdb

    relation = _relation(connection, spec, scratch)
    try:
        described = connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()
    except duckdb.Error as error:
        raise UserError(f"{spec}: {str(error).splitlines()[0]}") from error
    hidden = frozenset() if (scratch / INDEX).exists() else HIDDEN
    given = {column: kind for column, kind, *_ in described if column.lower() not in hidden}
    ours = _our_names(spec, given, names)
    found = {name: quoted(column) for name, column in ours.items() if _is_plain(given[column])}
    for name in GUESSES:
        found[name] = f"CAST({found[name]} AS VARCHAR)" if name in found else "''"
    selected = ", ".join(f"{column} AS {quoted(name)}" for name, column in found.items())
    return Table(f"(SELECT {selected} FROM {relation})", tuple(found), is_remote(spec))


def _is_plain(kind: str) -> bool:
    return not kind.startswith(NESTED) and not kind.endswith("]")


def quoted(name: str) -> str:
    """A column's name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string in SQL."""
    return "'" + text.replace("'", "''") + "'"


def _our_names(spec: str, given: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    """Our names and the source's columns that they stand for; one column may have several."""
    for name, column in names.items():
        if column not in given:
            near = difflib.get_close_matches(column, given, n=1)
            raise UserError(
                f"{spec} has no column {column} for {name}; it has {', '.join(given)}",
                hint=f"did you mean {near[0]}?" if near else None,
            )
    theirs = dict(names)
    lower = {column.lower(): column for column in reversed(list(given))}
    for name, guesses in GUESSES.items():
        found = [lower[guess] for guess in guesses if guess in lower]
        if name not in theirs and found:
            theirs[name] = found[0]
    check_columns(["url"], {*theirs, *given}, "a download")
    # A column that we call otherwise has no second name, and one whose name we gave to another is left out.
    taken = {name.lower() for name in theirs}
    rest = (column for column in given if column.lower() not in taken and column not in theirs.values())
    return theirs | {column.lower() if column.lower() in BOUNDED else column: column for column in rest}


def _relation(connection: DuckDBPyConnection, spec: str, scratch: Path) -> str:
    if is_remote(spec):
        connect_remote(connection, spec)
        return _reader(spec, remote_files(connection, spec if _kind(spec) else f"{spec.rstrip('/')}/**/*.parquet"))
    path = Path(spec)
    if path.is_dir():
        return _folder(path, scratch)
    files = [spec] if path.is_file() else sorted(glob.glob(spec, recursive=True))  # noqa: PTH207 - a pattern may be absolute
    if files and all(file.endswith(".tar") for file in files):
        return _index(images_in_shards(map(Path, files)), scratch)
    return _reader(spec, files)


def _folder(folder: Path, scratch: Path) -> str:
    """What lies in a folder: shards before tables, because tables also lie beside shards; then images."""
    if shards := sorted(folder.glob("*.tar")):
        return _index(images_in_shards(shards), scratch)
    for kind in READERS:
        if tables := sorted(str(path) for path in folder.rglob(f"*.{kind}")):
            return _reader(str(folder), tables)
    if any(path.suffix.lower() in IMAGES for path in folder.rglob("*")):
        return _index(images_below(folder), scratch)
    raise UserError(f"{folder}: no tables, shards or images in it", hint=f"tables are {', '.join(READERS)}")


def _index(entries: object, scratch: Path) -> str:
    path = scratch / INDEX
    write_index(entries, path)  # type: ignore[arg-type]
    return _reader(str(path), [str(path)])


def _reader(spec: str, files: Sequence[str]) -> str:
    if not files:
        raise UserError(
            f"there is no source {spec!r}",
            hint="name files, a folder, a pattern, hf://, s3:// or https://, or `worlds`",
        )
    kinds = {_kind(file) for file in files}
    if len(kinds) > 1 or None in kinds:
        raise UserError(f"{spec}: cannot tell what kind of table this is", hint=f"tables are {', '.join(READERS)}")
    listed = "[" + ", ".join(map(literal, files)) + "]"
    return READERS[str(kinds.pop())].format(listed)


def _kind(file: str) -> str | None:
    name = file.removesuffix(".gz").removesuffix(".zst")
    return next((kind for kind in READERS if name.endswith(f".{kind}")), None)
