"""One table of all files of a source, with a type for each column that keeps every value exactly."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from jointnet_cli.data.columns import FLOATS, HASHES, INTEGERS, SIGNED, UNSIGNED, Group, Purpose, is_plain, spellings
from jointnet_cli.data.sql import literal, quoted, without_nan
from jointnet_cli.errors import UserError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

ZONED = "TIMESTAMP WITH TIME ZONE"
"""Read as text in UTC: DuckDB hands it to Python only where the package pytz is installed."""

LARGEST = {"BIGINT": 2**63 - 1, "UBIGINT": 2**64 - 1}


def unified(
    connection: DuckDBPyConnection, groups: Sequence[Group], purpose: Purpose, *, untyped: bool
) -> tuple[str, dict[str, str]]:
    """Join the files of a source to one table. Not-a-number becomes NULL. Columns of nested values are left out.

    Args:
        connection: what reads the files.
        groups: the files of the source.
        purpose: what the columns are used for.
        untyped: whether the files store every value as text or JSON, so that types follow from the values.

    Returns:
        SQL of a subquery, and its columns with their types.

    Raises:
        UserError: a wanted column has nested values; no type keeps every value of a column.
    """
    names = spellings(groups)
    looked_at = {
        column.lower()
        for group in groups
        for column, kind in group.kinds.items()
        if (kind == "JSON" and (untyped or column.lower() in {*purpose.wanted, *purpose.earlier}))
        or (kind == "VARCHAR" and untyped and column.lower() not in purpose.text)
    }
    seen = _values(connection, groups, looked_at)
    types = {}
    for lower, name in names.items():
        kind = _type(connection, groups, lower, name, seen.get(lower), purpose)
        if kind is not None:
            types[lower] = kind
    arms = []
    for group in groups:
        columns = ", ".join(
            f"{_cast(column, kind, types[column.lower()])} AS {quoted(names[column.lower()])}"
            for column, kind in group.kinds.items()
            if column.lower() in types
        )
        if columns:
            arms.append(f"SELECT {columns} FROM {group.relation}")
    return f"({' UNION ALL BY NAME '.join(arms)})", {names[lower]: kind for lower, kind in types.items()}


def _cast(column: str, kind: str, wanted: str) -> str:
    value = _value(column, kind)
    cast = value if kind == wanted else f"CAST({value} AS {wanted})"
    return without_nan(cast) if wanted in FLOATS and kind not in FLOATS else cast


def _value(column: str, kind: str) -> str:
    """Return SQL of a plain value; JSON scalars as text, NULL for not-a-number."""
    if kind == "JSON":
        return f"({quoted(column)} ->> '$')"
    return without_nan(quoted(column)) if kind in FLOATS else quoted(column)


def _type(
    connection: DuckDBPyConnection,
    groups: Sequence[Group],
    lower: str,
    name: str,
    seen: dict[str, Any] | None,
    purpose: Purpose,
) -> str | None:
    """Return the type of a column; `None` for a column that is left out."""
    having = [
        (group, column, kind) for group in groups for column, kind in group.kinds.items() if column.lower() == lower
    ]
    nested = next(
        (f"{group.files[0]}: column {name} has type {kind}" for group, _, kind in having if not is_plain(kind)), None
    )
    unseen = any(kind == "JSON" for *_, kind in having) and seen is None
    if seen and seen["nested"]:
        nested = f"{_file_of_nested(connection, having)}: column {name} has lists or objects"
    if nested or unseen:
        earlier = purpose.earlier.get(lower)
        if lower in purpose.wanted or (earlier and _stands_alone(connection, having, earlier)):
            raise UserError(
                f"{nested}, which cannot be read as plain text or a number",
                hint="name another column with --columns, or leave out what needs this one",
            )
        return None
    if lower in purpose.text:
        return "VARCHAR"
    kinds = {kind for *_, kind in having}
    if ZONED in kinds:
        return "VARCHAR"
    if seen is not None:
        is_hash = kinds == {"VARCHAR"} and any(word in lower for word in HASHES)
        return "VARCHAR" if len(kinds) > 1 or is_hash else _inferred(seen, identifier=lower in purpose.identifiers)
    if len(kinds) == 1:
        return kinds.pop()
    if kinds <= FLOATS:
        return "DOUBLE"
    if kinds <= INTEGERS | FLOATS:
        return _number_type(connection, having, name, identifier=lower in purpose.identifiers)
    if kinds & FLOATS and lower in purpose.identifiers:
        raise _no_common_type(having, name)
    return "VARCHAR"


def _stands_alone(
    connection: DuckDBPyConnection, having: Sequence[tuple[Group, str, str]], earlier: Collection[str]
) -> bool:
    """Return whether a row has a value in a column, and none in the columns that are preferred to it."""
    for group, column, kind in having:
        before = [_value(name, other) for name, other in group.kinds.items() if name.lower() in earlier]
        absent = [f"coalesce(CAST({value} AS VARCHAR), '') = ''" for value in before]
        alone = " AND ".join([f"{_value(column, kind)} IS NOT NULL", *absent])
        if connection.execute(f"SELECT 1 FROM {group.relation} WHERE {alone} LIMIT 1").fetchall():
            return True
    return False


def _inferred(seen: dict[str, Any], *, identifier: bool) -> str:
    """Return the type of values that are text. Numbers and booleans only: all other text stays as it is spelled."""
    count = seen["count"]
    if not count or seen["strings"]:
        return "VARCHAR"
    if seen["integers"] == count:
        return _integer_type(seen["least"], seen["greatest"]) if seen["sized"] == count else "VARCHAR"
    if seen["booleans"] == count:
        return "BOOLEAN"
    return "DOUBLE" if seen["numbers"] == count and not seen["inexact"] and not identifier else "VARCHAR"


def _integer_type(least: int, greatest: int) -> str:
    """Return the type of integers in a range. Beyond 64 bits it is text: DuckDB writes 128-bit integers as floating point."""
    if least >= -(2**63) and greatest <= LARGEST["BIGINT"]:
        return "BIGINT"
    return "UBIGINT" if least >= 0 and greatest <= LARGEST["UBIGINT"] else "VARCHAR"


def _number_type(
    connection: DuckDBPyConnection, having: Sequence[tuple[Group, str, str]], name: str, *, identifier: bool
) -> str:
    """Return the type of a column that has several numeric types in several files, by its values."""
    kinds = {kind for *_, kind in having}
    if kinds <= SIGNED:
        return "BIGINT"
    if kinds <= UNSIGNED:
        return "UBIGINT"
    least, greatest, whole, exact = 0, 0, True, True
    for group, column, kind in having:
        value = _value(column, kind)
        wide = f"TRY_CAST({value} AS HUGEINT)"
        same = f"{wide} IS NOT NULL AND CAST({wide} AS DOUBLE) = {value}" if kind in FLOATS else "true"
        small = f"abs({wide}) <= {2**53}"
        low, high, is_whole, is_exact = connection.execute(
            f"SELECT min({wide}), max({wide}), coalesce(bool_and({same} AND ({kind in INTEGERS} OR {small})), true), "
            f"coalesce(bool_and({kind in FLOATS} OR CAST(CAST({wide} AS DOUBLE) AS HUGEINT) = {wide}), true) "
            f"FROM {group.relation} WHERE {value} IS NOT NULL"
        ).fetchall()[0]
        least, greatest = min(least, low or 0), max(greatest, high or 0)
        whole, exact = whole and is_whole, exact and is_exact
    if whole:  # such as integers that pandas stored as floating-point numbers because some were missing
        return _integer_type(least, greatest)
    if exact and not identifier:
        return "DOUBLE"
    raise _no_common_type(having, name)


def _no_common_type(having: Sequence[tuple[Group, str, str]], name: str) -> UserError:
    types = {kind: group.files[0] for group, _, kind in reversed(having)}
    listed = ", ".join(f"{kind} in {file}" for kind, file in sorted(types.items()))
    return UserError(
        f"column {name} has types that no common type keeps exactly: {listed}",
        hint="store the column with one type in all files",
    )


def _values(
    connection: DuckDBPyConnection, groups: Sequence[Group], columns: Collection[str]
) -> dict[str, dict[str, Any]]:
    """Return what kinds of values columns of text and JSON have, by their names in lower case, in one scan a group."""
    total: dict[str, dict[str, Any]] = {}
    for group in groups:
        present = [c for c, kind in group.kinds.items() if c.lower() in columns and kind in ("VARCHAR", "JSON")]
        if not present:
            continue
        counts = [_counts(column, group.kinds[column]) for column in present]
        listed = ", ".join(sql for each in counts for sql in each.values())
        row = connection.execute(f"SELECT {listed} FROM {group.relation}").fetchall()[0]
        values = iter(row)
        for column, each in zip(present, counts, strict=True):
            found = {name: next(values) for name in each}
            before = total.setdefault(column.lower(), found)
            if before is not found:
                joined = {"least": min, "greatest": max}
                for name, value in found.items():
                    both = [number for number in (before[name], value) if number is not None]
                    before[name] = joined.get(name, sum)(both) if both else None
    return total


def _counts(column: str, kind: str) -> dict[str, str]:
    text, json = _value(column, kind), kind == "JSON"
    integer = f"regexp_full_match({text}, '0|-?[1-9][0-9]*')"
    # A wider pattern than that of integers: a number with leading zeros is text.
    number = f"regexp_full_match({text}, '-?(0|[1-9][0-9]*)?([.][0-9]+)?([eE][-+]?[0-9]+)?')"
    finite = f"isfinite(TRY_CAST({text} AS DOUBLE))"
    large = f"TRY_CAST({text} AS HUGEINT)"
    kinds = f"json_type({quoted(column)})"
    return {
        "count": f"count({text})",
        "nested": f"count_if({kinds} IN ('ARRAY', 'OBJECT'))" if json else "0",
        "strings": f"count_if({kinds} = 'VARCHAR')" if json else "0",
        "integers": f"count_if({integer})",
        "sized": f"count_if({integer} AND {large} IS NOT NULL)",
        "least": f"min(CASE WHEN {integer} THEN {large} END)",
        "greatest": f"max(CASE WHEN {integer} THEN {large} END)",
        "inexact": f"count_if({integer} AND ({large} IS NULL OR CAST(CAST({large} AS DOUBLE) AS HUGEINT) <> {large}))",
        "numbers": f"count_if(({number} AND {finite}) OR lower({text}) = 'nan')",
        "booleans": f"count_if({text} IN ('true', 'false'))",
    }


def _file_of_nested(connection: DuckDBPyConnection, having: Sequence[tuple[Group, str, str]]) -> str:
    for group, column, kind in having:
        for file in group.files if kind == "JSON" else ():
            relation = group.reader.format(f"[{literal(file)}]")
            given = {name for name, *_ in connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()}
            found = f"SELECT 1 FROM {relation} WHERE json_type({quoted(column)}) IN ('ARRAY', 'OBJECT') LIMIT 1"
            if column in given and connection.execute(found).fetchall():
                return file
    return having[0][0].files[0]
