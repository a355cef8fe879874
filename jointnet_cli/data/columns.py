"""Columns of the files of a source: which there are, and what each is used for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jointnet_cli.data.sql import literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

NESTED = ("STRUCT", "MAP", "UNION", "VARIANT", "BLOB", "BIT", "GEOMETRY")
"""Types without a plain text form; so are lists, whose names end in `]`."""

WIDE = "decimal of "
"""Begins the types of decimals that DuckDB would round, because they have more digits than its own."""

_MOST_DIGITS = 38

FLOATS = frozenset({"FLOAT", "DOUBLE"})

SIGNED = frozenset({"TINYINT", "SMALLINT", "INTEGER", "BIGINT"})

UNSIGNED = frozenset({"UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"})

INTEGERS = SIGNED | UNSIGNED

DESCRIBED_AT_ONCE = 8
"""Files, which may be far away."""

HASHES = ("hash", "md5", "sha1", "sha256")
"""Columns of a CSV file with one of these in their name are hashes, thus text."""


@dataclass(frozen=True)
class Group:
    """Consecutive files of a source with the same columns."""

    reader: str
    """SQL of a table function that reads `{}`, a list of files."""
    files: Sequence[str]
    kinds: dict[str, str]
    """Column -> DuckDB's type. A type `JSON` stands for any JSON value."""

    @property
    def relation(self) -> str:
        """SQL that reads all files of the group."""
        return self.reader.format("[" + ", ".join(map(literal, self.files)) + "]")


@dataclass(frozen=True)
class Purpose:
    """What the columns of a source are used for, by the source's names in lower case."""

    text: Collection[str]
    """Columns that are read as text."""
    identifiers: Collection[str]
    """Columns whose integers never become floating-point numbers."""
    wanted: Collection[str]
    """Columns that must not be left out."""
    earlier: Mapping[str, Collection[str]] = field(default_factory=dict)
    """Column -> columns that are preferred to it: it is used in the rows where they have no value."""


def is_plain(kind: str) -> bool:
    """Return whether values of a type have a plain text form. Of JSON, only scalars have."""
    return not kind.startswith((*NESTED, WIDE)) and not kind.endswith("]")


def is_number(kind: str) -> bool:
    """Return whether a type can be compared with a bound as it is."""
    return kind in INTEGERS | FLOATS or kind.startswith("DECIMAL")


def is_identifier(name: str) -> bool:
    """Return whether a column's name says that it holds identifiers or hashes."""
    lower = name.lower()
    return lower == "id" or lower.endswith("_id") or any(word in lower for word in HASHES)


def groups_of(connection: DuckDBPyConnection, reader: str, files: Sequence[str], *, same: bool) -> list[Group]:
    """Describe the files of a source.

    Args:
        connection: what reads the files.
        reader: SQL of a table function with `{}` in place of the list of files.
        files: the files in order.
        same: whether the reader gives every file the same types, as it does where each column is text or JSON.
    """

    def kinds(part: Sequence[str]) -> dict[str, str]:
        relation = Group(reader, part, {}).relation
        described = connection.cursor().execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()
        found = {column: kind for column, kind, *_ in described}
        if reader.startswith("read_parquet") and "DOUBLE" in found.values():
            found |= _wide_decimals(connection, part[0])
        return found

    parts = [list(files)] if same else [[file] for file in files]
    groups: list[Group] = []
    with ThreadPoolExecutor(DESCRIBED_AT_ONCE) as pool:
        for part, found in zip(parts, pool.map(kinds, parts), strict=True):
            before = groups.pop().files if groups and groups[-1].kinds == found else ()
            groups.append(Group(reader, [*before, *part], found))
    return groups


def _wide_decimals(connection: DuckDBPyConnection, file: str) -> dict[str, str]:
    """Return the columns of a parquet file that hold decimals of too many digits, and their types."""
    schema = f"SELECT name, coalesce(num_children, 0), coalesce(precision, 0) FROM parquet_schema({literal(file)})"
    _, *fields = connection.cursor().execute(schema).fetchall()
    wide, inside = {}, 0
    for name, children, digits in fields:
        if not inside and digits > _MOST_DIGITS:
            wide[name] = f"{WIDE}{digits} digits"
        inside += children - bool(inside)
    return wide


def spellings(groups: Iterable[Group]) -> dict[str, str]:
    """Return every column in lower case and as the first file spells it."""
    found: dict[str, str] = {}
    for group in groups:
        for column in group.kinds:
            found.setdefault(column.lower(), column)
    return found
