"""The estimate before a preparation; `report.json` and contact sheet after it."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jointnet_cli.data.plan import Plan
from jointnet_cli.data.settings import PrepareSettings
from jointnet_cli.data.shards.archive import read_entries
from jointnet_cli.data.shards.format import IMAGES, complete_shards, read_stats
from jointnet_cli.data.web.status import Status
from jointnet_cli.errors import UserError, reading
from jointnet_cli.files.atomic import atomic_file, write_text
from jointnet_cli.files.text import to_json

if TYPE_CHECKING:
    from PIL import Image

REPORT, SHEET = "report.json", "contact_sheet.png"

CELL, COLUMNS, ROWS = 128, 8, 6


def write_report(out: Path, plan: Plan, limit: int | None) -> dict[str, Any]:
    """Add up the stats of all complete shards of a folder and write `report.json`."""
    statuses: Counter[str] = Counter()
    received = complete = 0
    seconds = 0.0
    for shard in complete_shards(out):
        stats = read_stats(shard)
        statuses.update(stats.get("status_dict", {}))
        received += stats.get("received", 0)
        seconds += stats.get("duration", 0)
        complete += 1
    causes = {status: count for status, count in statuses.most_common() if status != Status.SUCCESS}
    report = {
        **plan.facts,
        "funnel": plan.funnel,
        "images": {"wanted": plan.count(limit), "tried": statuses.total(), "successes": statuses[Status.SUCCESS]},
        "causes": causes,
        "received": received,
        "shard_seconds": round(seconds, 1),
        "shards": {"expected": len(plan.shards(limit)), "complete": complete},
    }
    write_text(out / REPORT, to_json(report, indent=1, ensure_ascii=False) + "\n")
    return report


def write_contact_sheet(out: Path) -> Path | None:
    """Write a PNG of images from all over the set, the first of as many shards as have a place; `None` if there are none."""
    from PIL import Image

    cells = list(islice(_thumbnails(_examples(complete_shards(out))), COLUMNS * ROWS))
    if not cells:
        return None
    sheet = Image.new("RGB", (COLUMNS * CELL, -(-len(cells) // COLUMNS) * CELL), "white")
    for number, thumbnail in enumerate(cells):
        left, top = number % COLUMNS * CELL, number // COLUMNS * CELL
        sheet.paste(thumbnail, (left + (CELL - thumbnail.width) // 2, top + (CELL - thumbnail.height) // 2))
    path = out / SHEET
    with atomic_file(path) as partial:
        sheet.save(partial, "PNG")
    return path


def _thumbnails(images: Iterable[bytes]) -> Iterator[Image.Image]:
    """Yield the images that can be decoded, at the size of a cell."""
    from PIL import Image

    for data in images:
        try:
            with reading("an image of the set"):
                thumbnail = Image.open(BytesIO(data))  # upright sRGB, as all of a set
                thumbnail.thumbnail((CELL - 4, CELL - 4))  # decodes a JPEG at a reduced size
        except UserError:
            continue
        yield thumbnail


def _examples(shards: Sequence[Path]) -> Iterator[bytes]:
    """Yield as many images from each of some shards that lie evenly apart; of a damaged shard those before the damage."""
    places = COLUMNS * ROWS
    count = min(places, len(shards))
    chosen = [shards[number * len(shards) // count] for number in range(count)]
    for shard in chosen:
        images = (entry.find(*IMAGES) for entry in read_entries(shard))
        with contextlib.suppress(UserError):
            yield from islice(filter(None, images), -(-places // len(chosen)))


SUCCESS_RATE = 0.7

BYTES_PER_PIXEL = 0.3
"""Of a JPEG of quality 95 that was made smaller."""

SECONDS_PER_ANSWER = 1.0
"""From the request to the image, on average, at every one of `concurrency` places."""

IMAGES_PER_CORE = 40.0
"""A second, decoded, resized and encoded."""


@dataclass(frozen=True)
class DownloadEstimate:
    """Expected work and size of a set."""

    shards: int
    images: int
    """That come."""
    bytes: int
    """Of the shards."""
    hours: float
    """On this machine."""
    assuming: str


def estimate(rows: int, settings: PrepareSettings) -> DownloadEstimate:
    """Return what `rows` wanted images will take."""
    images = round(rows * SUCCESS_RATE)
    pixels = settings.image.size**2
    rate = min(settings.fetch.concurrency / SECONDS_PER_ANSWER, settings.fetch.decoder_count * IMAGES_PER_CORE)
    return DownloadEstimate(
        shards=-(-rows // settings.shards.size),
        images=images,
        bytes=round(images * pixels * BYTES_PER_PIXEL),
        hours=rows / rate / 3600,
        assuming=f"{SUCCESS_RATE:.0%} of the images succeed, {BYTES_PER_PIXEL} bytes a pixel, {rate:.0f} images/s",
    )
