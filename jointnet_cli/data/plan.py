"""The plan of a set: which image has which place in which shard. It follows from the source and the filter alone.

A plan of images is the folder `.plan` beside the shards: `rows-00000.parquet` and so on, one row an image in order, and
`plan.json`, what it was made from and how many rows each criterion left. Every process that works on the set reads the
same plan, whenever it joins.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from jointnet_cli.data.columns import literal, quoted
from jointnet_cli.data.filter import conditions, verdict
from jointnet_cli.data.rows import RESULTS, SHARD_DIGITS, ImageRow, row_key
from jointnet_cli.data.settings import FilterSettings, PrepareSettings
from jointnet_cli.data.sources import SourceTable, open_table, unreadable
from jointnet_cli.data.worlds.grammar import TILTED
from jointnet_cli.data.worlds.world import EVALUATION_SEEDS
from jointnet_cli.errors import UserError
from jointnet_cli.files.atomic import claim, write_text
from jointnet_cli.files.text import to_json

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

FOLDER = ".plan"

WORLDS_FILE = "worlds.json"

MEMORY_LIMIT = "512MB"
"""Of DuckDB's working set; what does not fit is spilt to disk."""

THREADS = 4
"""Every thread holds row groups of its own, so more of them need more memory."""

BLOCK = 250_000
"""Rows that are numbered at a time, each with all its columns in memory."""

ROW_GROUP = 20_480
"""Rows of the plan that are read at least to get one shard's."""


