"""One HTTP request within limits of time and size."""

from __future__ import annotations

import asyncio
import errno
import resource
import stat
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import BinaryIO

import aiohttp
from yarl import URL

from jointnet_cli.data.settings import ROBOT, FetchSettings
from jointnet_cli.data.web.decode import sniff
from jointnet_cli.data.web.hosts import EVERYWHERE, PublicResolver, parse_url
from jointnet_cli.data.web.robots import forbidding_directive
from jointnet_cli.data.web.status import FetchError, Status, http_status
from jointnet_cli.data.web.wire import ALLOWANCE, Allowance, MeteredConnector
from jointnet_cli.files.formats import SNIFFED_BYTES

REDIRECTS = frozenset({301, 302, 303, 307, 308})

ACCEPT = "image/jpeg,image/png,image/webp,image/*;q=0.9,*/*;q=0.5"

DNS_MEMORY = 300
"""Seconds for which a host's checked addresses are used again."""

KEEP_ALIVE = 2.0
"""Seconds an idle connection stays open. Only where another row waits for its host is one left open at all."""

_GZIP_OR_ZLIB = 47
"""zlib's window bits that tell the two apart by their headers."""

_FAULTS: tuple[tuple[type[BaseException], Status], ...] = (
    (aiohttp.ConnectionTimeoutError, Status.TIMEOUT_CONNECT),
    (TimeoutError, Status.TIMEOUT_STALL),
    (aiohttp.ClientSSLError, Status.TLS_FAILED),
    (aiohttp.ClientConnectorError, Status.CONNECT_FAILED),
    (aiohttp.ClientPayloadError, Status.TRUNCATED),
    (aiohttp.InvalidURL, Status.BAD_URL),
    (aiohttp.ClientResponseError, Status.BAD_ANSWER),
    (aiohttp.ClientConnectionError, Status.CONNECTION_RESET),
    (OSError, Status.CONNECTION_RESET),
    (aiohttp.ClientError, Status.BAD_ANSWER),
)
"""The first that fits names the class. A subclass precedes its base."""

_FAULT_TYPES = tuple(kind for kind, _ in _FAULTS)


EXHAUSTED_PAUSE, EXHAUSTED_PATIENCE = 0.25, 120.0
"""Seconds before something is tried again that failed because this machine has no descriptors or memory left, and after which
the run ends if nothing gets further."""

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN})


def exhausted(error: BaseException | None) -> bool:
    """Return whether a failure comes from this machine having no descriptors or memory left, at any level of its causes."""
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _EXHAUSTED):
            return True
        error = error.__cause__ or error.__context__
    return False


MOST_DESCRIPTORS = 65_536

HEAD_BYTES, OVERHEAD = 256 * 1024, 1024**2
"""Bytes on the wire that may come before a body, and beside it. A flood of informational answers or of tiny chunks costs more
processor time than bytes."""

RESERVE = 64
"""Descriptors for other uses than connections: libraries, shards that are written."""


