"""Results of fetches: status, failure classes and their groups."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from jointnet_cli.data.rows import RESULTS, ImageRow
from jointnet_cli.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from jointnet_cli.data.web.decode import TrainingImage


class Status(StrEnum):
    """The status of a fetched row, beside `http_NNN` for an answer with another HTTP code than 200 and redirects."""

    SUCCESS = "success"
    """The image was fetched and decoded."""

    BAD_URL = "bad_url"
    """Neither an http(s) URL that can be read nor the path of a file."""
    PRIVATE_HOST = "private_host"
    """The host, or one it redirects to, has an address that is not of the public internet."""
    DNS_UNKNOWN = "dns_unknown"
    """The host's name does not exist."""
    DNS_FAILED = "dns_failed"
    """The name servers did not answer."""
    MISSING_FILE = "missing_file"
    """There is no file at the path."""
    UNREADABLE_FILE = "unreadable_file"
    """The path is no regular file, or may not be read."""

    CONNECT_FAILED = "connect_failed"
    """The host refused the connection or cannot be reached."""
    TLS_FAILED = "tls_failed"
    """The certificate is not valid, or the handshake failed."""
    CONNECTION_RESET = "connection_reset"
    """The connection was cut before the answer began, or while it came."""
    TIMEOUT_CONNECT = "timeout_connect"
    """Finding the host's address and connecting to it took too long."""
    TIMEOUT_STALL = "timeout_stall"
    """The host fell silent, or its headers took too long."""
    TIMEOUT_SLOW = "timeout_slow"
    """The bytes came, but fewer a second than the least rate, or for longer than a request may take."""
    BAD_ANSWER = "bad_answer"
    """The answer is not HTTP, or its headers are too long."""

    HOST_BUSY = "host_busy"
    """Not asked, because the host answered 429, or 503 with `Retry-After`, again and again or for too long."""
    BAD_REDIRECT = "bad_redirect"
    """A redirect to something other than an http(s) URL."""
    REDIRECT_LOOP = "redirect_loop"
    """A redirect to a URL that was requested before."""
    TOO_MANY_REDIRECTS = "too_many_redirects"
    """More redirects than allowed."""
    OPTED_OUT = "opted_out"
    """`X-Robots-Tag` forbids the use."""
    TRUNCATED = "truncated"
    """The body ended before the length it announced."""
    TOO_LARGE = "too_large"
    """More bytes than allowed: on the wire, of the body, or decompressed."""
    BAD_ENCODING = "bad_encoding"
    """A body compressed although this was not asked for, in a way that is not known or wrongly."""

    EMPTY = "empty"
    """The body has no bytes."""
    NOT_AN_IMAGE = "not_an_image"
    """The bytes do not begin as an image does, whatever the headers say."""
    UNSUPPORTED_FORMAT = "unsupported_format"
    """An image of a kind that cannot be decoded here: SVG, JPEG XL, icons, 32 bits a sample."""
    NEEDS_HEIF = "needs_heif"
    """A HEIC image, without the package's extra `heif`."""
    DAMAGED_IMAGE = "damaged_image"
    """It begins as an image does but cannot be decoded to its end."""
    DECODE_TIMEOUT = "decode_timeout"
    """Decoding took longer than allowed."""
    DECODE_MEMORY = "decode_memory"
    """Decoding took more memory than allowed."""
    TOO_MANY_PIXELS = "too_many_pixels"
    """More pixels than allowed, by the image's header: it was not decoded."""
    TOO_SMALL = "too_small"
    """A side shorter than the least allowed."""
    BAD_ASPECT = "bad_aspect"
    """A longer side that is too many times the shorter one."""

    UNEXPECTED = "unexpected"
    """A fault of this program; the message names the exception."""


def http_status(code: int) -> str:
    """Return the class of an answer with an HTTP code, such as `http_404`."""
    return f"http_{code}"