@dataclass(frozen=True)
class Plan:
    """Which sample has which place in which shard. For rendered worlds it is arithmetic: their rows are their count."""

    facts: dict[str, Any]
    """All that decides the set."""
    rows: int
    shard_size: int
    funnel: dict[str, int] = field(default_factory=dict)
    """Rows left: as read, and after each criterion."""
    folder: Path | None = None
    """The plan on disk; `None` for rendered worlds."""
    parts: tuple[int, ...] = ()
    """The first number of every file."""

    @property
    def is_worlds(self) -> bool:
        """Whether the samples are rendered worlds: the world at a position has the seed `facts["seed"]` + position."""
        return self.folder is None

    def count(self, limit: int | None = None) -> int:
        """Return the number of samples; `limit` cuts the set off."""
        return self.rows if limit is None else min(self.rows, limit)

    def positions(self, shard: int, limit: int | None = None) -> range:
        """Return the running numbers of a shard's samples."""
        start = shard * self.shard_size
        return range(start, max(start, min(self.count(limit), start + self.shard_size)))

    def shards(self, limit: int | None = None) -> range:
        """Return the numbers of the shards."""
        return range(-(-self.count(limit) // self.shard_size))

    def select(self, shard: int, limit: int | None = None) -> str:
        """Return SQL of a shard's rows: `number` and the source's columns."""
        positions = self.positions(shard, limit)
        first = bisect_right(self.parts, positions.start) - 1
        last = bisect_left(self.parts, positions.stop, lo=first + 1)
        files = ", ".join(literal(f"{self.folder}/{_part(index)}") for index in range(first, last))
        return f"SELECT * FROM read_parquet([{files}]) WHERE number >= {positions.start} AND number < {positions.stop}"

    def read(self, shard: int, limit: int | None = None) -> list[ImageRow]:
        """Return the images of a shard, in order."""
        cursor = plan_cursor().execute(f"{self.select(shard, limit)} ORDER BY number")
        names = [column[0] for column in cursor.description or []]
        rows = []
        for values in cursor.fetchall():
            fields = dict(zip(names, values, strict=True))
            place = fields.pop("number") - shard * self.shard_size
            url, caption = fields.pop("url"), fields.pop("caption") or ""
            rows.append(ImageRow(row_key(shard, place), url, caption, fields))
        return rows


@cache
def _reader() -> DuckDBPyConnection:
    connection = connect(threads=1)
    connection.execute("SET parquet_metadata_cache = true")  # a large plan has thousands of row groups
    return connection


def plan_cursor() -> DuckDBPyConnection:
    """Return a cursor that reads plans, for use in any thread."""
    return _reader().cursor()


def read_plan(folder: Path) -> Plan:
    """Read the plan in `folder`."""
    record = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    facts = record["facts"]
    return Plan(facts, record["rows"], facts["shard_size"], record["funnel"], folder, tuple(record["parts"]))


def connect(path: Path | None = None, threads: int | None = None) -> DuckDBPyConnection:
    """Return a database in memory or in a file, within `MEMORY_LIMIT`."""
    import duckdb

    connection = duckdb.connect(str(path) if path else ":memory:")
    connection.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
    connection.execute(f"SET threads = {threads or min(os.cpu_count() or 1, THREADS)}")
    connection.execute("SET enable_progress_bar = false")
    connection.execute("SET TimeZone = 'UTC'")  # the text of a date must not depend on the machine
    return connection


def open_plan(out: Path, source: str, settings: PrepareSettings) -> Plan:
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
                    _make_whole(source, settings, folder)
    except UserError:
        if fresh:
            with contextlib.suppress(OSError):  # another process may have begun meanwhile
                out.rmdir()
        raise
    plan = read_plan(folder)
    _require_equal(out, plan.facts, _facts(source, settings), f"ask for what {folder / 'plan.json'} says")
    return plan


def open_world_plan(out: Path, settings: PrepareSettings, count: int) -> Plan:
    """Return the plan of rendered worlds in a folder, whose facts stand in its `worlds.json`.

    Raises:
        UserError: the folder has other worlds, or the seeds are not allowed.
    """
    plan, marker = world_plan(settings, count), out / WORLDS_FILE
    out.mkdir(parents=True, exist_ok=True)
    if marker.exists():
        before = {"tilted": 0.0, **json.loads(marker.read_text(encoding="utf-8"))}  # older sets have no tilted cameras
        _require_equal(out, before, plan.facts, f"ask for what {marker} says")
    else:
        write_text(marker, to_json(plan.facts))
    return plan


def world_plan(settings: PrepareSettings, count: int) -> Plan:
    """Return the plan of `count` rendered worlds.

    Raises:
        UserError: seeds that are reserved for evaluation without `worlds.evaluation`, or the reverse.
    """
    worlds = settings.worlds
    seed = worlds.seed if worlds.seed is not None else EVALUATION_SEEDS if worlds.evaluation else 0
    tilted = worlds.tilted if worlds.tilted is not None else 0.0 if worlds.evaluation else TILTED
    if not worlds.evaluation and seed + count > EVALUATION_SEEDS:
        raise UserError(
            f"world seeds from {EVALUATION_SEEDS} on are reserved for evaluation",
            hint="choose a smaller --seed, or give --evaluation for a set that is never trained on",
        )
    if worlds.evaluation and seed < EVALUATION_SEEDS:
        raise UserError(
            f"an evaluation set needs world seeds from {EVALUATION_SEEDS} on", hint=f"--seed {EVALUATION_SEEDS}"
        )
    size = settings.shards.size
    facts = {"seed": seed, "size": settings.image.size, "shard_size": size, "tilted": tilted}
    return Plan(facts, count, size)


def _facts(source: str, settings: PrepareSettings) -> dict[str, Any]:
    """All that decides a set of images, as it is recorded: the source by a name that means the same from every folder."""
    facts: dict[str, Any] = {
        "source": source if "://" in source else str(Path(source).absolute()),
        "columns": settings.columns,
        "filter": {**asdict(settings.filter), "dedupe": list(settings.filter.dedupe)},
        "shard_size": settings.shards.size,
        "image": settings.content,
    }
    return facts


def _require_equal(out: Path, made: Mapping[str, Any], asked: Mapping[str, Any], instead: str) -> None:
    for change in _changes(made, asked):
        raise UserError(f"{out} was made with {change}", hint=f"choose another --out, or {instead}")


def _changes(made: Mapping[str, Any], asked: Mapping[str, Any], table: str = "") -> Iterator[str]:
    """Yield what decided a set and is asked for otherwise now."""
    for name in sorted({*made, *asked}):
        before, now = made.get(name), asked.get(name)
        if isinstance(before, dict) and isinstance(now, dict):
            yield from _changes(before, now, f"{table}{name}.")
        elif before != now:
            yield f"{table}{name} = {before}, now {now}"


def _make_whole(source: str, settings: PrepareSettings, folder: Path) -> None:
    building = folder.with_name(f"{folder.name}.building")
    shutil.rmtree(building, ignore_errors=True)  # of a run that was killed
    building.mkdir()
    try:
        build_plan(source, settings, building)
        building.rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def build_plan(source: str, settings: PrepareSettings, folder: Path) -> Plan:
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
            table = open_table(connection, source, settings.columns, scratch, settings.filter)
            funnel = _sift(connection, table, source, settings.filter, scratch / "passed.parquet")
            stored = _stored_names(table.columns)
            unique = {column: stored[column] for column in settings.filter.dedupe}
            funnel |= _deduplicate(connection, unique, scratch / "passed.parquet")
            rows = list(funnel.values())[-1]
            if rows > settings.shards.size * 10**SHARD_DIGITS:
                raise UserError(
                    f"{rows} images do not fit into {10**SHARD_DIGITS} shards of {settings.shards.size}",
                    hint="choose a larger --shard-size",
                )
            parts = _number(connection, scratch / "passed.parquet", folder)
        finally:
            connection.close()
    record = {"facts": _facts(source, settings), "funnel": funnel, "rows": rows, "parts": parts}
    (folder / "plan.json").write_text(to_json(record, indent=1), encoding="utf-8")
    return read_plan(folder)


def _sift(
    connection: DuckDBPyConnection, table: SourceTable, source: str, wanted: FilterSettings, passed: Path
) -> dict[str, int]:
    """Write the rows that pass every bound, in the source's order, and count what each bound left."""
    import duckdb

    checks = conditions(wanted, table.columns)
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
        raise unreadable(source, error) from error
    left = sum(by_check.values())
    funnel = {"rows read": left}
    for number, name in enumerate(checks, 1):
        left -= by_check.get(number, 0)
        funnel[name] = left
    return {**funnel, "has a URL": written[0][0]}


def _stored_names(columns: Sequence[str]) -> dict[str, str]:
    """Return the source's columns under names that leave the download's own columns free; SQL's names have no case."""
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
        funnel[f"unique {name}"] = counted[0][0]
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
