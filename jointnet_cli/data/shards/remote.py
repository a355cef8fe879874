"""Remote files (https, S3), read sequentially and resumed when a connection breaks."""

from __future__ import annotations

import contextlib
import io
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from jointnet_cli.errors import UserError

BLOCK = 4 * 1024**2
"""Bytes of one request where a server answers for ranges: no connection is held between the steps of a training."""

REQUEST_SECONDS, REQUEST_BYTES = 300.0, 64 * 1024**2
"""Limits of one request, or of one read of a file: seconds, and for `https` and `http` bytes on the wire beside those that are
asked for."""

STATS_BYTES = 1024**2
"""Bytes of a stats file at most."""

ATTEMPTS = 5

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds between attempts; doubled each time."""

SCHEMES = frozenset({"https", "http", "s3", "gs", "az", "abfs", "hf", "file"})
"""What shards are read by. fsspec knows further ones, some of which run commands on other machines or chain places."""

Result = TypeVar("Result")


def is_url(place: str) -> bool:
    """Return whether a place is elsewhere."""
    return "://" in place


def file_system(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of a URL, and the URL's path in it.

    Raises:
        UserError: a scheme that nothing here reads.
    """
    import fsspec

    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        raise UserError(f"{url}: shards are not read by {scheme}", hint="shards are local files, https:// or s3://")
    try:
        system: Any = fsspec.filesystem(scheme, **_options(url))
        return system, str(system._strip_protocol(url))
    except ImportError as error:
        missing = "s3fs" if url.startswith("s3://") else str(error)
        raise UserError(f"{url}: {missing} is not installed", hint=f"pip install {missing}") from error
    except ValueError as error:
        raise UserError(f"{url}: {error}", hint="shards are local files, https:// or s3://") from error


def retrying(what: str, attempt: Callable[[], Result]) -> Result:
    """Return the result of an attempt, made again after a pause where the network fails.

    Args:
        what: the URL that is asked.
        attempt: makes one request or several. Where the requests have no limits of their own, which only those of `https`
            and `http` have, it has to end within `REQUEST_SECONDS`.

    Raises:
        UserError: it failed too often, or there is no such file, or no permission.
    """
    import aiohttp

    for number in range(ATTEMPTS):
        try:
            return attempt() if _is_http(what) else _in_time(attempt)
        except (FileNotFoundError, PermissionError) as error:
            reason = "no such file" if isinstance(error, FileNotFoundError) else "no permission"
            raise UserError(f"{what}: {reason}") from error
        except (OSError, aiohttp.ClientError) as error:
            status = getattr(error, "status", None) or 0
            if number + 1 == ATTEMPTS or (400 <= status < 500 and status not in (408, 429)):
                told = str(error) or type(error).__name__
                hint = "the same command goes on from the last checkpoint"
                raise UserError(f"{what} cannot be read: {told}", hint=hint) from error
        time.sleep(min(FIRST_PAUSE * 2**number, LONGEST_PAUSE) * random.uniform(0.5, 1))
    raise AssertionError  # the last attempt returns or raises


def _in_time(attempt: Callable[[], Result]) -> Result:
    """Return the result of an attempt; one that lasts longer than a request may is left to itself.

    Raises:
        OSError: it lasts longer.
    """
    results: list[Result] = []
    faults: list[BaseException] = []

    def run() -> None:
        try:
            results.append(attempt())
        except BaseException as fault:
            faults.append(fault)

    # A daemon: the command does not wait for it at its end.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(REQUEST_SECONDS)
    if faults:
        raise faults[0]
    if not results:
        raise OSError("the answer took longer than allowed")
    return results[0]


def read_small(urls: Sequence[str]) -> list[bytes | None]:
    """Return the contents of small files of one place, many at a time, at most `STATS_BYTES` of each; `None` for none.

    Raises:
        UserError: one cannot be read, after several attempts.
    """
    system, _ = file_system(urls[0])
    paths = [str(system._strip_protocol(url)) for url in urls]
    options = {"middlewares": [_limit_small]} if _is_http(urls[0]) else {}

    def read() -> list[bytes | None]:
        answers: dict[str, Any] = system.cat(paths, on_error="return", start=0, end=STATS_BYTES, **options)
        for answer in answers.values():
            status = getattr(answer, "status", None) or 0
            absent = isinstance(answer, FileNotFoundError | PermissionError) or 400 <= status < 500
            if isinstance(answer, BaseException) and not absent:
                raise answer
        return [answer if isinstance(answer := answers.get(path), bytes) else None for path in paths]

    return retrying(urls[0], read)


