"""Limits on what comes over the wire: body, headers, chunk extensions, trailers and redirects together."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import aiohttp

PIECE = 64 * 1024
"""Bytes that are received at a time: parsing them holds up all other requests."""


@dataclass
class Allowance:
    """What requests may still receive."""

    bytes: float
    until: float = math.inf
    """Time of `time.monotonic`."""
    keep: bool = True
    """Leave connections open for later requests."""

    def take(self, count: int) -> None:
        """Count bytes that came.

        Raises:
            OSError: more than is allowed, or later. It ends the connection.
        """
        self.bytes -= count
        if self.bytes < 0:
            raise OSError("more bytes on the wire than allowed")
        if time.monotonic() > self.until:
            raise OSError("the answer took longer than allowed")


ALLOWANCE: ContextVar[Allowance | None] = ContextVar("ALLOWANCE", default=None)
"""Of the requests of the current task."""


class MeteredSocket(socket.socket):
    """A socket that counts what it receives, before TLS and HTTP are decoded."""

    allowance: Allowance | None = None

    def recv(self, size: int, *flags: Any) -> bytes:
        data = super().recv(min(size, PIECE), *flags)
        self._count(len(data))
        return data

    def recv_into(self, buffer: Any, size: int = 0, *flags: Any) -> int:
        count = super().recv_into(buffer, min(size or len(buffer), PIECE), *flags)
        self._count(count)
        return count

    def _count(self, count: int) -> None:
        if self.allowance is not None:
            self.allowance.take(count)


class MeteredConnector(aiohttp.TCPConnector):
    """Connections that a task's `ALLOWANCE` limits, or one of `default` for each request where it has none.

    `check` gets the address of every socket before it is made.
    """

    def __init__(
        self,
        default: Callable[[], Allowance | None] = lambda: None,
        check: Callable[[str], None] = lambda address: None,
        **options: Any,
    ) -> None:
        super().__init__(socket_factory=self._open_socket, **options)
        self._default, self._check = default, check
        self._sockets: WeakValueDictionary[int, MeteredSocket] = WeakValueDictionary()

    async def connect(self, *arguments: Any, **options: Any) -> Any:
        """Return a connection, new or used before, whose bytes are counted for this request."""
        connection = await super().connect(*arguments, **options)
        allowance = ALLOWANCE.get() or self._default()
        if connection.transport is not None:
            opened = self._sockets.get(connection.transport.get_extra_info("socket").fileno())
            if opened is not None:
                opened.allowance = allowance
        if allowance is not None and not allowance.keep and connection.protocol is not None:
            connection.protocol.force_close()
        return connection

    def _open_socket(self, target: tuple[Any, ...]) -> socket.socket:
        """Return a socket for one of getaddrinfo's tuples."""
        family, kind, protocol, _, address = target
        self._check(address[0])
        opened = MeteredSocket(family, kind, protocol)
        opened.allowance = ALLOWANCE.get() or self._default()
        self._sockets[opened.fileno()] = opened
        return opened
