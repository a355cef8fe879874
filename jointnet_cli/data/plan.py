"""The plan of a download: which image has which place in which shard. It follows from the source and the filter alone.

A plan is the folder `.plan` beside the shards: `rows-00000.parquet` and so on, one row an image in order, and `plan.json`,
what it was made from and how many rows each criterion left. Every process that works on the set reads the same plan,
whenever it joins.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from jointnet_cli.data.columns import literal, quoted
from jointnet_cli.data.filter import conditions, verdict
from jointnet_cli.data.rows import RESULTS, SHARD_DIGITS, ImageRow, row_key
from jointnet_cli.data.settings import Sifting
from jointnet_cli.data.sources import SourceTable, open_table, unreadable
from jointnet_cli.errors import UserError
from jointnet_cli.files.atomic import claim
from jointnet_cli.files.text import to_json

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

FOLDER = ".plan"

MEMORY_LIMIT = "512MB"
"""Of DuckDB's working set; what does not fit is spilt to disk."""

THREADS = 4
"""Every thread holds row groups of its own, so more of them need more memory."""

BLOCK = 250_000
"""Rows that are numbered at a time, each with all its columns in memory."""

ROW_GROUP = 20_480
"""Rows of the plan that are read at least to get one shard's."""


class Plan:
    """A plan that was made, read shard by shard."""

    def __init__(self, folder: Path) -> None:
        """Open the plan in `folder`."""
        record = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
        self.facts: dict[str, Any] = record["facts"]
        self.funnel: dict[str, int] = record["funnel"]
        """Rows left: as read, and after each criterion."""
        self.rows: int = record["rows"]
        self.shard_size: int = self.facts["shard_size"]
        self._folder = folder
        self._parts: list[int] = record["parts"]
        """The first number of every file."""
        self._connection: DuckDBPyConnection | None = None

    def places(self, shard: int, limit: int | None = None) -> range:
        """The running numbers of a shard's images; `limit` cuts the set off."""
        last = min(self.rows, self.rows if limit is None else limit)
        return range(shard * self.shard_size, max(shard * self.shard_size, min(last, (shard + 1) * self.shard_size)))

    def shards(self, limit: int | None = None) -> range:
        """The numbers of the shards."""
        return range(-(-min(self.rows, self.rows if limit is None else limit) // self.shard_size))

    def select(self, shard: int, limit: int | None = None) -> str:
        """SQL of a shard's rows: `number` and the source's columns."""
        places = self.places(shard, limit)
        first = bisect_right(self._parts, places.start) - 1
        last = bisect_left(self._parts, places.stop, lo=first + 1)
        files = ", ".join(literal(str(self._folder / _part(index))) for index in range(first, last))
        return f"SELECT * FROM read_parquet([{files}]) WHERE number >= {places.start} AND number < {places.stop}"

    def read(self, shard: int, limit: int | None = None) -> list[ImageRow]:
        """The images of a shard, in order."""
        cursor = self.cursor().execute(f"{self.select(shard, limit)} ORDER BY number")
        names = [column[0] for column in cursor.description or []]
        rows = []
        for values in cursor.fetchall():
            fields = dict(zip(names, values, strict=True))
            place = fields.pop("number") - shard * self.shard_size
            url, caption = fields.pop("url"), fields.pop("caption") or ""
            rows.append(ImageRow(row_key(shard, place), url, caption, fields))
        return rows

    def cursor(self) -> DuckDBPyConnection:
        """A connection of its own, for use in any thread."""
        if self._connection is None:
            self._connection = connect(threads=1)
            self._connection.execute("SET parquet_metadata_cache = true")  # a large plan has thousands of row groups
        return self._connection.cursor()


def connect(path: Path | None = None, threads: int | None = None) -> DuckDBPyConnection:
    """A database in memory or in a file, within `MEMORY_LIMIT`."""
    import duckdb

    connection = duckdb.connect(str(path) if path else ":memory:")
    connection.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
    connection.execute(f"SET threads = {threads or min(os.cpu_count() or 1, THREADS)}")
    connection.execute("SET enable_progress_bar = false")
    connection.execute("SET TimeZone = 'UTC'")  # the text of a date must not depend on the machine
    return connection


def open_plan(out: Path, sifting: Sifting) -> Plan:
    """The plan of a folder, made if it has none. Of several processes that ask at once, one makes it and the others wait.

    Raises:
        UserError: the folder has a plan of something else, or the source cannot be read.
    """
    folder = out / FOLDER
    fresh = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    try:
        while not folder.exists():
            with claim(folder) as partial:
                if partial is None:
                    time.sleep(0.2)
                elif not folder.exists():
                    _make_whole(sifting, folder)
    except UserError:
        if fresh:
            with contextlib.suppress(OSError):  # another process may have begun meanwhile
                out.rmdir()
        raise
    plan = Plan(folder)
    change = next(_changes(plan.facts, sifting.facts()), None)
    if change:
        raise UserError(
            f"{out} holds another set of images: {change}",
            hint=f"choose another --out, or ask for what {folder / 'plan.json'} says",
        )
    return plan


def _changes(made: Mapping[str, Any], asked: Mapping[str, Any], table: str = "") -> Iterator[str]:
    """What decided a set and is asked for otherwise now."""
    for name in sorted({*made, *asked}):
        before, now = made.get(name), asked.get(name)
        if isinstance(before, dict) and isinstance(now, dict):
            yield from _changes(before, now, f"{table}{name}.")
        elif before != now:
            yield f"{table}{name} was {before}, now {now}"


def _make_whole(sifting: Sifting, folder: Path) -> None:
    building = folder.with_name(f"{folder.name}.building")
    shutil.rmtree(building, ignore_errors=True)  # of a run that was killed
    building.mkdir()
    try:
        build_plan(sifting, building)
        building.rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def build_plan(sifting: Sifting, folder: Path) -> Plan:
    """Filter the source and write the plan into `folder`.

    Memory does not grow with the rows: what passes the filter is streamed to disk, and duplicates are found by aggregates
    over 128-bit hashes that DuckDB partitions and spills. The bounds are counted in a query of their own: a scan of a few
    numeric columns costs less than taking the rows that fail along to be counted.
    """
    with TemporaryDirectory(dir=folder, prefix="scratch-") as name:
        scratch = Path(name)
        connection = connect(scratch / "work.db")
        connection.execute("SET parquet_metadata_cache = true")
        connection.execute(f"SET temp_directory = {literal(str(scratch / 'spill'))}")
        try:
            table = open_table(connection, sifting.source, sifting.columns, scratch, sifting.filter)
            funnel = _sift(connection, table, sifting, scratch / "passed.parquet")
            stored = _stored_names(table.columns)
            unique = {column: stored[column] for column in sifting.filter.dedupe}
            funnel |= _deduplicate(connection, unique, scratch / "passed.parquet")
            rows = list(funnel.values())[-1]
            if rows > sifting.shard_size * 10**SHARD_DIGITS:
                raise UserError(
                    f"{rows} images do not fit into {10**SHARD_DIGITS} shards of {sifting.shard_size}",
                    hint="choose a larger --shard-size",
                )
            parts = _number(connection, scratch / "passed.parquet", folder)
        finally:
            connection.close()
    record = {"facts": sifting.facts(), "funnel": funnel, "rows": rows, "parts": parts}
    (folder / "plan.json").write_text(to_json(record, indent=1), encoding="utf-8")
    return Plan(folder)


def _sift(connection: DuckDBPyConnection, table: SourceTable, sifting: Sifting, passed: Path) -> dict[str, int]:
    """Write the rows that pass every bound, in the source's order, and count what each bound left."""
    import duckdb

    checks = conditions(sifting.filter, table.columns)
    # A table from elsewhere must not reach into this disk.
    address = "regexp_matches(url, '^https?://')" if table.web_only else "url <> ''"
    passing = " AND ".join(f"({check})" for check in [*checks.values(), address])
    kept = ", ".join(f"{quoted(name)} AS {quoted(stored)}" for name, stored in _stored_names(table.columns).items())
    try:
        by_check = dict(
            connection.execute(
                f"SELECT {verdict(checks.values())} AS failed, count(*) FROM {table.relation} GROUP BY failed"
            ).fetchall()
        )
        written = connection.execute(
            f"COPY (SELECT {kept} FROM {table.relation} WHERE {passing}) "
            f"TO {literal(str(passed))} (FORMAT parquet, COMPRESSION snappy)"
        ).fetchall()
    except duckdb.Error as error:
        raise unreadable(sifting.source, error) from error
    left = sum(by_check.values())
    funnel = {"read": left}
    for number, name in enumerate(checks, 1):
        left -= by_check.get(number, 0)
        funnel[name] = left
    return {**funnel, "with a url": written[0][0]}


def _stored_names(columns: Sequence[str]) -> dict[str, str]:
    """The source's columns under names that leave the download's own columns free; SQL's names have no case."""
    taken = {*RESULTS, "number", "file_row_number"}
    stored: dict[str, str] = {}
    for column in columns:
        name = column
        while name.lower() in taken:
            name = f"source_{name}"
        taken.add(name.lower())
        stored[column] = name
    return stored


def _deduplicate(connection: DuckDBPyConnection, columns: dict[str, str], passed: Path) -> dict[str, int]:
    """Make the table `kept` of the positions that stay, column after column, and count them. `columns` maps what the funnel
    shows to what is stored."""
    # A row without a value gets its position for a hash: it is a duplicate of nothing.
    hashes = "".join(
        f", coalesce(md5_number(nullif(CAST({quoted(stored)} AS VARCHAR), '')), file_row_number::UHUGEINT) AS hash{n}"
        for n, stored in enumerate(columns.values())
    )
    source = f"read_parquet({literal(str(passed))}, file_row_number = true)"
    connection.execute(f"CREATE TABLE kept AS SELECT file_row_number AS position{hashes} FROM {source}")
    funnel = {}
    for n, name in enumerate(columns):
        later = "".join(f", arg_min(hash{m}, position) AS hash{m}" for m in range(n + 1, len(columns)))
        connection.execute(f"CREATE TABLE fewer AS SELECT min(position) AS position{later} FROM kept GROUP BY hash{n}")
        connection.execute("DROP TABLE kept")
        connection.execute("ALTER TABLE fewer RENAME TO kept")
        counted = connection.execute("SELECT count(*) FROM kept").fetchall()
        funnel[f"one of each {name}"] = counted[0][0]
    return funnel


def _number(connection: DuckDBPyConnection, passed: Path, folder: Path) -> list[int]:
    """Write the rows that stay, numbered in their order, and return the first number of every part.

    A part is a block of positions, so that what has to be sorted at a time does not grow with the rows.
    """
    connection.execute("CREATE TABLE ordered AS SELECT position FROM kept ORDER BY position")
    total = connection.execute(f"SELECT count(*) FROM {literal(str(passed))}").fetchall()[0][0]
    firsts: list[int] = []
    number = 0
    for start in range(0, total, BLOCK):
        inside = f">= {start} AND {{0}} < {start + BLOCK}"
        written = connection.execute(
            f"COPY (SELECT {number} + row_number() OVER (ORDER BY file_row_number) - 1 AS number, * EXCLUDE (file_row_number) "
            f"FROM read_parquet({literal(str(passed))}, file_row_number = true) "
            f"WHERE file_row_number {inside.format('file_row_number')} AND file_row_number IN "
            f"(SELECT position FROM ordered WHERE position {inside.format('position')}) ORDER BY number) "
            f"TO {literal(str(folder / _part(len(firsts))))} "
            f"(FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE {ROW_GROUP})"
        ).fetchall()
        firsts.append(number)
        number += written[0][0]
    return firsts


def _part(index: int) -> str:
    return f"rows-{index:05}.parquet"
