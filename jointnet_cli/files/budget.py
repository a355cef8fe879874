"""How large an image or a map may be. Its header tells, before it is decoded: a file of 2 KB can claim a billion pixels."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from jointnet_cli.errors import UserError

MAX_PIXELS = 178_000_000
"""Pixels of an image file by default, such as 13,300 x 13,300."""

PIXEL_BYTES = 16
"""Decoded bytes that there may be for each pixel of the budget: four channels of 32 bits."""

_limit = MAX_PIXELS


@contextmanager
def limit_pixels(most: int) -> Iterator[None]:
    """Set the pixels that image and map files may have, for all threads, until the context is left."""
    global _limit
    before, _limit = _limit, most
    tell_pillow()
    try:
        yield
    finally:
        _limit = before
        tell_pillow()


def tell_pillow() -> None:
    """Set Pillow's own limit, once Pillow is imported: it refuses twice as many pixels with an error of its own."""
    if (image := sys.modules.get("PIL.Image")) is not None:
        image.MAX_IMAGE_PIXELS = max(_limit, MAX_PIXELS) // 2 + 1  # type: ignore[attr-defined]


def max_bytes() -> int:
    """Return the bytes that a file may decode to, and that it may have itself."""
    return _limit * PIXEL_BYTES


def check_pixels(name: object, height: int, width: int, pixel_bytes: int = PIXEL_BYTES) -> None:
    """Refuse what a header claims, if it is beyond the budget.

    Args:
        name: the file, for the message.
        height, width: in pixels.
        pixel_bytes: decoded bytes of all channels of a pixel.

    Raises:
        UserError: more pixels, or more bytes, than the budget allows.
    """
    if height * width > _limit or height * width * pixel_bytes > max_bytes():
        size = f"{width:,} x {height:,} pixels of {pixel_bytes} bytes"
        allowed = f"{_limit:,} pixels of {PIXEL_BYTES} bytes"
        raise UserError(
            f"{name} has {size}, which is more than {allowed}",
            "make it smaller, or raise --max-pixels if there is enough memory",
        )
