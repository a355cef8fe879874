"""Download images into shards."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from heapq import merge
from typing import TYPE_CHECKING, Any, Self

from jointnet_cli.data.job import IMAGES, Again, PrepareJob, Show, Tally
from jointnet_cli.data.rows import HIDDEN, PLACE_DIGITS, RESULTS, ImageRow, shard_name, shard_of
from jointnet_cli.data.shards.archive import DamagedShard, Entry, new_entry
from jointnet_cli.data.shards.format import damaged_shard, repair_hint
from jointnet_cli.data.shards.writer import ShardWriter, claim_shard, records_path
from jointnet_cli.data.sql import literal, plan_cursor, readable
from jointnet_cli.data.web.status import Status
from jointnet_cli.files.atomic import open_new
from jointnet_cli.files.text import to_json

if TYPE_CHECKING:
    from pathlib import Path

    from jointnet_cli.data.plan import Plan
    from jointnet_cli.data.web.status import FetchResult

WRITERS = 2
"""Shards that are written at once, beside the fetching."""

OPEN_SHARDS = 128
"""Shards that wait for rows at once, each with two open files; fewer where descriptors are few."""


def download_shards(job: PrepareJob, numbers: Sequence[int], tally: Tally, show: Show) -> None:
    """Fetch and write what is missing of these shards. Those that another process holds are left to it."""
    asyncio.run(_gather(job, numbers, tally, show))


async def _gather(job: PrepareJob, numbers: Sequence[int], tally: Tally, show: Show) -> None:
    from jointnet_cli.data.web.fetch import fetch_rows
    from jointnet_cli.data.web.http import spare_descriptors

    held: dict[int, DownloadedShard] = {}
    writing: dict[int, Future[object]] = {}
    writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="write")

    most = min(OPEN_SHARDS, spare_descriptors() // 8 + 1)

    def rows() -> Iterator[ImageRow | None]:
        for number in filter(job.missing, numbers):
            while (count := len(held) - sum(future.done() for future in writing.values())) and (
                count >= most or not spare_descriptors()
            ):
                yield None
            try:
                shard = DownloadedShard.begin(job, number)
            except DamagedShard as fault:
                tally.damaged.append(fault)
                continue
            if shard is None:
                tally.busy.append(job.path(number))
            elif shard.rows:
                held[number] = shard
                yield from shard.rows
            else:
                shard.close()

    async def settle(*, wait: bool) -> None:
        """Count the shards that are written; a failed write, as on a full disk, ends the run."""
        for number, future in list(writing.items()):
            if wait or future.done():
                try:
                    await asyncio.wrap_future(future)
                    tally.written.append(job.path(number))
                except DamagedShard as fault:
                    tally.damaged.append(fault)
                del writing[number], held[number]

    try:
        async with contextlib.aclosing(fetch_rows(rows(), job.settings)) as results:
            async for fetched in results:
                number = shard_of(fetched.row.key)
                if fetched.image is None:
                    tally.failed[fetched.status] += 1
                else:
                    tally.made[IMAGES] += 1
                tally.received += fetched.received
                if held[number].add(fetched):
                    writing[number] = writers.submit(held[number].finish)
                    await settle(wait=False)
                show(tally)
        await settle(wait=True)
    finally:
        # A write that has begun goes on to its end: only then may the shard be another's.
        writers.shutdown(wait=True, cancel_futures=True)
        for shard in held.values():
            shard.close()


_CONTROLS = re.compile(r"[\x00-\x1f\x7f\s]+")


class DownloadedShard:
    """A claimed shard and the results for it."""

    def __init__(self, job: PrepareJob, number: int, shard: ShardWriter, held: ExitStack) -> None:
        self._shard, self._plan, self._number, self._limit, self._held = shard, job.plan, number, job.limit, held
        self._records: dict[str, dict[str, Any]] = {}
        self._spooled: dict[str, tuple[int, int]] = {}
        self._spool = held.enter_context(tempfile.TemporaryFile(dir=job.out))  # noqa: SIM115
        """The images until the tar is written."""
        self._earlier = shard.stats
        self._received = 0
        self._started = time.time()
        if self._earlier:
            self._take_over(job.again())
        self._planned = {row.key: row for row in job.plan.read(number, self._limit)}
        self.rows = [row for key, row in self._planned.items() if key not in self._records]
        """What is to be fetched."""
        self._missing = len(self.rows)

    @classmethod
    def begin(cls, job: PrepareJob, number: int) -> Self | None:
        """Claim a shard; `None` if another process holds it."""
        with ExitStack() as held:
            shard = held.enter_context(claim_shard(job.path(number)))
            if shard is None:
                return None
            shard.require_sound()
            begun = cls(job, number, shard, held)
            begun._held = held.pop_all()
            return begun

    def _take_over(self, again: Again) -> None:
        """Keep the results of an earlier run, except for the failures that are tried again."""
        found = read_records(self._shard.path)
        if len(found) != self._earlier["count"]:
            path = records_path(self._shard.path)
            raise damaged_shard(path, f"it has {len(found)} records rather than {self._earlier['count']}")
        self._records = {key: record for key, record in found.items() if not again(record["status"])}
        if self._limit is not None:  # a set that is asked for with fewer images than before keeps what it has
            self._limit = max(self._limit, self._plan.positions(self._number).start + self._earlier["count"])

    def add(self, fetched: FetchResult) -> bool:
        """Add the result of one row; return whether this was the last."""
        key = fetched.row.key
        if fetched.image is not None:
            self._spooled[key] = (self._spool.seek(0, io.SEEK_END), len(fetched.image.jpeg))
            self._spool.write(fetched.image.jpeg)
        self._records[key] = fetched.record
        self._received += fetched.received
        self._missing -= 1
        return self._missing == 0

    def finish(self) -> None:
        """Write the files of the shard and release it."""
        try:
            self._shard.write(merge(self._shard.entries(), self._fresh(), key=lambda entry: entry.key))
            write_records(self._plan, self._number, self._shard, self._records, self._limit)
            self._shard.commit(self._stats())
        finally:
            self.close()

    def close(self) -> None:
        """Release the shard."""
        self._held.close()

    def _fresh(self) -> Iterator[Entry]:
        for key in sorted(self._spooled):
            offset, size = self._spooled[key]
            self._spool.seek(offset)
            yield _entry(self._planned[key], self._records[key], self._spool.read(size))

    def _stats(self) -> dict[str, Any]:
        ended = time.time()
        stats = {
            **status_counts(self._records),
            "duration": round(ended - self._started + self._earlier.get("duration", 0), 3),
            "start_time": self._started,
            "end_time": ended,
            "received": self._received + self._earlier.get("received", 0),
            "shard": self._shard.path.name,
        }
        # New samples have no maps yet: without this entry the shard is looked at again when it is labelled.
        labels = {} if self._spooled else self._earlier.get("labels", {})
        return {**stats, "labels": labels} if labels else stats


def status_counts(records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a shard's stats state of its records."""
    statuses = Counter(record["status"] for record in records.values())
    return {
        "count": len(records),
        "successes": statuses[Status.SUCCESS],
        "failed_to_download": len(records) - statuses[Status.SUCCESS],
        "failed_to_resize": 0,
        "status_dict": dict(sorted(statuses.items())),
    }


