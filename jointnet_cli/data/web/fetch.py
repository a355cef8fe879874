"""Rows to images: many at a time, few at one host, every row to exactly one result, and nothing stops the rest."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections.abc import AsyncGenerator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from urllib.parse import unquote, urlsplit
from weakref import WeakValueDictionary

from yarl import URL

from jointnet_cli.data.rows import ImageRow
from jointnet_cli.data.settings import FetchSettings, ResizeMode
from jointnet_cli.data.web.decode import TrainingImage, to_training_image
from jointnet_cli.data.web.hosts import parse_url
from jointnet_cli.data.web.http import Downloader, read_file
from jointnet_cli.data.web.status import FetchError, Status, is_transient

__all__ = ["FetchResult", "FetchSettings", "ResizeMode", "fetch_rows"]

READ_AHEAD = 8
"""Rows that wait for a place at their host or for another attempt, for each one in work."""

_LONGEST_MESSAGE = 300

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+:", re.IGNORECASE)


@dataclass(frozen=True)
class FetchResult:
    """What became of a row. All but `row`, `status`, `error_message` and `received` are `None` unless it succeeded."""

    row: ImageRow
    status: str
    """A `statuses.Status`, or `http_NNN`."""
    error_message: str | None = None
    image: bytes | None = None
    """JPEG as it goes into the shard: 8-bit sRGB, upright."""
    width: int | None = None
    height: int | None = None
    original_width: int | None = None
    """Pixels of the original, upright."""
    original_height: int | None = None
    exif: str | None = None
    """JSON of the original's tags."""
    sha256: str | None = None
    """Hexadecimal, of the original's bytes."""
    received: int = 0
    """Bytes of bodies that came, in all attempts."""


async def fetch_rows(rows: Iterable[ImageRow], settings: FetchSettings) -> AsyncGenerator[FetchResult, None]:
    """Fetch rows, each exactly once, in no particular order.

    `rows` is read as places become free and may be endless. What it raises is raised here, after the results of the rows
    before it. Close the iterator (`contextlib.aclosing`) to stop early: what is in work is given up at once.
    """
    async with Fetcher(settings) as fetcher, contextlib.aclosing(fetcher.results(rows)) as results:
        async for fetched in results:
            yield fetched


@dataclass
class _Attempt:
    """A row on its way: where it is, and what it took so far."""

    row: ImageRow
    url: URL | None = None
    """Where to ask next; `None` before the first request."""
    visited: set[URL] = field(default_factory=set)
    attempts: int = 0
    received: int = 0


