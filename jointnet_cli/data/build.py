"""Filter a source into the plan of a set."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from jointnet_cli.data.filter import conditions, verdict
from jointnet_cli.data.plan import WORLDS_FILE, Plan, image_facts, part_name, read_plan, require_equal
from jointnet_cli.data.rows import RESULTS, SHARD_DIGITS, TAR, local_path
from jointnet_cli.data.settings import FilterSettings, PrepareSettings
from jointnet_cli.data.shards.format import PLAN
from jointnet_cli.data.source_files import Source
from jointnet_cli.data.sources import SourceTable, open_table, unreadable
from jointnet_cli.data.sql import connect, literal, quoted
from jointnet_cli.errors import UserError
from jointnet_cli.files.atomic import make_once
from jointnet_cli.files.paths import is_below
from jointnet_cli.files.text import to_json, warn

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

BLOCK = 250_000
"""Rows that are numbered at a time, each with all its columns in memory."""

ROW_GROUP = 20_480
"""Rows of the plan that are read at least to get one shard's."""

HOST = "lower(rtrim(regexp_extract(url, '(?i)^\\s*https?://(?:[^/?#]*@)?(\\[[^]]*]|[^/:?#]*)', 1), '.'))"
"""SQL of the host that a row's address names; empty for files."""


def open_plan(out: Path, source: Source, settings: PrepareSettings, recipe: str | None = None) -> Plan:
    """Return the plan of a folder, made if it has none.

    Of several processes that ask at once, one makes it and the others wait. `recipe` is recorded with it.

    Raises:
        UserError: the folder has a plan of something else, or the source cannot be read.
    """
    folder = out / PLAN
    if (out / WORLDS_FILE).exists():
        raise UserError(f"{out} holds rendered worlds", hint="choose another --out for images")
    fresh = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    try:
        make_once(folder, lambda: _make_whole(source, settings, folder, recipe))
    except UserError:
        if fresh:
            with contextlib.suppress(OSError):  # another process may have begun meanwhile
                out.rmdir()
        raise
    plan = read_plan(folder)
    require_equal(out, plan.facts, image_facts(source, settings), folder / "plan.json")
    return plan


def _make_whole(source: Source, settings: PrepareSettings, folder: Path, recipe: str | None) -> None:
    building = folder.with_name(f"{folder.name}.building")
    shutil.rmtree(building, ignore_errors=True)  # of a run that was killed
    building.mkdir()
    try:
        build_plan(source, settings, building, recipe)
        building.rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def build_plan(source: Source, settings: PrepareSettings, folder: Path, recipe: str | None = None) -> Plan:
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
            outside = _let_tables_name_files(connection, table, settings.fetch.roots)
            funnel = _sift(connection, table, source, settings.filter, scratch / "passed.parquet")
            _warn_of_outside(source, outside)
            stored = _stored_names(table.columns)
            unique = {column: stored[column] for column in settings.filter.dedupe}
            funnel |= _deduplicate(connection, unique, scratch / "passed.parquet")
            rows = list(funnel.values())[-1]
            if rows > settings.shards.size * 10**SHARD_DIGITS:
                raise UserError(
                    f"{rows} images do not fit into {10**SHARD_DIGITS} shards of {settings.shards.size}",
                    hint="choose a larger --shard-size",
                )
            parts = _number(connection, scratch / "passed.parquet", folder, from_tars=TAR in table.columns)
        finally:
            connection.close()
    facts = image_facts(source, settings)
    record = {"facts": facts, "recipe": recipe, "funnel": funnel, "rows": rows, "parts": parts}
    (folder / "plan.json").write_text(to_json(record, indent=1), encoding="utf-8")
    return read_plan(folder)


