"""A source, and the files that it names on this machine and elsewhere."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jointnet_cli.errors import UserError
from jointnet_cli.files.paths import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

WORLDS = "worlds"
"""The word for rendered scenes as a source. A folder of this name is `./worlds`."""

SCHEMES = ("hf://", "s3://", "https://", "http://")

TABLES = ("parquet", "csv", "tsv", "jsonl", "ndjson")
"""Kinds of tables, by the ends of their names."""

SHARDS, IMAGES = "shards", "images"
"""Kinds of sources without a table: one is made of them."""

SOURCE_SUFFIXES = (*IMAGE_SUFFIXES, ".gif")
"""Of images."""

OFFLINE = "name files of this machine, or render scenes: jointnet prepare worlds --count 64 --out shards/worlds"
"""What works without a network."""


@dataclass(frozen=True)
class Source:
    """The origin of samples: rendered worlds, or images of tables, folders and shards.

    Raises:
        UserError: worlds together with anything else.
    """

    names: tuple[str, ...]
    """`worlds`, or paths, patterns and addresses of one kind."""

    def __post_init__(self) -> None:
        if WORLDS in self.names and len(self.names) > 1:
            raise UserError(
                f"{WORLDS} cannot be combined with other sources", hint=f"./{WORLDS} is the folder of this name"
            )

    def __str__(self) -> str:
        return self.names[0] if len(self.names) == 1 else f"{self.names[0]} and {len(self.names) - 1} more"

    @property
    def is_worlds(self) -> bool:
        """Whether the images are rendered."""
        return self.names == (WORLDS,)

    @property
    def is_remote(self) -> bool:
        """Whether some files lie on another machine."""
        return any(name.startswith(SCHEMES) for name in self.names)

    @property
    def recorded(self) -> str | list[str]:
        """Names that mean the same from every folder."""
        names = [name if "://" in name else str(Path(name).absolute()) for name in self.names]
        return names[0] if len(names) == 1 else names


@dataclass(frozen=True)
class SourceFiles:
    """The files that a source names, all of one kind."""

    kind: str
    """One of `TABLES`, `shards` or `images`."""
    files: Sequence[str]
    """Tables, tar files, or images and folders of images."""


def find_files(connection: DuckDBPyConnection, source: Source) -> SourceFiles:
    """Return the files that a source names, in order.

    Raises:
        UserError: nothing there, an unknown kind of file, files of several kinds, or a place that does not answer.
    """
    found: dict[str, SourceFiles] = {name: _files(connection, name) for name in source.names}
    (first, one), *others = found.items()
    for name, other in others:
        if other.kind != one.kind:
            raise UserError(
                f"{first} is read as {one.kind} and {name} as {other.kind}",
                hint="name sources of one kind in a command",
            )
    return SourceFiles(one.kind, [file for each in found.values() for file in each.files])


def _files(connection: DuckDBPyConnection, spec: str) -> SourceFiles:
    """Return the files that one name stands for."""
    if spec.startswith(SCHEMES):
        connect_remote(connection, spec)
        pattern = spec if _kind(spec) else f"{spec.rstrip('/')}/**/*.parquet"
        return _of_one_kind(spec, remote_files(connection, pattern))
    path = Path(spec)
    if spec and path.is_dir():
        return _folder(path)
    return _of_one_kind(spec, [spec] if path.is_file() else sorted(glob.glob(spec, recursive=True)))  # noqa: PTH207 - a pattern may be absolute


def _folder(folder: Path) -> SourceFiles:
    """Return what lies in a folder: shards before tables, because tables also lie beside shards; then images."""
    if shards := sorted(map(str, folder.glob("*.tar"))):
        return SourceFiles(SHARDS, shards)
    if tables := sorted(str(path) for path in folder.rglob("*") if path.is_file() and _kind(path.name) in TABLES):
        return _of_one_kind(str(folder), tables)
    if any(_kind(path.name) == IMAGES for path in folder.rglob("*")):
        return SourceFiles(IMAGES, [str(folder)])
    raise UserError(f"{folder}: no tables, shards or images in it", hint=f"tables are {', '.join(TABLES)}")


def _of_one_kind(spec: str, files: Sequence[str]) -> SourceFiles:
    if not files:
        raise UserError(
            f"there is no source {spec!r}",
            hint="name files, a folder, a pattern, hf://, s3:// or https://, or `worlds`",
        )
    kinds = sorted({_kind(file) or "" for file in files})
    if not kinds[0]:
        raise UserError(f"{spec}: cannot tell what kind of table this is", hint=f"tables are {', '.join(TABLES)}")
    if len(kinds) > 1:
        raise UserError(
            f"{spec} has files of several kinds: {', '.join(kinds)}",
            hint=f"name those of one kind by a pattern in quotes, such as 'FOLDER/*.{kinds[0]}'",
        )
    return SourceFiles(kinds[0], files)


def _kind(file: str) -> str | None:
    """Return the kind of source that a file's name tells."""
    name = file.lower().removesuffix(".gz").removesuffix(".zst")
    if file.startswith(("https://", "http://")):
        name = name.partition("?")[0]
    kinds = {f".{kind}": kind for kind in TABLES} | {".tar": SHARDS} | dict.fromkeys(SOURCE_SUFFIXES, IMAGES)
    return next((kind for suffix, kind in kinds.items() if name.endswith(suffix)), None)


HTTP_SECONDS, HTTP_RETRIES = 30, 3
"""Of one request of DuckDB. It has no limit of bytes: SECURITY.md."""

AWS = {
    "KEY_ID": "AWS_ACCESS_KEY_ID",
    "SECRET": "AWS_SECRET_ACCESS_KEY",
    "SESSION_TOKEN": "AWS_SESSION_TOKEN",
    "REGION": "AWS_REGION",
    "ENDPOINT": "AWS_ENDPOINT",
}
"""Settings of an S3 secret and the variables that they come from."""


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
            raise UserError(f"{spec} cannot be reached: DuckDB's extension httpfs: {reason}", hint=OFFLINE) from error
    connection.execute(f"SET http_timeout = {HTTP_SECONDS}; SET http_retries = {HTTP_RETRIES}")
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
        raise UserError(f"{pattern}: {str(error).splitlines()[0]}", hint=OFFLINE) from error
    return [file for (file,) in found]


def _make_secret(connection: DuckDBPyConnection, kind: str, settings: dict[str, str | None]) -> None:
    given = "".join(f", {key} '{value.replace(chr(39), chr(39) * 2)}'" for key, value in settings.items() if value)
    if given:
        connection.execute(f"CREATE OR REPLACE SECRET (TYPE {kind}{given})")