GROUPS: dict[str, frozenset[str]] = {
    "timeout": frozenset({Status.TIMEOUT_CONNECT, Status.TIMEOUT_STALL, Status.TIMEOUT_SLOW}),
    "connection": frozenset({Status.CONNECT_FAILED, Status.CONNECTION_RESET, Status.TLS_FAILED, Status.BAD_ANSWER}),
    "dns": frozenset({Status.DNS_UNKNOWN, Status.DNS_FAILED}),
    "redirect": frozenset({Status.BAD_REDIRECT, Status.REDIRECT_LOOP, Status.TOO_MANY_REDIRECTS}),
    "body": frozenset({Status.TRUNCATED, Status.TOO_LARGE, Status.BAD_ENCODING, Status.EMPTY}),
    "image": frozenset(
        {
            Status.NOT_AN_IMAGE,
            Status.UNSUPPORTED_FORMAT,
            Status.NEEDS_HEIF,
            Status.DAMAGED_IMAGE,
            Status.DECODE_TIMEOUT,
            Status.DECODE_MEMORY,
            Status.TOO_MANY_PIXELS,
            Status.TOO_SMALL,
            Status.BAD_ASPECT,
        }
    ),
    "file": frozenset({Status.MISSING_FILE, Status.UNREADABLE_FILE}),
    "4xx": frozenset(http_status(code) for code in range(400, 500)),
    "5xx": frozenset(http_status(code) for code in range(500, 600)),
    "transient": frozenset(
        {
            Status.TIMEOUT_CONNECT,
            Status.TIMEOUT_STALL,
            Status.DNS_FAILED,
            Status.CONNECT_FAILED,
            Status.CONNECTION_RESET,
            Status.TRUNCATED,
            Status.HOST_BUSY,
            *map(http_status, (408, 425, 429, 500, 502, 503, 504, *range(520, 528))),
        }
    ),
}
"""Names for sets of failures. `transient` is what may go well a moment later: a run tries it again by itself, unless the host
asked for more time than the run has."""


def is_transient(status: str) -> bool:
    """Return whether a failure of this class may go well a moment later."""
    return status in GROUPS["transient"]


def failure_filter(names: Iterable[str]) -> Callable[[str], bool]:
    """Return a test for the failures that `names` mean, as in `--retry-failed timeout,5xx`.

    A name is one of `GROUPS`, a `Status`, `http_NNN`, or `all` for every failure. Raises `UserError` for another name
    and for `success`.
    """
    failures = {str(status) for status in Status} - {Status.SUCCESS}
    chosen: set[str] = set()
    for name in names:
        if name == "all":
            return lambda status: status != Status.SUCCESS
        if name in GROUPS:
            chosen |= GROUPS[name]
        elif name in failures or _is_http(name):
            chosen.add(name)
        else:
            known = ["all", *GROUPS, *sorted(failures)]
            hint = did_you_mean(name, known) or f"groups: all, {', '.join(GROUPS)}; or http_404 and the like"
            raise UserError(f"unknown failure class {name!r}", hint=hint)
    return chosen.__contains__


def _is_http(name: str) -> bool:
    prefix, _, code = name.partition("_")
    return prefix == "http" and len(code) == 3 and code.isdecimal()


@dataclass(frozen=True)
class FetchResult:
    """The result of a row."""

    row: ImageRow
    status: str
    """A `Status`, or `http_NNN`."""
    error_message: str | None = None
    image: TrainingImage | None = None
    """`None` unless it succeeded."""
    received: int = 0
    """Bytes of bodies, in all attempts."""

    @property
    def record(self) -> dict[str, Any]:
        """The columns `RESULTS` of the row."""
        facts = {"status": self.status, "error_message": self.error_message}
        image = {name: getattr(self.image, name, None) for name in RESULTS if name not in ("key", *facts)}
        return {**facts, **image, "key": self.row.key}


class FetchError(Exception):
    """A row could not be fetched, or not in this attempt."""

    def __init__(self, status: str, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(_ADDRESSES.sub("", message))
        self.status = str(status)
        self.retry_after = retry_after
        """Seconds that the host asked to wait."""


_ADDRESSES = re.compile(r" at 0x[0-9a-fA-F]+")
"""Of objects in the messages of libraries (`<_io.BytesIO object at 0x7f…>`): they differ from run to run."""