def _let_tables_name_files(connection: DuckDBPyConnection, table: SourceTable, roots: Iterable[str]) -> set[str]:
    """Make the function `may_name` in SQL: whether an address names no file outside of the roots of a table.

    Returns:
        The least of the addresses that it has refused, as it goes.
    """
    outside: set[str] = set()
    allowed = [*(table.roots or ()), *(Path(root).resolve() for root in roots)]

    def may_name(address: str) -> bool:
        path = local_path(address)
        try:
            if path is None or is_below(path, allowed):
                return True
        except (OSError, ValueError, RuntimeError):  # reading will say what is wrong with it
            return True
        least = min(outside | {address})
        outside.clear()
        outside.add(least)
        return False

    connection.create_function("may_name", may_name, ["VARCHAR"], "BOOLEAN")
    return outside


def _warn_of_outside(source: Source, outside: set[str]) -> None:
    for address in outside:
        folder = str(Path(local_path(address) or ".").parent)
        warn(
            f"{source} names files outside of its folder and of this one, such as {address!r}: they are left out",
            f"if you trust it: --set 'fetch.roots=[{to_json(folder)}]'",
        )


def _sift(
    connection: DuckDBPyConnection, table: SourceTable, source: Source, wanted: FilterSettings, passed: Path
) -> dict[str, int]:
    """Write the rows that pass every bound, in the source's order, and count what each bound left."""
    import duckdb

    checks = conditions(wanted, table.columns)
    # A table from elsewhere must not reach into this disk.
    web = "regexp_matches(url, '(?i)^https?://')"
    address = web if table.web_only else "url <> ''"
    if table.roots is not None:
        address = f"{address} AND CASE WHEN {web} THEN true ELSE may_name(url) END"
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
        raise unreadable(str(source), error) from error
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
    """Make the table `kept` of the positions that stay, deduplicating by one column after the other, and count them.

    `columns` maps names in the funnel to stored names.
    """
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


def _number(connection: DuckDBPyConnection, passed: Path, folder: Path, *, from_tars: bool) -> list[int]:
    """Write the rows that stay, numbered in their order, and return the first number of every part.

    A part is a block of positions, so that what has to be sorted at a time does not grow with the rows. In a block the rows
    of every host are spread evenly and keep their order, so that no host is asked for many images in a row. Images in tar
    files are read, not asked for: they stay in the order in which they lie.
    """
    connection.execute("CREATE TABLE ordered AS SELECT position FROM kept ORDER BY position")
    source = f"read_parquet({literal(str(passed))}, file_row_number = true)"
    host = "''" if from_tars else HOST
    total = connection.execute(f"SELECT count(*) FROM {literal(str(passed))}").fetchall()[0][0]
    firsts: list[int] = []
    number = 0
    for start in range(0, total, BLOCK):
        inside = f">= {start} AND {{0}} < {start + BLOCK}"
        numbers = f"file_row_number {inside.format('file_row_number')}"
        # Of n rows of the h-th of H hosts the first has the place h/H/n, and each other one follows at a distance of 1/n.
        written = connection.execute(
            f"COPY (WITH listed AS (SELECT file_row_number AS position, {host} AS host FROM {source} WHERE {numbers} "
            f"AND file_row_number IN (SELECT position FROM ordered WHERE position {inside.format('position')})), "
            "hosts AS (SELECT host, count(*) AS count, (row_number() OVER (ORDER BY min(position)) - 1) / count(*) OVER () "
            "AS begin FROM listed GROUP BY host), "
            "places AS (SELECT position, (row_number() OVER (PARTITION BY host ORDER BY position) - 1 + begin) / count "
            "AS place FROM listed JOIN hosts USING (host)) "
            f"SELECT {number} + row_number() OVER (ORDER BY places.place, places.position) - 1 AS number, "
            f"passed.* EXCLUDE (file_row_number) FROM {source} AS passed "
            f"JOIN places ON passed.file_row_number = places.position WHERE {numbers} ORDER BY number) "
            f"TO {literal(str(folder / part_name(len(firsts))))} "
            f"(FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE {ROW_GROUP})"
        ).fetchall()
        firsts.append(number)
        number += written[0][0]
    return firsts
