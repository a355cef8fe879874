"""Limits of requests to the hub: every answer has a deadline and may have so many bytes.

Not limited: the head of an answer as a whole, of which each piece has to come within the library's timeout, and what `hf_xet`
downloads, whose requests are its own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from jointnet_cli.errors import UserError

TEXT_BYTES = 64 * 1024**2
"""Bytes of an answer that is a text, or that does not state its length."""

WEIGHT_BYTES = 64 * 1024**3
"""Bytes of an answer that is a file of weights."""

PACKED_BYTES = 4 * 1024**2
"""Bytes of an answer that is compressed, although it is not asked for: unpacked it may have a thousand times as many."""

SILENCE, GRACE, LEAST_RATE = 30.0, 300.0, 16 * 1024
"""Seconds without a byte; seconds of an answer, and bytes a second by which a large one may take longer."""

_most: int | None = None


@contextmanager
def limit_requests(most: int) -> Iterator[None]:
    """Limit the answers of the hub to `most` bytes each, in all threads, until the context is left."""
    global _most
    _install()
    before, _most = _most, most
    try:
        yield
    finally:
        _most = before


@cache
def _install() -> None:
    from huggingface_hub import get_session, set_client_factory

    session: Any = get_session()
    client, hooks = type(session), session.event_hooks
    # By name: from version 2 on the library of huggingface_hub is not httpx but httpx2.
    base = sys.modules[client.__module__.partition(".")[0]].SyncByteStream

    class Metered(base):  # type: ignore[misc, valid-type]
        """The bytes of an answer, as long as they are within the limits."""

        def __init__(self, response: Any, most: int) -> None:
            self._response, self._stream, self._most = response, response.stream, most
            self._until = time.monotonic() + GRACE + most / LEAST_RATE

        def __iter__(self) -> Iterator[bytes]:
            left = self._most
            for chunk in self._stream:
                left -= len(chunk)
                if left < 0:
                    raise _refusal(self._response, f"has more than {self._most:,} bytes")
                if time.monotonic() > self._until:
                    raise _refusal(self._response, "took longer than allowed")
                yield chunk

        def close(self) -> None:
            self._stream.close()

    def limit(response: Any) -> None:
        allowed = _most
        if allowed is None or response.request.method == "HEAD":
            return
        stated, most = response.headers.get("Content-Length", ""), min(allowed, TEXT_BYTES)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            most = PACKED_BYTES
        elif stated.isascii() and stated.isdigit():
            most = int(stated)
            if most > allowed:
                raise _refusal(response, f"has {most:,} bytes, more than {allowed:,}")
        response.stream = Metered(response, most)

    set_client_factory(
        lambda: client(
            headers={"Accept-Encoding": "identity"},
            event_hooks={**hooks, "response": [*hooks["response"], limit]},
            follow_redirects=True,
            timeout=SILENCE,
        )
    )


def _refusal(response: Any, cause: str) -> UserError:
    return UserError(f"the answer of {response.request.url.host} to a request for {response.request.url.path} {cause}")
