"""Shards as tar members: read in order, changed where wanted, written back with all else byte for byte."""

from __future__ import annotations

import copy
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jointnet_cli.strict_json import to_json


@dataclass
class Member:
    """A file of a tar, or with `content` `None` an entry that is no file."""

    info: tarfile.TarInfo
    content: bytes | None

    @property
    def suffix(self) -> str:
        """What follows the key: `jpg`, `depth.png`."""
        return _split(self.info.name)[1]


@dataclass
class Entry:
    """The consecutive members of one key: a sample as webdataset sees it."""

    key: str
    members: list[Member] = field(default_factory=list)

    def find(self, *suffixes: str) -> bytes | None:
        """The content of the first member with one of these suffixes."""
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
        record = json.loads(self.find("json") or b"{}")
        if not isinstance(record, dict):
            raise ValueError("the record is no JSON object")
        return record

    @record.setter
    def record(self, record: dict[str, Any]) -> None:
        self.put("json", to_json(record).encode())


def read_entries(shard: Path) -> Iterator[Entry]:
    """Stream the samples of a shard."""
    with tarfile.open(shard, "r:") as tar:
        entry: Entry | None = None
        for info in tar:
            stream = tar.extractfile(info) if info.isfile() else None
            member = Member(info, stream.read() if stream else None)
            tar.members = []  # type: ignore[attr-defined] # the index of what was read would grow with the shard
            key = _split(info.name)[0]
            if entry is None or entry.key != key:
                if entry:
                    yield entry
                entry = Entry(key)
            entry.members.append(member)
        if entry:
            yield entry


def write_entry(tar: tarfile.TarFile, entry: Entry) -> None:
    """Append a sample."""
    for member in entry.members:
        if member.content is None:
            tar.addfile(member.info)
            continue
        member.info.size = len(member.content)
        tar.addfile(member.info, io.BytesIO(member.content))


def _split(name: str) -> tuple[str, str]:
    """Key and suffix: the file's name is divided at its first dot, as in webdataset."""
    folder, slash, file = name.rpartition("/")
    stem, _, suffix = file.partition(".")
    return folder + slash + stem, suffix
