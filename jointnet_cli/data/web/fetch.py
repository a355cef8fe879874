"""Fetch the images of rows: many at a time, few per host, exactly one result per row; a failure does not stop the rest."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from weakref import WeakValueDictionary

from aiohttp import ClientSession
from yarl import URL

from jointnet_cli.data.rows import OFFSET, SIZE, TAR, ImageRow, local_path
from jointnet_cli.data.settings import FetchSettings, PrepareSettings
from jointnet_cli.data.web.decode import TrainingImage
from jointnet_cli.data.web.decoders import Decoders
from jointnet_cli.data.web.hosts import host_name, parse_url
from jointnet_cli.data.web.http import (
    EXHAUSTED_PATIENCE,
    EXHAUSTED_PAUSE,
    Limits,
    exhausted,
    get,
    open_client,
    read_file,
    read_member,
    spare_descriptors,
)
from jointnet_cli.data.web.status import FetchError, FetchResult, Status, http_status, is_transient

READ_AHEAD = 32
"""Rows that wait for a place at their host or for another attempt, for each one in work: those of slow hosts wait aside."""

REMEMBERED_HOSTS = 10_000
"""Hosts whose pauses are remembered while none of their rows is in work."""

_LONGEST_MESSAGE = 300


async def fetch_rows(rows: Iterable[ImageRow | None], settings: PrepareSettings) -> AsyncGenerator[FetchResult, None]:
    """Fetch rows, each exactly once, in no particular order.

    `rows` is read as places become free and may be endless; `None` means that there is none now, and it is asked again a
    moment later. An exception of `rows` is raised here, after the results of the rows before it. Close the iterator
    (`contextlib.aclosing`) to stop early: what is in work is given up at once.

    Raises:
        OSError: this machine has no descriptors or memory left, for `EXHAUSTED_PATIENCE`.
    """
    count = settings.fetch.decoder_count
    threads, decoders = ThreadPoolExecutor(count, thread_name_prefix="decode"), Decoders()
    try:
        async with open_client(settings.fetch) as client:
            queue: asyncio.Queue[FetchResult | None] = asyncio.Queue(count)
            feeder = asyncio.create_task(_Fetcher(settings, client, threads, decoders, queue).feed(rows))
            try:
                while (fetched := await queue.get()) is not None:
                    yield fetched
                if (fault := await feeder) is not None:
                    raise fault
            finally:
                feeder.cancel()
                await asyncio.gather(feeder, return_exceptions=True)
    finally:
        decoders.close()
        threads.shutdown(wait=False, cancel_futures=True)


class _Attempt:
    """A row that is being fetched: its current URL, attempts and bytes."""

    def __init__(self, row: ImageRow, settings: FetchSettings) -> None:
        self.row, self._settings = row, settings
        self.url: URL | None = None
        """Where to ask next; `None` before the first request."""
        self.visited: set[URL] = set()
        self.limits = Limits(settings)
        self.number = 0

    def again(self) -> None:
        """Begin anew, from the first URL on."""
        received = self.limits.received
        self.url, self.visited, self.limits = None, set(), Limits(self._settings)
        self.limits.received = received
        self.number += 1


@dataclass(eq=False)
class _Host:
    """The places at a host, and whether it wants to be left alone."""

    places: asyncio.Semaphore
    waiting: int = 0
    """Rows that wait for a place."""
    until: float = 0.0
    """The time before which it is not asked."""
    pauses: int = 0
    """That it asked for, one after the other."""
    is_given_up: bool = False


class _Places:
    """Places of rows in work. A request that lasts long leaves its place to another row; as many again may do so."""

    def __init__(self, count: int, seconds: float) -> None:
        self._free = asyncio.Semaphore(count)
        self._seconds, self._left = seconds, count

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Callable[[], None]]:
        """Take a place; yield what to call at the end of the request, after which the row keeps the place."""
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle | None = None
        is_long = False

        def leave() -> None:
            nonlocal timer, is_long
            if self._left:
                self._left, is_long = self._left - 1, True
                self._free.release()
            else:
                timer = loop.call_later(self._seconds, leave)

        def stop() -> None:
            if timer is not None:
                timer.cancel()

        await self._free.acquire()
        timer = loop.call_later(self._seconds, leave)
        try:
            yield stop
        finally:
            stop()
            if is_long:
                self._left += 1
            else:
                self._free.release()


class _Fetcher:
    """The connections, processes and places that rows share."""

    def __init__(
        self,
        settings: PrepareSettings,
        client: ClientSession,
        threads: ThreadPoolExecutor,
        decoders: Decoders,
        queue: asyncio.Queue[FetchResult | None],
    ) -> None:
        self._settings, self._client, self._queue = settings, client, queue
        self._threads, self._decoders = threads, decoders
        # A row takes up to two connections, in work and lasting long, and a third descriptor for a look-up or a file.
        count = min(settings.fetch.concurrency, spare_descriptors() // 3)
        self._places = _Places(max(count, 1), settings.fetch.rate_grace)
        self._hosts: WeakValueDictionary[str, _Host] = WeakValueDictionary()
        """There as long as a row has a place at it or waits for one."""
        self._paused: deque[_Host] = deque(maxlen=REMEMBERED_HOSTS)
        self._exhausted: float | None = None
        """Since when no row got further for want of descriptors or memory."""

    async def feed(self, rows: Iterable[ImageRow | None]) -> Exception | None:
        """Start a task for every row and wait for the end of all; return the exception of `rows`, or what ends the run."""
        waiting = asyncio.Semaphore(READ_AHEAD * self._settings.fetch.concurrency)
        fault: Exception | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                try:
                    for row in rows:
                        if row is None:
                            await asyncio.sleep(0.05)
                            continue
                        await waiting.acquire()
                        tasks.create_task(self._fetch(row)).add_done_callback(lambda _: waiting.release())
                except Exception as error:
                    fault = error
        except* OSError as group:
            fault = next(iter(group.exceptions))
        await self._queue.put(None)
        return fault

    async def _fetch(self, row: ImageRow) -> None:
        """Take a row through its attempts and redirects, and queue its result."""
        attempt = _Attempt(row, self._settings.fetch)
        while True:
            try:
                attempt.url = attempt.url or _first_url(row)
                async with self._place(attempt.url) as (host, requested):
                    image = await self._visit(attempt, host, requested)
                    if image is not None:
                        # In its place until it is taken: a slow reader holds the downloads back.
                        await self._queue.put(
                            FetchResult(row, str(Status.SUCCESS), image=image, received=attempt.limits.received)
                        )
                        return
            except FetchError as error:
                if exhausted(error):
                    self._give_up(error)
                    wait: float | None = EXHAUSTED_PAUSE
                else:
                    self._exhausted = None
                    wait = self._wait(error, attempt)
                if wait is None:
                    # What a host sent may hold halves of characters that no file can be written with.
                    message = str(error)[:_LONGEST_MESSAGE].encode(errors="replace").decode()
                    await self._queue.put(FetchResult(row, error.status, message, received=attempt.limits.received))
                    return
            else:
                continue
            await asyncio.sleep(wait)

    @asynccontextmanager
    async def _place(self, url: URL | None) -> AsyncIterator[tuple[_Host | None, Callable[[], None]]]:
        """Wait for a place at a URL's host, then for one of all; local files have no host.

        Raises:
            FetchError: `host_busy`.
        """
        if url is None:
            async with self._places.one() as requested:
                yield None, requested
            return
        host = self._host(url)
        host.waiting += 1
        try:
            await host.places.acquire()
        finally:
            host.waiting -= 1
        try:
            while not host.is_given_up and (wait := host.until - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            if host.is_given_up:
                raise FetchError(Status.HOST_BUSY, f"{host_name(url)} asked to be left alone")
            async with self._places.one() as requested:
                yield host, requested
        finally:
            host.places.release()

    def _host(self, url: URL) -> _Host:
        name = host_name(url)
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = _Host(asyncio.Semaphore(self._settings.fetch.per_host))
        return host

    async def _visit(
        self, attempt: _Attempt, host: _Host | None, requested: Callable[[], None]
    ) -> TrainingImage | None:
        """Make one request: return the image, or `None` after a redirect. Raises `FetchError` and nothing else."""
        loop, settings = asyncio.get_running_loop(), self._settings.fetch
        try:
            if attempt.url is None or host is None:
                data = await loop.run_in_executor(self._threads, _read_local, attempt.row, settings.max_bytes)
                attempt.limits.received += len(data)
            else:
                attempt.visited.add(attempt.url)
                found = await get(self._client, attempt.url, settings, attempt.limits, keep=host.waiting > 0)
                host.pauses = 0
                if isinstance(found, URL):
                    self._redirect(attempt, found)
                    return None
                data = found
            requested()
            image = await loop.run_in_executor(self._threads, self._decoders.decode, data, self._settings)
            self._exhausted = None
            return image
        except FetchError as error:
            if host is not None:
                self._leave_alone(host, error)
            raise
        except Exception as error:
            raise FetchError(Status.UNEXPECTED, f"{type(error).__name__}: {error}") from error

    def _leave_alone(self, host: _Host, error: FetchError) -> None:
        """Let the rows of a host wait if that is what its answer asks for, or give it up."""
        settings, now = self._settings.fetch, time.monotonic()
        if error.status != http_status(429) and (error.status != http_status(503) or error.retry_after is None):
            host.pauses = 0
            return
        if error.retry_after is None:
            error.retry_after = min(settings.retry_delay * 2**host.pauses, settings.max_retry_delay)
        if host.until <= now:  # else several rows got the same answer
            host.pauses += 1
            self._paused.append(host)
        host.until = max(host.until, now + error.retry_after)
        host.is_given_up |= host.pauses > settings.host_pauses or error.retry_after > settings.max_retry_delay
        if host.is_given_up:
            error.retry_after = math.inf

    def _redirect(self, attempt: _Attempt, target: URL) -> None:
        if target in attempt.visited:
            raise FetchError(Status.REDIRECT_LOOP, str(target))
        if len(attempt.visited) > self._settings.fetch.max_redirects:
            raise FetchError(Status.TOO_MANY_REDIRECTS, str(target))
        attempt.url = target

    def _wait(self, error: FetchError, attempt: _Attempt) -> float | None:
        """Return seconds until the next attempt, from the first URL on; `None` if there is none."""
        settings = self._settings.fetch
        if not is_transient(error.status) or error.status == Status.HOST_BUSY or attempt.number >= settings.retries:
            return None
        longest = min(settings.retry_delay * 2**attempt.number, settings.max_retry_delay)
        # Half of it at random, so that what failed together does not come back together.
        wait = max(error.retry_after or 0.0, random.uniform(longest / 2, longest))
        if wait > settings.max_retry_delay:
            return None
        attempt.again()
        return wait

    def _give_up(self, error: FetchError) -> None:
        """End the run if this machine has had no descriptors or memory left for long."""
        now = time.monotonic()
        self._exhausted = self._exhausted or now
        if now - self._exhausted > EXHAUSTED_PATIENCE:
            raise OSError(f"no descriptors or memory left on this machine: {error}") from error


def _first_url(row: ImageRow) -> URL | None:
    """Return the URL of a row's image; `None` if it is on this machine. Raises `FetchError` (`bad_url`)."""
    if TAR in row.fields:  # whatever its address: a shard's record names the page that the image came from
        return None
    if not (text := row.url.strip()):
        raise FetchError(Status.BAD_URL, "no URL")
    return parse_url(text) if local_path(row.url) is None else None


def _read_local(row: ImageRow, max_bytes: int) -> bytes:
    if TAR in row.fields:
        return read_member(row.fields[TAR], row.fields[OFFSET], row.fields[SIZE], max_bytes)
    return read_file(local_path(row.url) or "", max_bytes)