def spare_descriptors() -> int:
    """Raise this process's limit of descriptors as far as is allowed; return how many of them are free, but for a reserve."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    limit = MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft
    return max(limit - len(list(Path("/dev/fd").iterdir())) - RESERVE, 0)


@asynccontextmanager
async def open_client(settings: FetchSettings) -> AsyncIterator[aiohttp.ClientSession]:
    """Open one set of connections, to public hosts and the networks that the settings allow."""
    resolver = PublicResolver(EVERYWHERE if settings.allow_private_hosts else settings.allowed_networks)
    connector = MeteredConnector(
        check=resolver.check,
        resolver=resolver,
        limit=0,  # the fetcher counts
        ttl_dns_cache=DNS_MEMORY,
        keepalive_timeout=KEEP_ALIVE,
        ssl=settings.verify_certificates,
    )
    timeout = aiohttp.ClientTimeout(
        total=None,
        connect=settings.connect_timeout,
        sock_connect=settings.connect_timeout,
        sock_read=settings.stall_timeout,
    )
    headers = {"User-Agent": settings.user_agent, "Accept": ACCEPT, "Accept-Encoding": "identity"}
    try:
        async with aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=headers,
            timeout=timeout,
            auto_decompress=False,
        ) as client:
            yield client
    finally:
        await resolver.close()


class Limits:
    """What is left for the requests of one image, redirects together, and the bytes of bodies that came."""

    def __init__(self, settings: FetchSettings) -> None:
        self.wire = Allowance(0)
        self._left = settings.wire_bytes
        self.seconds = settings.request_timeout
        self.received = 0

    def allow(self, count: int) -> None:
        """Let more bytes come, within the limit of all requests together."""
        more = max(min(count, self._left), 0)
        self.wire.bytes += more
        self._left -= more


async def get(
    client: aiohttp.ClientSession, url: URL, settings: FetchSettings, limits: Limits, *, keep: bool = False
) -> bytes | URL:
    """Return the bytes at a URL, or the URL that the answer redirects to.

    Args:
        client: from `open_client`.
        url: from `parse_url`.
        settings: timeouts and limits of one request.
        limits: what this and later requests for the same image may take; it is used up.
        keep: leave the connection open for another request.

    Raises:
        FetchError: there are none.
    """
    clock = asyncio.get_running_loop().time
    begin = clock()
    ALLOWANCE.set(limits.wire)
    limits.wire.keep = keep
    limits.allow(int(HEAD_BYTES - limits.wire.bytes))
    try:
        async with asyncio.timeout(limits.seconds) as whole:
            async with asyncio.timeout(settings.connect_timeout + settings.stall_timeout):
                headers = {} if keep else {"Connection": "close"}
                response = await client.get(url, headers=headers, allow_redirects=False)
            async with response:
                return await _answer(response, settings, limits)
    except _FAULT_TYPES as error:
        if whole.expired():
            slow = f"not complete within {settings.request_timeout:g} s"
            raise FetchError(Status.TIMEOUT_SLOW, slow) from error
        if limits.wire.bytes < 0:
            large = f"more bytes on the wire than its body accounts for, or than {settings.wire_bytes}"
            raise FetchError(Status.TOO_LARGE, large) from error
        status = next(status for kind, status in _FAULTS if isinstance(error, kind))
        raise FetchError(status, str(error) or type(error).__name__) from error
    finally:
        limits.seconds -= clock() - begin


async def _answer(response: aiohttp.ClientResponse, settings: FetchSettings, limits: Limits) -> bytes | URL:
    location = response.headers.get("Location")
    if response.status in REDIRECTS and location:
        return _redirect(response.url, location)
    if response.status != 200:
        wait = retry_after(response.headers.get("Retry-After"))
        raise FetchError(http_status(response.status), str(response.reason or "")[:80], retry_after=wait)
    # Of the image alone: pages of errors and services that redirect are often closed to search engines.
    forbidden = forbidding_directive(response.headers.getall("X-Robots-Tag", []), ROBOT, settings.opt_out)
    if forbidden:
        raise FetchError(Status.OPTED_OUT, f"X-Robots-Tag: {forbidden}")
    return await _read_body(response, settings, limits)


async def _read_body(response: aiohttp.ClientResponse, settings: FetchSettings, limits: Limits) -> bytes:
    """Receive a body. Every chunk moves the time by which the next one has to come on, so that the least rate is kept."""
    clock = asyncio.get_running_loop().time
    announced = response.content_length
    if announced is not None and announced > settings.max_bytes:
        raise FetchError(Status.TOO_LARGE, f"{announced} bytes announced, {settings.max_bytes} allowed")
    decoded = _Body(response.headers.get("Content-Encoding", ""), settings.max_bytes)
    limits.allow(OVERHEAD)
    received, begin, last = 0, None, clock()
    try:
        async with asyncio.timeout(None) as least_rate:
            async for chunk in response.content.iter_any():
                last = clock()
                begin = last if begin is None else begin
                received += len(chunk)
                limits.received += len(chunk)
                limits.allow(len(chunk) + len(chunk) // 4)
                if settings.min_rate:
                    least_rate.reschedule(begin + max(settings.rate_grace, received / settings.min_rate))
                decoded.add(chunk)
        return decoded.finish()
    except TimeoutError as error:
        if not least_rate.expired():
            raise
        if clock() - last >= settings.rate_grace:
            raise FetchError(Status.TIMEOUT_STALL, f"silent for {settings.rate_grace:g} s") from error
        raise FetchError(Status.TIMEOUT_SLOW, f"less than {settings.min_rate} bytes a second") from error


class _Body:
    """A body that is being received: decompressed, checked to begin as an image, never longer than the limit."""

    def __init__(self, encoding: str, limit: int) -> None:
        name = encoding.strip().lower()
        if name not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise FetchError(Status.BAD_ENCODING, f"Content-Encoding: {name[:40]}")
        self.data = bytearray()
        self._limit = limit
        self._came = 0
        self._sniffed = False
        self._inflate = None if name in ("", "identity") else zlib.decompressobj(_GZIP_OR_ZLIB)

    def add(self, chunk: bytes) -> None:
        self._came += len(chunk)
        room = self._limit - len(self.data)
        if self._inflate is not None:
            try:
                chunk = b"" if self._inflate.eof else self._inflate.decompress(chunk, room + 1)
            except zlib.error as error:
                raise FetchError(Status.BAD_ENCODING, str(error)) from error
        self.data += chunk[:room]
        if not self._sniffed and len(self.data) >= SNIFFED_BYTES:
            sniff(self.data)  # a page of words ends here, not at its last byte
            self._sniffed = True
        if len(chunk) > room or self._came > self._limit:
            raise FetchError(Status.TOO_LARGE, f"more than {self._limit} bytes")

    def finish(self) -> bytes:
        if self._came and self._inflate is not None and not self._inflate.eof:
            raise FetchError(Status.TRUNCATED, "the compressed body has no end")
        return bytes(self.data)


def read_file(path: str, max_bytes: int) -> bytes:
    """Return the bytes of a local file. Raises `FetchError`."""
    with _opened(path) as (file, size):
        _check_bytes(size, max_bytes)
        return file.read()


def read_member(path: str, offset: int, size: int, max_bytes: int) -> bytes:
    """Return the bytes of a member of a local tar file. Raises `FetchError`."""
    with _opened(path) as (file, _):
        _check_bytes(size, max_bytes)
        file.seek(offset)
        data = file.read(size)
    if len(data) < size:
        raise FetchError(Status.TRUNCATED, f"{path} ended {size - len(data)} bytes before the member's end")
    return data


@contextmanager
def _opened(path: str) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file; yield it and its size."""
    try:
        facts = Path(path).stat()
        if not stat.S_ISREG(facts.st_mode):  # a pipe or a device may never end
            raise FetchError(Status.UNREADABLE_FILE, f"{path} is not a regular file")
        with Path(path).open("rb") as file:
            yield file, facts.st_size
    except FileNotFoundError as error:
        raise FetchError(Status.MISSING_FILE, f"{path} does not exist") from error
    except (OSError, ValueError) as error:
        raise FetchError(Status.UNREADABLE_FILE, f"{path}: {error}") from error


def _check_bytes(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise FetchError(Status.TOO_LARGE, f"{size} bytes, {max_bytes} allowed")


def _redirect(source: URL, location: str) -> URL:
    try:
        return parse_url(str(source.join(URL(location, encoded=location.isascii()))))
    except (FetchError, ValueError) as error:
        raise FetchError(Status.BAD_REDIRECT, f"{location[:200]!r}: {error}") from error


def retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Return the seconds of a `Retry-After` header, a number or a date (RFC 9110, 10.2.3); `None` without a valid one."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max((date - (now or datetime.now(UTC))).total_seconds(), 0.0)
