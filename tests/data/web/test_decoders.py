"""Images that take too long, too much memory or crash a decoder: they end one process, and nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from threading import Timer

import pytest
from helpers.gallery import fetching
from helpers.web import encoded, photo
from PIL import Image

from jointnet_cli.data.rows import ImageRow
from jointnet_cli.data.settings import ImageSettings, PrepareSettings
from jointnet_cli.data.web import decoders
from jointnet_cli.data.web.decode import to_training_image
from jointnet_cli.data.web.decoders import Decoders
from jointnet_cli.data.web.fetch import fetch_rows
from jointnet_cli.data.web.status import FetchError

SETTINGS = PrepareSettings(image=ImageSettings(size=32))
GOOD = encoded(photo(64, 48))


def slow_jpeg(scans: int = 5000) -> bytes:
    """A progressive JPEG whose last scan is repeated: 2000 x 2000 pixels are gone through each time."""
    data = encoded(Image.new("L", (2000, 2000)), progressive=True)
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * scans + b"\xff\xd9"


SLOW = slow_jpeg()


def failure(data: bytes, settings: PrepareSettings = SETTINGS) -> tuple[str, str]:
    with pytest.raises(FetchError) as caught:
        Decoders().decode(data, settings)
    return caught.value.status, str(caught.value)


def test_another_process_gives_the_same_image() -> None:
    assert Decoders().decode(GOOD, SETTINGS) == to_training_image(GOOD, SETTINGS)
    assert failure(GOOD[:200])[0] == "damaged_image"
    assert failure(b"words") == ("not_an_image", "no image format that is known")


def test_an_image_that_takes_too_long() -> None:
    begin = time.process_time()
    assert failure(SLOW, fetching(SETTINGS, decode_timeout=0.2)) == ("decode_timeout", "more than 0.2 s")
    assert time.process_time() - begin < 1
    assert Decoders().decode(GOOD, SETTINGS).width == 32


def test_an_image_that_takes_too_much_memory() -> None:
    large = encoded(Image.new("RGB", (3000, 3000)), "PNG")
    assert failure(large, fetching(SETTINGS, decode_bytes=20_000_000))[0] == "decode_memory"
    assert Decoders().decode(large, SETTINGS).original_width == 3000


@pytest.mark.parametrize(
    ("end", "expected"),
    [(signal.SIGSEGV, "it makes the decoder crash: SIGSEGV"), (signal.SIGKILL, "the system ended the process")],
)
def test_a_process_that_ends(end: signal.Signals, expected: str) -> None:
    Decoders().decode(GOOD, SETTINGS)
    process = decoders._IDLE[-1].process
    timer = Timer(0.1, os.kill, [process.pid, end])
    timer.start()
    status, message = failure(SLOW)
    timer.join()
    assert status == ("damaged_image" if end == signal.SIGSEGV else "decode_memory") and expected in message
    assert process.returncode == -end


def test_stopping_does_not_wait_for_a_decoder(tmp_path: Path) -> None:
    (tmp_path / "slow.jpg").write_bytes(SLOW)
    row = ImageRow("0", str(tmp_path / "slow.jpg"), "")

    async def run() -> float:
        async def read() -> None:
            async for _ in fetch_rows([row], SETTINGS):
                pass

        reading = asyncio.create_task(read())
        await asyncio.sleep(0.3)
        begin = time.monotonic()
        reading.cancel()
        await asyncio.wait([reading])
        return time.monotonic() - begin

    assert asyncio.run(run()) < 0.5
