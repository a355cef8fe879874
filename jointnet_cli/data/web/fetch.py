"""Fetch the images of rows: many at a time, few per host, exactly one result per row; a failure does not stop the rest."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections.abc import AsyncGenerator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit
from weakref import WeakValueDictionary

from aiohttp import ClientSession
from yarl import URL

from jointnet_cli.data.rows import OFFSET, SIZE, TAR, ImageRow
from jointnet_cli.data.settings import PrepareSettings
from jointnet_cli.data.web.decode import TrainingImage, to_training_image
from jointnet_cli.data.web.hosts import parse_url
from jointnet_cli.data.web.http import get, open_client, read_file, read_member
from jointnet_cli.data.web.status import FetchError, FetchResult, Status, is_transient

READ_AHEAD = 8
"""Rows that wait for a place at their host or for another attempt, for each one in work."""

_LONGEST_MESSAGE = 300

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+:", re.IGNORECASE)


async def fetch_rows(rows: Iterable[ImageRow], settings: PrepareSettings) -> AsyncGenerator[FetchResult, None]:
    """Fetch rows, each exactly once, in no particular order.

    `rows` is read as places become free and may be endless. An exception of `rows` is raised here, after the results of the
    rows before it. Close the iterator (`contextlib.aclosing`) to stop early: what is in work is given up at once.
    """
    decoders = ThreadPoolExecutor(settings.fetch.decoder_threads, thread_name_prefix="decode")
    try:
        async with open_client(settings.fetch) as client:
            queue: asyncio.Queue[FetchResult | None] = asyncio.Queue(settings.fetch.decoder_threads)
            feeder = asyncio.create_task(_Fetcher(settings, client, decoders, queue).feed(rows))
            try:
                while (fetched := await queue.get()) is not None:
                    yield fetched
                if (fault := await feeder) is not None:
                    raise fault
            finally:
                feeder.cancel()
                await asyncio.gather(feeder, return_exceptions=True)
    finally:
        decoders.shutdown(wait=False, cancel_futures=True)


@dataclass
class _Attempt:
    """A row that is being fetched: its current URL, attempts and bytes."""

    row: ImageRow
    url: URL | None = None
    """Where to ask next; `None` before the first request."""
    visited: set[URL] = field(default_factory=set)
    attempts: int = 0
    received: int = 0


class _Fetcher:
    """The connections, threads and places that rows share."""

    def __init__(
        self,
        settings: PrepareSettings,
        client: ClientSession,
        decoders: ThreadPoolExecutor,
        queue: asyncio.Queue[FetchResult | None],
    ) -> None:
        self._settings, self._client, self._decoders, self._queue = settings, client, decoders, queue
        self._places = asyncio.Semaphore(settings.fetch.concurrency)
        self._hosts: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        """The places at a host: there as long as a row has one or waits for one."""

    async def feed(self, rows: Iterable[ImageRow]) -> Exception | None:
        """Start a task for every row and wait for the end of all; return the exception of `rows`."""
        waiting = asyncio.Semaphore(READ_AHEAD * self._settings.fetch.concurrency)
        fault = None
        async with asyncio.TaskGroup() as tasks:
            try:
                for row in rows:
                    await waiting.acquire()
                    tasks.create_task(self._fetch(row)).add_done_callback(lambda _: waiting.release())
            except Exception as error:
                fault = error
        await self._queue.put(None)
        return fault

    async def _fetch(self, row: ImageRow) -> None:
        """Take a row through its attempts and redirects, and queue its result."""
        attempt = _Attempt(row)
        while True:
            try:
                attempt.url = attempt.url or _first_url(row)
                async with self._host(attempt.url), self._places:
                    image = await self._visit(attempt)
                    if image is not None:
                        # In its place until it is taken: a slow reader holds the downloads back.
                        await self._queue.put(
                            FetchResult(row, str(Status.SUCCESS), image=image, received=attempt.received)
                        )
                        return
            except FetchError as error:
                attempt.received += error.received
                wait = self._wait(error, attempt)
                if wait is None:
                    # What a host sent may hold halves of characters that no file can be written with.
                    message = str(error)[:_LONGEST_MESSAGE].encode(errors="replace").decode()
                    await self._queue.put(FetchResult(row, error.status, message, received=attempt.received))
                    return
                await asyncio.sleep(wait)

    def _host(self, url: URL | None) -> contextlib.AbstractAsyncContextManager[None]:
        """Return a place at a URL's host; any number of places for local files."""
        if url is None:
            return contextlib.nullcontext()
        host = url.host or ""
        place = self._hosts.get(host)
        if place is None:
            place = self._hosts[host] = asyncio.Semaphore(self._settings.fetch.per_host)
        return place

    async def _visit(self, attempt: _Attempt) -> TrainingImage | None:
        """Make one request: return the image, or `None` after a redirect. Raises `FetchError` and nothing else."""
        loop = asyncio.get_running_loop()
        try:
            if attempt.url is None:
                data = await loop.run_in_executor(
                    self._decoders, _read_local, attempt.row, self._settings.fetch.max_bytes
                )
            else:
                attempt.visited.add(attempt.url)
                found = await get(self._client, attempt.url, self._settings.fetch)
                if isinstance(found, URL):
                    self._redirect(attempt, found)
                    return None
                data = found
            attempt.received += len(data)
            return await loop.run_in_executor(self._decoders, to_training_image, data, self._settings)
        except FetchError:
            raise
        except Exception as error:
            raise FetchError(Status.UNEXPECTED, f"{type(error).__name__}: {error}") from error

    def _redirect(self, attempt: _Attempt, target: URL) -> None:
        if target in attempt.visited:
            raise FetchError(Status.REDIRECT_LOOP, str(target))
        if len(attempt.visited) > self._settings.fetch.max_redirects:
            raise FetchError(Status.TOO_MANY_REDIRECTS, str(target))
        attempt.url = target

    def _wait(self, error: FetchError, attempt: _Attempt) -> float | None:
        """Return seconds until the next attempt, from the first URL on; `None` if there is none."""
        settings = self._settings.fetch
        if not is_transient(error.status) or attempt.attempts >= settings.retries:
            return None
        longest = min(settings.retry_delay * 2**attempt.attempts, settings.max_retry_delay)
        # Half of it at random, so that what failed together does not come back together.
        wait = max(error.retry_after or 0.0, random.uniform(longest / 2, longest))
        if wait > settings.max_retry_delay:
            return None
        attempt.attempts += 1
        attempt.url = None
        attempt.visited.clear()
        return wait


def _first_url(row: ImageRow) -> URL | None:
    """Return the URL of a row's image; `None` if it is on this machine. Raises `FetchError` (`bad_url`)."""
    if TAR in row.fields:  # whatever its address: a shard's record names the page that the image came from
        return None
    text = row.url.strip()
    if not _SCHEME.match(text) or text.lower().startswith("file:"):
        if not text:
            raise FetchError(Status.BAD_URL, "no URL")
        return None
    return parse_url(text)


def _read_local(row: ImageRow, max_bytes: int) -> bytes:
    if TAR in row.fields:
        return read_member(row.fields[TAR], row.fields[OFFSET], row.fields[SIZE], max_bytes)
    url = row.url.strip()
    return read_file(unquote(urlsplit(url).path) if url.lower().startswith("file:") else row.url, max_bytes)
