"""A small web of images and the tables that name them."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from helpers.web import Web, encoded, reply, running
from PIL import Image

from jointnet_cli.data.settings import FetchSettings, FilterSettings, ImageSettings, PrepareSettings, ShardSettings

SETTINGS = PrepareSettings(
    image=ImageSettings(size=16), fetch=FetchSettings(allow_private_hosts=True, retries=0, stall_timeout=5)
)


def settings_of(
    shard_size: int = 10, wanted: FilterSettings = SETTINGS.filter, columns: dict[str, str] | None = None
) -> PrepareSettings:
    """`SETTINGS` with these shards, bounds and columns."""
    return replace(SETTINGS, shards=ShardSettings(shard_size), filter=wanted, columns=columns or {})


def fetching(settings: PrepareSettings, **changes: Any) -> PrepareSettings:
    """The settings with changes of the table `fetch`."""
    return replace(settings, fetch=replace(settings.fetch, **changes))


def image_bytes(number: int, side: int = 24) -> bytes:
    """A JPEG that no other number has."""
    pixels = np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)
    return encoded(Image.fromarray(pixels), quality=80)


@contextmanager
def gallery(count: int, *, missing: range = range(0), pause: float = 0.0) -> Iterator[Web]:
    """Serve images `0` to `count - 1`, each after a pause of its own; those of `missing` answer 404."""
    web = Web()
    for number in range(count):
        web.answers[str(number)] = reply(code=404) if number in missing else _slow(image_bytes(number), pause, number)
    with running(web):
        yield web


def _slow(body: bytes, pause: float, number: int):
    answer = reply(body)
    wait = pause * int(hashlib.md5(str(number).encode()).hexdigest()[:4], 16) / 65535

    async def slow(writer: asyncio.StreamWriter, nth: int) -> None:
        await asyncio.sleep(wait)
        await answer(writer, nth)

    return slow


def write_table(path: Path, web: Web, count: int) -> Path:
    """A CSV of the gallery's images."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "url", "text", "score"])
        rows.writerows([number, web.url(str(number)), f"picture {number}", number / 2] for number in range(count))
    return path


def write_coyo(path: Path, url: str, count: int, /, **changes: object) -> str:
    """A parquet or CSV file with the columns of COYO-700M, in SQL of `number`. Odd images have a watermark."""
    columns = {
        "id": "number",
        "url": url,
        "text": "'words ' || number",
        "width": 600,
        "height": 700,
        "image_phash": "md5(CAST(number AS VARCHAR))",
        "watermark_score": "(number % 2)::FLOAT",
        "aesthetic_score_laion_v2": "6.0::FLOAT",
        **changes,
    }
    selected = ", ".join(f'{value} AS "{name}"' for name, value in columns.items() if value is not None)
    kind = "FORMAT parquet" if path.suffix == ".parquet" else "HEADER"
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT {selected} FROM range({count}) AS t(number)) TO '{path}' ({kind})")
    return str(path)


def content(out: Path) -> dict[str, bytes]:
    """Every member of every shard of a folder by name; a name that occurs twice is a fault."""
    found: dict[str, bytes] = {}
    for shard in sorted(out.glob("*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None and member.name not in found
                found[member.name] = file.read()
    return found


def files(out: Path) -> dict[str, bytes]:
    """The bytes of all tar and parquet files of a folder."""
    return {path.name: path.read_bytes() for path in sorted(out.iterdir()) if path.suffix in (".tar", ".parquet")}