class RemoteFile(io.RawIOBase):
    """A file at a URL as a stream; a failed read is repeated at the same position."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._allowance: Any = None
        self._file: Any = None
        self._size: int | None = None
        self._position = 0
        self._ranges = True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from its start and return the number of bytes; 0 at the end of the file.

        Raises:
            UserError: it cannot be read, after several attempts.
        """
        read = self._read if _is_http(self._url) else self._read_range
        data = retrying(self._url, lambda: read(len(buffer)))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        """Close the connection, if there is one."""
        self._drop()
        super().close()

    def _drop(self) -> None:
        if self._file is not None:
            with contextlib.suppress(Exception):  # of a broken connection nothing is wanted any more
                self._file.close()
            self._file = None

    def _read_range(self, size: int) -> bytes:
        """Ask for a range of its own, which needs nothing of an attempt that was left to itself."""
        system, path = file_system(self._url)
        if self._size is None:
            self._size = int(system.info(path)["size"])
        end = min(self._position + min(size, BLOCK), self._size)
        if end <= self._position:
            return b""
        options = {} if system.async_impl else {"cache_type": "none"}
        data: bytes = system.cat_file(path, start=self._position, end=end, **options)
        if len(data) != end - self._position:
            raise OSError(f"{len(data)} bytes came rather than {end - self._position} from byte {self._position} on")
        return data

    def _read(self, size: int) -> bytes:
        try:
            self._allow(size)
            if self._file is None:
                self._open()
            data: bytes = self._file.read(size)
            whole = self._file.size
            if not data and whole is not None and self._position < whole:
                raise OSError(f"ended at byte {self._position} of {whole}")
            return data
        except ValueError:  # fsspec's word for a server that does not answer for ranges
            self._drop()
            if not self._ranges:
                raise
            self._ranges = False
            return self._read(size)
        except BaseException:
            self._drop()
            raise

    def _open(self) -> None:
        """Open the file at the current position: by range requests or, where they are not supported, by reading up to it."""
        system, path = file_system(self._url)
        block = BLOCK if self._ranges else 0
        self._file = system.open(path, block_size=block, cache_type="none", middlewares=[self._limited])
        if self._ranges:
            self._file.seek(self._position)
            return
        passed = 0
        while passed < self._position:
            self._allow(BLOCK)
            data = self._file.read(min(BLOCK, self._position - passed))
            if not data:
                raise OSError(f"ended at byte {passed}")
            passed += len(data)

    async def _limited(self, request: Any, handler: Any) -> Any:
        """Let all requests for this file share one allowance, which every read renews: a stream may last for a training."""
        from jointnet_cli.data.web.wire import ALLOWANCE

        ALLOWANCE.set(self._allowance)
        return await handler(request)

    def _allow(self, size: int) -> None:
        fresh = _allowance()
        fresh.bytes += size
        if self._allowance is None:
            self._allowance = fresh
        self._allowance.bytes, self._allowance.until = fresh.bytes, fresh.until


def _is_http(url: str) -> bool:
    return url.startswith(("http://", "https://"))


def _allowance(count: int | None = None) -> Any:
    from jointnet_cli.data.web.wire import Allowance

    return Allowance(REQUEST_BYTES if count is None else count, time.monotonic() + REQUEST_SECONDS)


async def _limit_small(request: Any, handler: Any) -> Any:
    """Give one request the allowance of a small file: its bytes, and headers."""
    from jointnet_cli.data.web.wire import ALLOWANCE

    ALLOWANCE.set(_allowance(2 * STATS_BYTES))
    return await handler(request)


async def _open_client(**options: Any) -> Any:
    """Open the client of a file system, whose requests have limits."""
    import aiohttp

    from jointnet_cli.data.web.wire import MeteredConnector

    return aiohttp.ClientSession(connector=MeteredConnector(_allowance), **options)


def _options(url: str) -> dict[str, Any]:
    if not _is_http(url):
        return {}
    import aiohttp

    # A stream may take as long as the training; silence is a fault, and so is a request beyond its allowance.
    patience = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
    return {"get_client": _open_client, "client_kwargs": {"timeout": patience, "trust_env": True}}
