"""Tables on the hub, in S3 and on the web, which DuckDB reads through its `httpfs` extension."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from jointnet_cli.errors import UserError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

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
    """Whether a source lies elsewhere."""
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
    """The files of a pattern, in order.

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
