"""The run of a download: the rows of shard after shard go through one stream of fetches; a shard is written when it is whole.

The stream does not wait for the stragglers of a shard: while they are awaited, rows of the next shards are under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from jointnet_cli.data.assembly import SUCCESS, Again, Assembly, remaining
from jointnet_cli.data.fetch_settings import FetchSettings
from jointnet_cli.data.plan import FOLDER, Plan
from jointnet_cli.data.rows import Row, shard_name, shard_of
from jointnet_cli.data.statuses import retryable

WRITERS = 2
"""Shards that are written at once, beside the fetching."""


@dataclass(frozen=True)
class Job:
    """What every process that works on a set has to know."""

    out: Path
    fetch: FetchSettings
    limit: int | None = None
    """Only the first images of the plan."""
    retry: tuple[str, ...] = ()
    """Classes of failures to try again in shards that are complete."""

    def again(self) -> Again:
        """Whether a status is tried again."""
        return retryable(self.retry)

    def shard(self, number: int) -> Path:
        """The tar file of a shard."""
        return self.out / f"{shard_name(number)}.tar"


@dataclass
class Tally:
    """How far a run is."""

    total: int = 0
    """Images to fetch in this run."""
    statuses: Counter[str] = field(default_factory=Counter)
    received: int = 0
    """Bytes."""
    shards: list[int] = field(default_factory=list)
    """The shards written."""
    started: float = field(default_factory=time.monotonic)

    @property
    def done(self) -> int:
        """Images that came or failed."""
        return self.statuses.total()

    @property
    def successes(self) -> int:
        """Images that came."""
        return self.statuses[SUCCESS]

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.monotonic() - self.started

    def add(self, other: Tally) -> None:
        """Count in what another process did."""
        self.statuses += other.statuses
        self.received += other.received
        self.shards += other.shards


Watch = Callable[[Tally], None]


def share(numbers: Sequence[int], worker: tuple[int, int]) -> Sequence[int]:
    """The shards of worker I of N, counted from 1."""
    index, count = worker
    return numbers[index - 1 :: count]


def to_fetch(job: Job, plan: Plan, numbers: Sequence[int]) -> int:
    """How many images of these shards are still to be fetched."""
    again = job.again()
    return sum(remaining(job.shard(number), len(plan.places(number, job.limit)), again) for number in numbers)


def gather(job: Job, numbers: Sequence[int], tally: Tally, watch: Watch | None = None) -> None:
    """Fetch and write what is missing of these shards. Those that another process holds are left to it."""
    asyncio.run(_gather(job, numbers, tally, watch or (lambda tally: None)))


async def _gather(job: Job, numbers: Sequence[int], tally: Tally, watch: Watch) -> None:
    from jointnet_cli.data.fetch import fetch_rows

    plan, again = Plan(job.out / FOLDER), job.again()
    held: dict[int, Assembly] = {}
    writing: dict[int, Future[object]] = {}
    writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="write")

    def rows() -> Iterator[Row]:
        for number in numbers:
            assembly = Assembly.begin(job.out, plan, number, limit=job.limit, again=again)
            if assembly:
                held[number] = assembly
                yield from assembly.rows

    async def settle(*, wait: bool) -> None:
        """Take note of the shards that are written; a write that failed, as on a full disk, ends the run."""
        for number, future in list(writing.items()):
            if wait or future.done():
                await asyncio.wrap_future(future)
                del writing[number], held[number]
                tally.shards.append(number)

    try:
        async with contextlib.aclosing(fetch_rows(rows(), job.fetch)) as results:
            async for fetched in results:
                number = shard_of(fetched.row.key)
                tally.statuses[fetched.status] += 1
                tally.received += fetched.received
                if held[number].add(fetched):
                    writing[number] = writers.submit(held[number].finish)
                    await settle(wait=False)
                watch(tally)
        await settle(wait=True)
    finally:
        # A write that has begun goes on to its end: only then may the shard be another's.
        writers.shutdown(wait=True, cancel_futures=True)
        for assembly in held.values():
            assembly.close()