def write_records(
    plan: Plan, number: int, shard: ShardWriter, records: Mapping[str, Mapping[str, Any]], limit: int | None = None
) -> None:
    """Write the parquet file of a shard beside the old one.

    Results are joined to the plan's columns, whose types stay as they are in the source.

    Args:
        plan: the plan of the set.
        number: the shard's.
        shard: claimed.
        records: the columns `RESULTS` by key.
        limit: as in `Plan.positions`.
    """
    types = ", ".join(f"{name}: '{kind}'" for name, kind in RESULTS.items())
    start = plan.positions(number, limit).start
    with open_new(shard.results) as file:
        for key in sorted(records):
            file.write((to_json(records[key]) + "\n").encode())
    open_new(shard.records).close()
    left_out = ", ".join(map(literal, ["number", *sorted(HIDDEN)]))
    plan_cursor().execute(
        f"COPY (SELECT planned.* EXCLUDE (number), result.* "
        f"FROM (SELECT number, COLUMNS(lambda name: name NOT IN ({left_out})) FROM ({plan.select(number, limit)})) AS planned "
        f"JOIN read_json({literal(str(shard.results))}, format = 'newline_delimited', columns = {{{types}}}) AS result "
        f"ON result.key = printf('{shard_name(number)}%0{PLACE_DIGITS}d', planned.number - {start}) "
        f"ORDER BY result.key) TO {literal(str(shard.records))} (FORMAT parquet, COMPRESSION zstd)"
    )


def read_records(shard: Path, columns: Collection[str] = RESULTS) -> dict[str, dict[str, Any]]:
    """Return rows of a shard's parquet file by their key, which is the first of the columns.

    Raises:
        DamagedShard: it is missing or damaged.
    """
    names, path = ", ".join(columns), records_path(shard)
    with readable(path, repair_hint(path), DamagedShard):
        found = plan_cursor().execute(f"SELECT {names} FROM {literal(str(path))}").fetchall()
    return {values[0]: dict(zip(columns, values, strict=True)) for values in found}


def _entry(row: ImageRow, record: dict[str, Any], image: bytes) -> Entry:
    fields = {name: value for name, value in row.fields.items() if name not in HIDDEN}
    facts = {**fields, "url": row.url, "caption": row.caption, **record}
    members = {
        "jpg": image,
        "json": to_json(facts, ensure_ascii=False, default=str).encode("utf-8", errors="replace"),
        "txt": _CONTROLS.sub(" ", row.caption).strip().encode("utf-8", errors="replace"),
    }
    return new_entry(row.key, members)
