"""What a download will take, before it begins. Assumptions are said with the numbers; a run says what it measures."""

from __future__ import annotations

from dataclasses import dataclass

from jointnet_cli.data.fetch_settings import FetchSettings

SUCCESS_RATE = 0.7
BYTES_PER_PIXEL = 0.3
"""Of a JPEG of quality 95 that was made smaller."""
SECONDS_PER_ANSWER = 1.0
"""From the request to the image, on average, at every one of `concurrency` places."""
IMAGES_PER_CORE = 40.0
"""A second, decoded, resized and encoded."""


@dataclass(frozen=True)
class Estimate:
    """Expected work and size of a set."""

    shards: int
    images: int
    """That come."""
    bytes: int
    """Of the shards."""
    hours: float
    """On this machine."""
    assuming: str


def estimate(rows: int, shard_size: int, settings: FetchSettings) -> Estimate:
    """What `rows` wanted images will take."""
    images = round(rows * SUCCESS_RATE)
    pixels = settings.size**2
    rate = min(settings.concurrency / SECONDS_PER_ANSWER, settings.decoder_threads * IMAGES_PER_CORE)
    return Estimate(
        shards=-(-rows // shard_size),
        images=images,
        bytes=round(images * pixels * BYTES_PER_PIXEL),
        hours=rows / rate / 3600,
        assuming=f"{SUCCESS_RATE:.0%} of the images come, {BYTES_PER_PIXEL} bytes a pixel, {rate:.0f} images/s",
    )
