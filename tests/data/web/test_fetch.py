"""Fetching from a server that answers badly: every answer ends in its own class, and none stops the others."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from helpers import web as bad_web
from helpers.answers import ANSWERS, CHUNKED, ELSEWHERE, JPEG, LAST_CHUNK, SETTINGS
from helpers.gallery import fetching
from helpers.web import SIDE, Answer, Web, encoded, head, redirect, reply
from PIL import Image

from jointnet_cli.data.rows import OFFSET, SIZE, TAR, ImageRow, row_key
from jointnet_cli.data.settings import PrepareSettings
from jointnet_cli.data.web.fetch import fetch_rows
from jointnet_cli.data.web.status import FetchResult, Status

SMALL_RED = encoded(Image.new("RGB", (SIDE, SIDE), "red"))
MEGABYTE = 1024**2


def delayed(answer: Answer, seconds: float) -> Answer:
    """The answer after a while."""

    async def later(writer: asyncio.StreamWriter, number: int) -> None:
        await asyncio.sleep(seconds)
        await answer(writer, number)

    return later


def rows_of(urls: list[str]) -> list[ImageRow]:
    return [ImageRow(row_key(0, place), url, f"caption\0of\n{place}") for place, url in enumerate(urls)]


def results(rows: list[ImageRow], settings: PrepareSettings = SETTINGS) -> list[FetchResult]:
    async def collect() -> list[FetchResult]:
        return [fetched async for fetched in fetch_rows(rows, settings)]

    return asyncio.run(collect())


def fetch(urls: list[str], settings: PrepareSettings = SETTINGS) -> dict[str, FetchResult]:
    """What became of each URL; every row is there once, as it was given."""
    rows = rows_of(urls)
    found = results(rows, settings)
    assert sorted(fetched.row.key for fetched in found) == [row.key for row in rows]
    assert {fetched.row.key: fetched.row for fetched in found} == {row.key: row for row in rows}
    return {fetched.row.url: fetched for fetched in found}


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    server = Web()
    server.answers = {path: answer for path, (answer, _) in ANSWERS.items()}
    with bad_web.running(server, "127.0.0.2", "127.0.0.3"):
        yield server


@pytest.fixture(scope="module")
def found(web: Web) -> dict[str, FetchResult]:
    """All of `ANSWERS` and `ELSEWHERE` in one run, within little memory and without a task or socket left open."""
    tracemalloc.start()
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        found = fetch([*map(web.url, ANSWERS), *ELSEWHERE])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 * MEGABYTE
    deadline = time.monotonic() + 5
    while any(thread.name.startswith(("decode", "resolve")) for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "threads were left"
        time.sleep(0.01)
    return found


@pytest.mark.parametrize("path", ANSWERS)
def test_every_answer_ends_in_its_class(path: str, web: Web, found: dict[str, FetchResult]) -> None:
    fetched = found[web.url(path)]
    assert fetched.status == ANSWERS[path][1], fetched.error_message
    if fetched.status != "success":
        assert fetched.error_message and fetched.image is None and fetched.record["sha256"] is None
        return
    assert fetched.error_message is None and fetched.image and fetched.received > 0
    with Image.open(io.BytesIO(fetched.image.jpeg)) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (SIDE, SIDE))
    assert (fetched.record["width"], fetched.record["height"]) == (SIDE, SIDE)


@pytest.mark.parametrize("url", ELSEWHERE)
def test_what_is_not_on_the_server(url: str, found: dict[str, FetchResult]) -> None:
    assert found[url].status == ELSEWHERE[url], found[url].error_message


def test_messages_are_the_same_in_every_run(found: dict[str, FetchResult]) -> None:
    messages = [fetched.error_message or "" for fetched in found.values()]
    assert any("BytesIO" in message for message in messages)
    assert not [message for message in messages if " at 0x" in message]


def test_statuses_are_a_closed_set(found: dict[str, FetchResult]) -> None:
    statuses = {fetched.status for fetched in found.values()}
    assert {status for status in statuses if not status.startswith("http_")} <= set(Status)
    assert all(type(status) is str for status in statuses)
    assert len(statuses) >= 25


def test_requests_are_repeated_only_where_it_may_help(web: Web, found: dict[str, FetchResult]) -> None:
    once = ["404", "empty", "gzip-bomb", "noai", "huge-png", "loris-body"]
    assert {path: web.asked[path] for path in once} == dict.fromkeys(once, 1)
    thrice = ["503", "500-heals", "truncated", "stall-in-body"]
    assert {path: web.asked[path] for path in thrice} == dict.fromkeys(thrice, 3)
    assert "jointnet/" in web.headers["good"] and "Accept-Encoding: identity" in web.headers["good"]


def test_sizes_and_colours_of_what_came(web: Web, found: dict[str, FetchResult]) -> None:
    rotated = found[web.url("rotated")].image
    assert rotated is not None
    assert (rotated.original_width, rotated.original_height) == (SIDE, SIDE // 2)
    assert rotated.exif == '{"Image Make": "Camera"}'
    good = found[web.url("good")].image
    assert good is not None and good.jpeg == JPEG, "a JPEG that is right keeps its bytes"
    for path in ("png", "gif", "cmyk", "webp", "avif", "rotated"):
        left, right = (_pixel(found[web.url(path)], x) for x in (SIDE // 4, 3 * SIDE // 4))
        assert left[0] > 150 and max(left[1:]) < 110 and right[1] > 120, (path, left, right)
    assert _pixel(found[web.url("profile")], SIDE // 4)[2] > 150
    assert _pixel(found[web.url("grey-16")], 0) == pytest.approx((117, 117, 117), abs=2)


def busy_answer(busy: list[int]) -> Answer:
    """An image after a while; `busy` gets the number of requests that wait for it, whenever that changes."""

    async def answer(writer: asyncio.StreamWriter, number: int) -> None:
        busy.append(busy[-1] + 1)
        await asyncio.sleep(0.05)
        busy.append(busy[-1] - 1)
        await reply(JPEG)(writer, number)

    return answer


@pytest.mark.parametrize("limit", ["per_host", "concurrency"])
def test_one_host_and_all_hosts_have_their_places(limit: str, web: Web) -> None:
    busy = [0]
    web.answers.update({f"slow-{n}": busy_answer(busy) for n in range(12)})
    found = fetch([web.url(f"slow-{n}") for n in range(12)], fetching(SETTINGS, stall_timeout=5, **{limit: 3}))
    assert {fetched.status for fetched in found.values()} == {"success"}
    assert max(busy) == 3


def test_other_spellings_are_the_same_host(web: Web) -> None:
    busy = [0]
    web.answers["spelled"] = busy_answer(busy)
    hosts = ["127.0.0.1", "127.0.0.1.", "127.1", "0x7f000001"]
    found = fetch([web.url("spelled", host) for host in hosts], fetching(SETTINGS, stall_timeout=5, per_host=1))
    assert {fetched.status for fetched in found.values()} == {"success"}
    assert max(busy) == 1


def test_limits_hold_for_redirects_and_trailers_together(web: Web) -> None:
    padding = "y" * 6000
    for n in range(3):
        web.answers[f"large-{n}"] = reply(code=302, Location=f"large-{n + 1}", X=padding)
        web.answers[f"late-{n}"] = delayed(redirect(f"late-{n + 1}"), 0.15)
    web.answers["large-3"] = web.answers["late-3"] = reply(JPEG)
    web.answers["trailers-drip"] = bad_web.drip(CHUNKED + LAST_CHUNK, b"X: " + b"y" * 1000, 0.01)
    web.answers["headers-drip"] = bad_web.drip(b"HTTP/1.1 200 OK\r\n", b"X: " + b"y" * 1000, 0.01)
    slow = ["late-0", "trailers-drip", "headers-drip"]
    settings = fetching(SETTINGS, request_timeout=0.4, max_wire_bytes=17_000, retries=0)
    begin = time.monotonic()
    found = fetch([web.url(path) for path in ["large-0", "large-1", *slow]], settings)
    assert time.monotonic() - begin < 2
    expected = {"large-0": "too_large", "large-1": "success", **dict.fromkeys(slow, "timeout_slow")}
    assert {path: found[web.url(path)].status for path in expected} == expected
    assert found[web.url("large-0")].error_message == "more bytes on the wire than its body accounts for, or than 17000"
    assert found[web.url("late-0")].error_message == "not complete within 0.4 s"


def test_floods_that_cost_processor_time_end_early(web: Web) -> None:
    tiny = CHUNKED + b"3\r\n\xff\xd8\xff\r\n"
    web.answers["continue"] = bad_web.flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)
    web.answers["tiny-chunks"] = bad_web.flood(tiny, b"1\r\nx\r\n" * 10_000)
    large = JPEG + bytes(6 * MEGABYTE)
    web.answers["large"] = reply(large)
    urls = [web.url(path) for path in ("continue", "tiny-chunks", "large")]
    found = fetch(urls, fetching(SETTINGS, max_bytes=64 * MEGABYTE, stall_timeout=20, retries=0))
    assert [found[url].status for url in urls] == ["too_large", "too_large", "success"]
    assert found[urls[1]].received < MEGABYTE and found[urls[2]].received == len(large)


def test_slow_requests_leave_their_places(web: Web) -> None:
    for n in range(4):
        web.answers[f"crawl-{n}"] = bad_web.drip(head(length=len(JPEG)) + JPEG[:-40], JPEG[-40:], 0.02)
        web.answers[f"quick-{n}"] = reply(JPEG)
    slow, quick = ([web.url(f"{name}-{n}") for n in range(4)] for name in ("crawl", "quick"))

    async def order() -> list[str]:
        settings = fetching(SETTINGS, concurrency=4, rate_grace=0.2)
        return [fetched.row.url async for fetched in fetch_rows(rows_of([*slow, *quick]), settings) if fetched.image]

    order_of_results = asyncio.run(order())
    assert set(order_of_results[:4]) == set(quick) and set(order_of_results[4:]) == set(slow)


def test_rows_of_a_busy_host_wait_aside(web: Web) -> None:
    web.answers["wait"] = delayed(reply(JPEG), 0.02)
    first = [web.url(f"wait?{n}").replace("127.0.0.1", "127.1") for n in range(50)]
    web.answers |= {f"wait?{n}": web.answers["wait"] for n in range(50)}
    last = f"http://127.0.0.2:{web.port}/good"
    settings = fetching(SETTINGS, concurrency=2, per_host=1, allow_private_hosts=True)

    async def read() -> int:
        number = 0
        async with contextlib.aclosing(fetch_rows(rows_of([*first, last]), settings)) as found:
            async for fetched in found:
                if fetched.row.url == last:
                    return number
                number += 1
        return number

    assert asyncio.run(read()) < 10


def test_a_host_that_asks_for_time_is_left_alone(web: Web) -> None:
    web.answers |= {f"later?{n}": reply(code=429, Retry_After="3600") for n in range(60)}
    asked: list[float] = []

    async def overloaded(writer: asyncio.StreamWriter, number: int) -> None:
        asked.append(time.monotonic())
        await (reply(code=503, Retry_After="1") if len(asked) <= 2 else reply(JPEG))(writer, number)

    web.answers |= {f"soon?{n}": overloaded for n in range(6)}
    never = [web.url(f"later?{n}", "127.0.0.2") for n in range(60)]
    soon = [web.url(f"soon?{n}", "127.0.0.3") for n in range(6)]
    begin = time.monotonic()
    found = fetch([*never, *soon, web.url("good")], fetching(SETTINGS, allow_private_hosts=True, per_host=2, retries=1))
    assert 1 < time.monotonic() - begin < 4
    assert found[web.url("good")].status == "success"
    assert {found[url].status for url in soon} == {"success"}
    assert len(asked) == 8 and asked[2] - asked[1] >= 0.9
    assert sum(web.asked[f"later?{n}"] for n in range(60)) <= 2
    statuses = [found[url].status for url in never]
    assert set(statuses) == {"http_429", "host_busy"} and statuses.count("http_429") <= 2


def test_a_host_that_asks_again_and_again_is_given_up(web: Web) -> None:
    web.answers |= {f"again?{n}": reply(code=429) for n in range(40)}
    urls = [web.url(f"again?{n}", "127.0.0.2") for n in range(40)]
    settings = fetching(SETTINGS, allow_private_hosts=True, per_host=2, host_pauses=3, retries=1, retry_delay=0.02)
    statuses = [fetched.status for fetched in fetch(urls, settings).values()]
    asked = sum(web.asked[f"again?{n}"] for n in range(40))
    assert 4 <= asked <= 8
    assert set(statuses) == {"http_429", "host_busy"} and statuses.count("host_busy") >= 40 - asked


def test_connections_stay_open_only_for_rows_that_wait(web: Web) -> None:
    """Of 80 hosts with one image each, and of one with 40."""
    opened, total = Counter[str](), Counter[str]()

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host = writer.get_extra_info("sockname")[0]
        opened[host] += 1
        total[host] += 1
        total["most"] = max(total["most"], opened.total())
        await web.serve(reader, writer)
        opened[host] -= 1

    async def run() -> list[str]:
        servers = [await asyncio.start_server(count, "127.0.1.1", 0)]
        port = servers[0].sockets[0].getsockname()[1]
        servers += [await asyncio.start_server(count, f"127.0.1.{n}", port) for n in range(2, 82)]
        urls = [f"http://127.0.1.{n}:{port}/good" for n in range(2, 82)] + 40 * [f"http://127.0.1.1:{port}/good"]
        settings = fetching(SETTINGS, allow_private_hosts=True, concurrency=8, per_host=2)
        found = [fetched.status async for fetched in fetch_rows(rows_of(urls), settings)]
        for server in servers:
            server.close()
        return found

    assert set(asyncio.run(run())) == {"success"}
    assert total["most"] <= 16 and total["127.0.1.1"] <= 6


EXHAUSTED = """
import asyncio, os, resource, sys
from helpers.answers import SETTINGS
from jointnet_cli.data.rows import ImageRow
from jointnet_cli.data.web.fetch import fetch_rows

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 256))

