"""A web server on this machine that answers in all the ways that a web of strangers does."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

Answer = Callable[[asyncio.StreamWriter, int], Awaitable[None]]
"""Writes an answer to the request that is the nth, from 1 on, of its path."""
SIDE = 48


class Web:
    """Answers by path, on 127.0.0.1 and other addresses of this machine, in a thread of its own."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: Counter[str] = Counter()
        self.headers: dict[str, str] = {}
        """The header lines of the last request of each path."""
        self.port = 0

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}/{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                path = head.split(" ", 2)[1].lstrip("/")
                self.asked[path] += 1
                self.headers[path] = head
                await self.answers[path](writer, self.asked[path])
                await writer.drain()
                if writer.is_closing():
                    break
        writer.close()


@contextlib.contextmanager
def running(web: Web, *others: str) -> Iterator[Web]:
    """Serve on 127.0.0.1 and these addresses until the block ends."""
    ready, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def run() -> None:
        server = await asyncio.start_server(web.serve, "127.0.0.1", 0)
        web.port = server.sockets[0].getsockname()[1]
        servers = [server, *[await asyncio.start_server(web.serve, other, web.port) for other in others]]
        ready.set()
        await stop.wait()
        for server in servers:
            server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)

    thread = threading.Thread(target=loop.run_until_complete, args=[run()])
    thread.start()
    ready.wait()
    try:
        yield web
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def head(code: int = 200, length: int | None = None, **headers: str) -> bytes:
    """A status line and headers: `X_Robots_Tag="noai"` becomes `X-Robots-Tag: noai`."""
    lines = [f"HTTP/1.1 {code} Whatever", "Content-Type: image/jpeg"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines += [] if length is None else [f"Content-Length: {length}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def reply(body: bytes = b"", code: int = 200, **headers: str) -> Answer:
    """A complete answer; the connection stays open."""
    return raw(head(code, len(body), **headers) + body, close=False)


def raw(data: bytes, *, close: bool = True) -> Answer:
    """These bytes and nothing else."""

    async def answer(writer: asyncio.StreamWriter, number: int) -> None:
        writer.write(data)
        if close:
            await writer.drain()
            writer.close()

    return answer


def redirect(location: str, code: int = 302) -> Answer:
    return reply(code=code, Location=location)


def heals(bad: Answer, good: Answer, after: int = 1) -> Answer:
    """The first `after` requests get the bad answer."""

    async def answer(writer: asyncio.StreamWriter, number: int) -> None:
        await (bad if number <= after else good)(writer, number)

    return answer


def drip(first: bytes, rest: bytes, pause: float) -> Answer:
    """Some bytes at once, the others one by one."""

    async def answer(writer: asyncio.StreamWriter, number: int) -> None:
        writer.write(first)
        for byte in rest:
            await asyncio.sleep(pause)
            writer.write(bytes([byte]))
            await writer.drain()

    return answer


def stall(first: bytes = b"") -> Answer:
    """Some bytes, then silence."""

    async def answer(writer: asyncio.StreamWriter, number: int) -> None:
        writer.write(first)
        await writer.drain()
        await asyncio.sleep(60)

    return answer


def endless(first: bytes, chunk: bytes = bytes(65536)) -> Answer:
    """A body that is never done."""
    return flood(head() + first, chunk)


def flood(first: bytes, chunk: bytes) -> Answer:
    """Some bytes, then others for ever."""

    async def answer(writer: asyncio.StreamWriter, number: int) -> None:
        writer.write(first)
        while not writer.is_closing():
            writer.write(chunk)
            await writer.drain()

    return answer


async def reset(writer: asyncio.StreamWriter, number: int) -> None:
    """A TCP reset in the middle of the headers."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-")
    await writer.drain()
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


def photo(width: int = SIDE, height: int = SIDE) -> Image.Image:
    """Red at the top left, green at the top right, blue at the bottom left, white at the bottom right."""
    quarters = np.array([[(230, 20, 20), (20, 200, 20)], [(20, 20, 220), (250, 250, 250)]], np.uint8)
    return Image.fromarray(quarters).resize((width, height), Image.Resampling.NEAREST)


def encoded(picture: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def rotated_jpeg() -> bytes:
    """`photo(SIDE, SIDE // 2)` stored a quarter turn to the left, with the orientation that turns it back."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera\x00"
    return encoded(photo(SIDE, SIDE // 2).transpose(Image.Transpose.ROTATE_90), quality=95, exif=exif)


def swapped_profile() -> bytes:
    """A colour profile under which what is stored as red is blue."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return srgb.replace(b"rXYZ", b"?").replace(b"bXYZ", b"rXYZ").replace(b"?", b"bXYZ")


def huge_png(side: int = 100_000) -> bytes:
    """A PNG that announces side x side pixels and holds few bytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    size = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def gzip_bomb(megabytes: int = 64) -> bytes:
    """A PNG's first bytes and then zeros, in a thousandth of the bytes."""
    return gzip.compress(huge_png() + bytes(megabytes * 1024**2))
