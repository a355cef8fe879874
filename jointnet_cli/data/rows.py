"""One row of a plan: an image to fetch, its key, and the columns of its result."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

SHARD_DIGITS = 5

PLACE_DIGITS = 4

RESULTS = {
    "key": "VARCHAR",
    "status": "VARCHAR",
    "error_message": "VARCHAR",
    "width": "BIGINT",
    "height": "BIGINT",
    "original_width": "BIGINT",
    "original_height": "BIGINT",
    "exif": "VARCHAR",
    "sha256": "VARCHAR",
}
"""What a download says of every wanted image beside the source's columns, and its type in the parquet file: img2dataset's
fields."""


TAR, OFFSET, SIZE = "__tar", "__offset", "__size"

HIDDEN = frozenset({TAR, OFFSET, SIZE})
"""Fields that say where a member of a tar file lies. They stay out of the records, and no source may bring them: they name
files of this machine."""


@dataclass(frozen=True)
class ImageRow:
    """An image to fetch."""

    key: str
    """Nine digits: five of the shard, four of the place in it (img2dataset's layout)."""
    url: str
    """An http(s) URL, or the path of a local file. The image is read from the tar file where `fields` name one."""
    caption: str
    fields: dict[str, Any] = field(default_factory=dict)
    """Further columns of the source that go into the record: id, image_phash, scores and so on."""


_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+:", re.IGNORECASE)


def local_path(address: str) -> str | None:
    """Return the path of an address that names a file of this machine; `None` for one on the web."""
    text = address.strip()
    if text.lower().startswith("file:"):
        return unquote(urlsplit(text).path)
    return None if _SCHEME.match(text) else address


def row_key(shard: int, place: int) -> str:
    """Return the key of a place in a shard."""
    return f"{shard:0{SHARD_DIGITS}}{place:0{PLACE_DIGITS}}"


def shard_name(shard: int) -> str:
    """Return the stem of a shard's files."""
    return f"{shard:0{SHARD_DIGITS}}"


def shard_of(key: str) -> int:
    """Return the shard that a key belongs to."""
    return int(key[:-PLACE_DIGITS])