class Fetcher:
    """The connections, threads and places that rows share. An asynchronous context manager."""

    def __init__(self, settings: FetchSettings) -> None:
        self._settings = settings
        self._downloader = Downloader(settings)
        self._places = asyncio.Semaphore(settings.concurrency)
        self._hosts: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        """The places at a host: there as long as a row has one or waits for one."""

    async def __aenter__(self) -> Fetcher:
        await self._downloader.__aenter__()
        self._decoders = ThreadPoolExecutor(self._settings.decoder_threads, thread_name_prefix="decode")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._decoders.shutdown(wait=False, cancel_futures=True)
        await self._downloader.__aexit__(kind, error, traceback)

    async def results(self, rows: Iterable[ImageRow]) -> AsyncGenerator[FetchResult, None]:
        """What becomes of the rows, as `fetch_rows` has it."""
        queue: asyncio.Queue[FetchResult | None] = asyncio.Queue(self._settings.decoder_threads)
        feeder = asyncio.create_task(self._feed(rows, queue))
        try:
            while (fetched := await queue.get()) is not None:
                yield fetched
            if (fault := await feeder) is not None:
                raise fault
        finally:
            feeder.cancel()
            await asyncio.gather(feeder, return_exceptions=True)

    async def _feed(self, rows: Iterable[ImageRow], queue: asyncio.Queue[FetchResult | None]) -> Exception | None:
        """Start a task for every row and see all to their end; returns what `rows` raised."""
        waiting = asyncio.Semaphore(READ_AHEAD * self._settings.concurrency)
        fault = None
        async with asyncio.TaskGroup() as tasks:
            try:
                for row in rows:
                    await waiting.acquire()
                    tasks.create_task(self._fetch(row, queue)).add_done_callback(lambda _: waiting.release())
            except Exception as error:
                fault = error
        await queue.put(None)
        return fault

    async def _fetch(self, row: ImageRow, queue: asyncio.Queue[FetchResult | None]) -> None:
        """Take a row through its attempts and redirects, and put its result."""
        trip = _Attempt(row)
        while True:
            try:
                trip.url = trip.url or _first_url(row)
                async with self._host(trip.url), self._places:
                    picture = await self._visit(trip)
                    if picture is not None:
                        # In its place until it is taken: a slow reader holds the downloads back.
                        await queue.put(_success(trip, picture))
                        return
            except FetchError as error:
                trip.received += error.received
                wait = self._wait(error, trip)
                if wait is None:
                    # What a host sent may hold halves of characters that no file can be written with.
                    message = str(error)[:_LONGEST_MESSAGE].encode(errors="replace").decode()
                    await queue.put(FetchResult(row, error.status, message, received=trip.received))
                    return
                await asyncio.sleep(wait)

    def _host(self, url: URL | None) -> contextlib.AbstractAsyncContextManager[None]:
        """A place at a URL's host; of local files any number."""
        if url is None:
            return contextlib.nullcontext()
        host = url.host or ""
        place = self._hosts.get(host)
        if place is None:
            place = self._hosts[host] = asyncio.Semaphore(self._settings.per_host)
        return place

    async def _visit(self, trip: _Attempt) -> TrainingImage | None:
        """One request: the picture, or `None` after a redirect. Raises `FetchError` and nothing else."""
        loop = asyncio.get_running_loop()
        try:
            if trip.url is None:
                path = _local_path(trip.row.url)
                answer = await loop.run_in_executor(self._decoders, read_file, path, self._settings.max_bytes)
            else:
                trip.visited.add(trip.url)
                found = await self._downloader.ask(trip.url)
                if isinstance(found, URL):
                    self._redirect(trip, found)
                    return None
                answer = found
            trip.received += len(answer)
            return await loop.run_in_executor(self._decoders, to_training_image, answer, self._settings)
        except FetchError:
            raise
        except Exception as error:
            raise FetchError(Status.UNEXPECTED, f"{type(error).__name__}: {error}") from error

    def _redirect(self, trip: _Attempt, target: URL) -> None:
        if target in trip.visited:
            raise FetchError(Status.REDIRECT_LOOP, str(target))
        if len(trip.visited) > self._settings.max_redirects:
            raise FetchError(Status.TOO_MANY_REDIRECTS, str(target))
        trip.url = target

    def _wait(self, error: FetchError, trip: _Attempt) -> float | None:
        """Seconds until the next attempt, from the first URL on; `None` if there is none."""
        settings = self._settings
        if not is_transient(error.status) or trip.attempts >= settings.retries:
            return None
        longest = min(settings.retry_delay * 2**trip.attempts, settings.max_retry_delay)
        # Half of it at random, so that what failed together does not come back together.
        wait = max(error.retry_after or 0.0, random.uniform(longest / 2, longest))
        if wait > settings.max_retry_delay:
            return None
        trip.attempts += 1
        trip.url = None
        trip.visited.clear()
        return wait


def _first_url(row: ImageRow) -> URL | None:
    """Where a row's image is; `None` if it is a local file. Raises `FetchError` (`bad_url`)."""
    text = row.url.strip()
    if not _SCHEME.match(text) or text.lower().startswith("file:"):
        if not text:
            raise FetchError(Status.BAD_URL, "no URL")
        return None
    return parse_url(text)


def _local_path(url: str) -> str:
    return unquote(urlsplit(url.strip()).path) if url.strip().lower().startswith("file:") else url


def _success(trip: _Attempt, picture: TrainingImage) -> FetchResult:
    return FetchResult(
        trip.row,
        str(Status.SUCCESS),
        image=picture.jpeg,
        width=picture.width,
        height=picture.height,
        original_width=picture.original_width,
        original_height=picture.original_height,
        exif=picture.exif,
        sha256=picture.sha256,
        received=trip.received,
    )
