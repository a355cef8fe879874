"""SQL of DuckDB: names, strings and numbers as text of a query, and connections within a memory limit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from jointnet_cli.errors import UserError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MEMORY_LIMIT = "512MB"
"""Of DuckDB's working set; what does not fit is spilt to disk."""

THREADS = 4
"""Every thread holds row groups of its own, so more of them need more memory."""


def quoted(name: str) -> str:
    """Return a column's name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a string in SQL."""
    return "'" + text.replace("'", "''") + "'"


def without_nan(value: str) -> str:
    """Return SQL of a number, NULL for not-a-number.

    DuckDB answers `isnan` and a comparison with 'nan' from a parquet file's minimum and maximum, which leave NaN out. It does
    not answer `isfinite` from them.
    """
    return f"if(isfinite({value}) OR isinf({value}), {value}, NULL)"


def connect(path: Path | None = None, threads: int | None = None) -> DuckDBPyConnection:
    """Return a database in memory or in a file, within `MEMORY_LIMIT`.

    Raises:
        UserError: the path has a `?`, behind which DuckDB expects settings.
    """
    import duckdb

    if path and "?" in str(path):
        raise UserError(f"no table can be made below a folder with ? in its name: {path}", "name another folder")
    connection = duckdb.connect(str(path) if path else ":memory:")
    connection.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
    connection.execute(f"SET threads = {threads or min(os.cpu_count() or 1, THREADS)}")
    connection.execute("SET enable_progress_bar = false")
    connection.execute("SET TimeZone = 'UTC'")  # the text of a date must not depend on the machine
    return connection


@contextmanager
def readable(place: Path, remedy: str, kind: type[UserError] = UserError) -> Iterator[None]:
    """Turn DuckDB's faults into one that names a file that this program wrote, and the way out.

    Raises:
        UserError: of the given kind; the file is missing or damaged.
    """
    import duckdb

    try:
        yield
    except (duckdb.IOException, duckdb.InvalidInputException, duckdb.BinderException, duckdb.ConversionException,
            duckdb.SerializationException, duckdb.InternalException) as error:  # fmt: skip
        raise kind(f"{place} is missing or damaged: {str(error).splitlines()[0]}", hint=remedy) from error


@cache
def _reader() -> DuckDBPyConnection:
    connection = connect(threads=1)
    connection.execute("SET parquet_metadata_cache = true")  # a large plan has thousands of row groups
    return connection


def plan_cursor() -> DuckDBPyConnection:
    """Return a cursor that reads plans, for use in any thread."""
    return _reader().cursor()