async def hog():
    await asyncio.sleep(0.2)
    taken = []
    try:
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        await asyncio.sleep(0.5)
    for descriptor in taken:
        os.close(descriptor)
    return len(taken)

async def run():
    hogging = asyncio.create_task(hog())
    rows = [ImageRow(str(n), url, "") for n, url in enumerate(sys.argv[1:])]
    found = [each.status async for each in fetch_rows(rows, SETTINGS)]
    print(*sorted(set(found)), len(found), await hogging > 30, *resource.getrlimit(resource.RLIMIT_NOFILE))

asyncio.run(run())
"""


def test_a_machine_without_descriptors_left_fails_no_row(web: Web, tmp_path: Path) -> None:
    web.answers["busy"] = delayed(reply(JPEG), 0.2)
    paths = os.pathsep.join(map(str, Path(__file__).parents[2:4]))
    local = tmp_path / "a.jpg"
    local.write_bytes(JPEG)
    command = [sys.executable, "-c", EXHAUSTED, *[web.url("busy"), str(local)] * 80]
    ran = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths})
    assert ran.stdout.split() == ["success", "160", "True", "256", "256"], ran.stderr


def test_a_slow_reader_holds_the_downloads_back(web: Web) -> None:
    web.answers.update({f"item-{n}": reply(JPEG) for n in range(40)})
    settings = fetching(SETTINGS, concurrency=3, decoders=1)

    async def read() -> tuple[int, int]:
        async with contextlib.aclosing(
            fetch_rows(rows_of([web.url(f"item-{n}") for n in range(40)]), settings)
        ) as found:
            await anext(found)
            await asyncio.sleep(0.4)
            early = sum(web.asked[f"item-{n}"] for n in range(40))
            return early, 1 + len([fetched async for fetched in found])

    early, total = asyncio.run(read())
    assert early <= 1 + settings.fetch.concurrency + 1  # taken, in work, in the queue
    assert total == 40


@pytest.mark.parametrize("cancelled", [False, True])
def test_stopping_early_leaves_nothing_behind(web: Web, cancelled: bool, caplog: pytest.LogCaptureFixture) -> None:
    urls = [web.url(path) for path in ("good", "silence", "stall-in-body")] * 5

    async def read() -> None:
        async with contextlib.aclosing(fetch_rows(rows_of(urls), fetching(SETTINGS, stall_timeout=60))) as found:
            async for _ in found:
                if not cancelled:
                    break

    async def run() -> int:
        reading = asyncio.create_task(read())
        await asyncio.sleep(0.3)
        if cancelled:
            reading.cancel()
        await asyncio.wait([reading])
        assert reading.cancelled() == cancelled
        return len(asyncio.all_tasks())

    begin = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert asyncio.run(run()) == 1
    assert time.monotonic() - begin < 3
    assert not caplog.records


def test_a_fault_of_the_rows_comes_after_the_rows_before_it(web: Web) -> None:
    def rows() -> Iterator[ImageRow]:
        yield from rows_of([web.url("good"), web.url("404")])
        raise LookupError("the list is damaged")

    seen = []

    async def read() -> None:
        async for fetched in fetch_rows(rows(), SETTINGS):
            seen.append(fetched.status)

    with pytest.raises(LookupError, match="damaged"):
        asyncio.run(read())
    assert sorted(seen) == ["http_404", "success"]


def test_by_default_this_machine_is_not_asked(web: Web) -> None:
    path = "never"
    web.answers[path] = reply(JPEG)
    urls = [web.url(path), web.url(path).replace("127.0.0.1", "localhost"), web.url(path).replace("127.0.0.1", "127.1")]
    assert {fetched.status for fetched in fetch(urls, fetching(SETTINGS, allowed_networks=())).values()} == {
        "private_host"
    }
    assert web.asked[path] == 0
    allowed = fetching(SETTINGS, allowed_networks=(), allow_private_hosts=True)
    assert {fetched.status for fetched in fetch(urls[:1], allowed).values()} == {"success"}


def test_headers_have_to_come_in_time(web: Web) -> None:
    web.answers["headers"] = bad_web.drip(b"HTTP/1.1 200 OK\r\n", b"X: " + b"y" * 1000, 0.05)
    settings = fetching(SETTINGS, connect_timeout=1, stall_timeout=0.3, retries=0)
    assert fetch([web.url("headers")], settings)[web.url("headers")].status == "timeout_stall"


def test_connections_that_fail() -> None:
    with socket.socket() as full, contextlib.ExitStack() as callers:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # the queue of a server that accepts nobody
            caller = callers.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(full.getsockname())
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            free = closed.getsockname()[1]
        urls = [f"http://127.0.0.1:{full.getsockname()[1]}/", f"http://127.0.0.1:{free}/"]
        found = fetch(urls, fetching(SETTINGS, connect_timeout=0.5, retries=1))
    assert [found[url].status for url in urls] == ["timeout_connect", "connect_failed"]


def test_a_server_without_tls() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        Thread(target=lambda: server.accept()[0].sendall(b"220 mail ready\r\n"), daemon=True).start()
        url = f"https://127.0.0.1:{server.getsockname()[1]}/"
        assert fetch([url], SETTINGS)[url].status == "tls_failed"


def test_local_files(tmp_path: Path) -> None:
    good, large, pipe = tmp_path / "a photo.jpg", tmp_path / "large.jpg", tmp_path / "pipe.jpg"
    good.write_bytes(SMALL_RED)
    large.write_bytes(bytes(SETTINGS.fetch.max_bytes + 1))
    os.mkfifo(pipe)
    urls = [str(good), good.as_uri(), str(large), str(pipe), str(tmp_path)]
    found = fetch(urls)
    expected = ["success", "success", "too_large", "unreadable_file", "unreadable_file"]
    assert [found[url].status for url in urls] == expected
    image = found[str(good)].image
    assert image is not None and image.jpeg == SMALL_RED


def test_members_of_tar_files_are_read_where_they_lie(tmp_path: Path) -> None:
    tar = tmp_path / "a.tar"
    tar.write_bytes(b"header" + SMALL_RED + b"rest")

    def member(path: Path, size: int = len(SMALL_RED)) -> ImageRow:
        return ImageRow(f"{path.name} {size}", "https://example.com/1", "", {TAR: str(path), OFFSET: 6, SIZE: size})

    rows = [
        member(tar),
        member(tar, len(SMALL_RED) + 9),
        member(tar, SETTINGS.fetch.max_bytes + 1),
        member(tmp_path / "no.tar"),
    ]
    found = {fetched.row.key: fetched for fetched in results(rows)}
    assert [found[row.key].status for row in rows] == ["success", "truncated", "too_large", "missing_file"]
    image = found[rows[0].key].image
    assert image is not None and image.jpeg == SMALL_RED


def _pixel(fetched: FetchResult, x: int) -> tuple[int, ...]:
    assert fetched.image is not None
    with Image.open(io.BytesIO(fetched.image.jpeg)) as image:
        colour = image.convert("RGB").getpixel((x, SIDE // 4))
    assert isinstance(colour, tuple)
    return colour
