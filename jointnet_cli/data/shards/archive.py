"""Tar files of samples: their members grouped by key, as webdataset groups them."""

from __future__ import annotations

import copy
import io
import re
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from jointnet_cli.errors import UserError
from jointnet_cli.files.text import from_json, open_regular, to_json

_METADATA = re.compile("__[^/]*__($|/)")


class DamagedShard(UserError):
    """A tar file that is damaged; others may be sound."""


MOST_BYTES = 2**30
"""Bytes of a member at most: it is read whole."""


@dataclass
class Member:
    """An entry of a tar; `content` is `None` for entries that are not files."""

    info: tarfile.TarInfo
    content: bytes | None

    @property
    def suffix(self) -> str:
        """The part of the name after the key: `jpg`, `depth.png`."""
        return split_key(self.info.name)[1]


@dataclass
class Entry:
    """The consecutive members of one key: a sample as webdataset sees it."""

    key: str
    members: list[Member] = field(default_factory=list)

    def find(self, *suffixes: str) -> bytes | None:
        """Return the content of the first member with one of these suffixes."""
        return next((member.content for member in self.members if member.suffix in suffixes), None)

    def put(self, suffix: str, content: bytes) -> None:
        """Replace a member's content, or add the member at the sample's end, dated like its neighbours."""
        for member in self.members:
            if member.suffix == suffix:
                member.content = content
                return
        info = copy.copy(self.members[0].info)
        info.name = f"{self.key}.{suffix}"
        info.pax_headers = {}  # they would take precedence over the new name
        self.members.append(Member(info, content))

    def drop(self, suffix: str) -> None:
        """Remove a member, if it is there."""
        self.members = [member for member in self.members if member.suffix != suffix]

    @property
    def record(self) -> dict[str, Any]:
        """The JSON record; empty where there is none.

        Raises:
            ValueError: it is no JSON object.
        """
        record = from_json(self.find("json") or b"{}")
        if not isinstance(record, dict):
            raise ValueError("the record is no JSON object")
        return record

    @record.setter
    def record(self, record: dict[str, Any]) -> None:
        self.put("json", to_json(record).encode())


def new_entry(key: str, members: Mapping[str, bytes]) -> Entry:
    """Return a sample of members by their suffixes, undated."""
    return Entry(key, [Member(tarfile.TarInfo(f"{key}.{suffix}"), content) for suffix, content in members.items()])


def read_entries(shard: Path) -> Iterator[Entry]:
    """Stream the samples of a shard.

    Raises:
        DamagedShard: the tar file is damaged.
    """
    entry: Entry | None = None
    with open_tar(shard) as tar:
        for info in headers(tar):
            stream = tar.extractfile(info) if info.isfile() else None
            key = split_key(info.name)[0]
            if entry is None or entry.key != key:
                if entry:
                    yield entry
                entry = Entry(key)
            entry.members.append(Member(info, stream.read() if stream else None))
    if entry:
        yield entry


class StrictTarInfo(tarfile.TarInfo):
    """A header that must be whole; `tarfile` takes a damaged one for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Parse a header.

        Raises:
            tarfile.ReadError: it is damaged or cut off.
        """
        try:
            return super().frombuf(buf, encoding, errors)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
            cut = isinstance(error, tarfile.TruncatedHeaderError)  # type: ignore[attr-defined]
            raise tarfile.ReadError("it ends inside a header" if cut else f"damaged header: {error}") from error


@contextmanager
def open_tar(path: Path | str) -> Iterator[tarfile.TarFile]:
    """Open a plain tar file for reading.

    Raises:
        DamagedShard: it is no tar file or damaged, also where that shows only later.
    """
    try:
        with open_regular(path) as file, tarfile.open(path, "r:", file, tarinfo=StrictTarInfo) as tar:
            yield tar
    except tarfile.TarError as error:
        raise DamagedShard(f"{path} is damaged, or not a plain tar file: {error}") from error


def headers(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the headers of a tar file, without an index of them in memory.

    Raises:
        tarfile.ReadError: a member is sparse or has more than `MOST_BYTES`; or something other than zeros follows the end of
            the archive: its middle was overwritten.
    """
    for info in tar:
        tar.members = []  # type: ignore[attr-defined]
        if info.issparse() or info.size > MOST_BYTES:  # memory for the zeros of a file that has few bytes
            raise tarfile.ReadError(f"{info.name} is sparse, or has more than {MOST_BYTES // 2**30} GiB")
        yield info
    file: Any = tar.fileobj  # it stands behind the end marker
    while rest := file.read(2**20):
        if rest.strip(b"\0"):
            raise tarfile.ReadError("data follow its end marker")


def write_entry(tar: tarfile.TarFile, entry: Entry) -> None:
    """Append a sample."""
    for member in entry.members:
        if member.content is None:
            tar.addfile(member.info)
            continue
        member.info.size = len(member.content)
        tar.addfile(member.info, io.BytesIO(member.content))


def is_metadata(name: str) -> bool:
    """Return whether a member is metadata, which webdataset passes over."""
    return _METADATA.match(name) is not None


def split_key(name: str) -> tuple[str, str]:
    """Divide a member's name into key and suffix, at the first dot of the file's name as webdataset does."""
    folder, slash, file = name.rpartition("/")
    stem, _, suffix = file.partition(".")
    return f"{folder}{slash}{stem}", suffix.lower()


def scan(tar: tarfile.TarFile) -> Iterator[tuple[str, dict[str, tarfile.TarInfo]]]:
    """Find the samples of a tar by its headers: consecutive files of one key, by their suffixes.

    Hidden files, names without a dot and metadata belong to no sample, as in webdataset.
    """
    current, members = "", dict[str, tarfile.TarInfo]()
    for info in headers(tar):
        key, suffix = split_key(info.name)
        hidden = key.endswith("/") or not key
        if not info.isreg() or hidden or "." not in info.name.rpartition("/")[2] or is_metadata(info.name):
            continue
        if key != current and members:
            yield current, members
            members = {}
        current = key
        members[suffix] = info
    if members:
        yield current, members
