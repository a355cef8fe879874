"""What an answer's headers ask for: to wait, and to leave the image alone."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_VALUED = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})
"""Directives of `X-Robots-Tag` with a value after a colon: what precedes any other colon is a robot's name."""


def retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds to wait by a `Retry-After` header, a number or a date (RFC 9110, 10.2.3); `None` where it says nothing."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max((date - (now or datetime.now(UTC))).total_seconds(), 0.0)


def forbidding_directive(values: Iterable[str], robot: str, directives: Iterable[str]) -> str | None:
    """The first of `directives` that the values of `X-Robots-Tag` set for `robot`; `None` if there is none.

    A value such as `noai, noimageai` is for every robot, `somebot: noindex, noai` for the one it names, `*: noai` again
    for every one. `none` means noindex as well.
    """
    forbidden = {directive.lower() for directive in directives}
    for value in values:
        addressed = True
        for item in value.lower().split(","):
            name, colon, rest = (part.strip() for part in item.partition(":"))
            if colon and name not in _VALUED:
                addressed, name = name in ("*", robot.lower()), rest
            name = "noindex" if name == "none" else name
            if addressed and name in forbidden:
                return name
    return None
