"""Download from hostile servers on this machine, as docs/reliability.md states it.

    python tools/campaign/servers.py                                  # all three parts
    python tools/campaign/servers.py answers --rounds 20
    python tools/campaign/servers.py addresses
    python tools/campaign/servers.py hosts --images 20000

`answers` fetches every answer of `tests/helpers/answers.py` in many copies, all mixed, and compares the class of each with the
expected one. `addresses` asks for hosts that are not public, in every notation, directly and through a redirect, and counts
connections. `hosts` compares the images per second of `jointnet prepare` from 700 hosts with those when seven are hostile.
Prints one line of JSON per part; the exit code is 1 if a part is not as expected.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address, IPv6Address, ip_network
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[2]
sys.path[:0] = [str(PROJECT), str(PROJECT / "tests")]

from helpers.answers import ANSWERS, JPEG, SETTINGS  # noqa: E402
from helpers.gallery import image_bytes  # noqa: E402
from helpers.web import Answer, Web, drip, endless, flood, head, redirect, reply, running, stall  # noqa: E402

from jointnet_cli.data.rows import ImageRow, row_key  # noqa: E402
from jointnet_cli.data.web.fetch import fetch_rows  # noqa: E402
from jointnet_cli.data.web.hosts import NOT_PUBLIC  # noqa: E402

FORBIDDEN = [
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
    *("192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
    *("224.0.0.0/4", "240.0.0.0/4", "::/128", "::1/128", "100::/64", "2001::/23", "2001:db8::/32", "3fff::/20"),
    *("5f00::/16", "64:ff9b:1::/48", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
]
"""IANA's special-purpose registries, beside `NOT_PUBLIC`, which is what is tried."""


def answers(rounds: int) -> dict[str, Any]:
    """Fetch every kind of answer so many times."""
    web, expected = Web(), dict[str, str]()
    for path, (answer, status) in ANSWERS.items():
        web.answers[path] = answer
        for number in range(rounds):
            web.answers[f"{path}.{number}"] = answer
            expected[f"{path}.{number}"] = status
    paths = list(expected)
    random.Random(0).shuffle(paths)
    with running(web, "127.0.0.2", "127.0.0.3"):
        begin = time.monotonic()
        found = dict(zip(paths, _statuses([web.url(path) for path in paths]), strict=True))
        seconds = time.monotonic() - begin
    wrong = {path: status for path, status in found.items() if status != expected[path]}
    return {"answers": len(found), "kinds": len(ANSWERS), "wrong": wrong, "seconds": round(seconds)} | _peak()


def addresses() -> dict[str, Any]:
    """Ask for addresses that are not public."""
    connected: list[str] = []

    def listen(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.connect":
            connected.append(str(arguments[1][0]))

    sys.addaudithook(listen)
    networks = {*FORBIDDEN, *map(str, NOT_PUBLIC)}
    spellings = sorted({text for network in networks for text in _spellings(network)})
    web = Web()
    for number, text in enumerate(spellings):
        web.answers[str(number)] = redirect(f"http://{text}/")
    with running(web):
        direct = _statuses([f"http://{text}/" for text in spellings])
        before = set(connected)
        redirected = _statuses([web.url(str(number)) for number in range(len(spellings))])
    allowed = {"private_host", "bad_url", "bad_redirect"}
    passed = [text for text, *both in zip(spellings, direct, redirected, strict=True) if set(both) - allowed]
    elsewhere = sorted(before | set(connected) - {"127.0.0.1"})
    if "127.0.0.1" not in connected:
        raise RuntimeError("this Python does not tell of connections")
    return {"addresses": 2 * len(spellings), "networks": len(networks), "passed": passed, "connections": elsewhere}


def _spellings(network: str) -> Iterator[str]:
    """Yield the first, a middle and the last address of a network, each in the notations of a host in a URL."""
    block = ip_network(network)
    size = block.num_addresses
    for number in sorted({0, size // 2, size - 1}):
        address = block[number]
        if isinstance(address, IPv6Address):
            yield from (f"[{address}]", f"[{address.exploded}]")
        else:
            # This server itself answers on 127.0.0.1.
            yield from () if address == IPv4Address("127.0.0.1") else _notations(address)


def _notations(address: IPv4Address) -> Iterator[str]:
    parts, number = str(address).split("."), int(address)
    yield from (str(address), f"{address}.", str(number), hex(number), f"0{number:o}")
    yield ".".join(f"0{int(part):o}" for part in parts)
    yield ".".join(hex(int(part)) for part in parts)
    yield f"{parts[0]}.{number % 2**24}"
    high, low = f"{number >> 16:x}", f"{number & 0xFFFF:x}"
    yield from (f"[::ffff:{address}]", f"[::{address}]", f"[64:ff9b::{address}]", f"[2002:{high}:{low}::1]")
    yield from (f"[2606:4700::5efe:{address}]", f"[::ffff:0:{address}]", f"[64:ff9b:1::{high}:{low}]")


def _statuses(urls: Sequence[str]) -> list[str]:
    """Return what became of URLs, in their order."""
    rows = [ImageRow(row_key(number // 10_000, number % 10_000), url, "") for number, url in enumerate(urls)]

    async def collect() -> dict[str, str]:
        return {fetched.row.key: fetched.status async for fetched in fetch_rows(rows, SETTINGS)}

    found = asyncio.run(collect())
    return [found[row.key] for row in rows]


HOSTS = 700
"""Addresses of this machine."""

HOSTILE = {
    "silence": stall(),
    "silence in the body": stall(head(length=len(JPEG)) + JPEG[:500]),
    "a byte every 0.1 s": drip(head(length=10**6), JPEG * 1000, 0.1),
    "no end": endless(b"\xff\xd8\xff"),
    "chunk extensions": flood(head(Transfer_Encoding="chunked"), b"1;" + b"x" * 4000 + b"\r\n\xff\r\n"),
    "429": reply(code=429),
    "page": reply(b"<html>gone</html>"),
}
"""What each of the seven hostile hosts does, 1 % of all."""


def hosts(images: int) -> dict[str, Any]:
    """Download so many images twice: from good hosts, and where one of 100 hosts is hostile."""
    outcome: dict[str, Any] = {}
    with serving() as port, tempfile.TemporaryDirectory() as place:
        _prepare(Path(place) / "warm-up", port, HOSTS, hostile=False)
        for name in ("good", "hostile"):
            outcome[name] = _prepare(Path(place) / name, port, images, hostile=name == "hostile")
    return outcome


@contextmanager
def serving() -> Iterator[int]:
    """Serve images from `HOSTS` addresses of this machine, in a process with an interpreter of its own; yield the port."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=_serve, args=(theirs,), daemon=True)
    server.start()
    try:
        yield ours.recv()
    finally:
        ours.send(None)
        server.join()


def write_table(path: Path, port: int, count: int, *, hostile: bool = False) -> int:
    """Write a table of images, as many of each host; return how many of them are good."""
    good = 0
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["url", "text"])
        for number in range(count):
            host = number % HOSTS
            kind = list(HOSTILE)[host] if hostile and host < len(HOSTILE) else f"good {number % 50}"
            good += kind.startswith("good")
            url = f"http://127.0.{1 + host // 200}.{1 + host % 200}:{port}/{kind.replace(' ', '-')}?{number}"
            rows.writerow([url, "words"])
    return good


def _prepare(folder: Path, port: int, count: int, *, hostile: bool) -> dict[str, Any]:
    folder.mkdir()
    good = write_table(folder / "table.csv", port, count, hostile=hostile)
    begin = time.monotonic()
    subprocess.run(
        [
            *(sys.executable, "-m", "jointnet_cli", "prepare", "table.csv", "--out", "out", "-q"),
            *("--size", "48", "--shard-size", "2000", "--allow-private-hosts"),
        ],
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )
    end = time.monotonic()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/last") as answer:
        last = float(answer.read())
    report = json.loads((folder / "out" / "report.json").read_text())
    done = report["images"]["successes"]
    return {
        "good images": good,
        "done": done,
        "seconds until the last good answer": round(last - begin, 1),
        "good images a second until then": round(done / (last - begin)),
        "seconds": round(end - begin, 1),
        "causes": report["causes"],
    }


class _Answers(dict[str, Answer]):
    """Answers by the path before the query, and the time of the last good one."""

    last = 0.0

    def __missing__(self, path: str) -> Answer:
        if path == "last":
            return reply(str(self.last).encode())
        name = path.partition("?")[0]
        if name.startswith("good"):
            self.last = time.monotonic()  # one clock for all processes of a Linux machine
        return self[name]


def _serve(pipe: Connection) -> None:
    web = Web()
    web.answers = _Answers({name.replace(" ", "-"): answer for name, answer in HOSTILE.items()})
    web.answers |= {f"good-{number}": reply(image_bytes(number, 64)) for number in range(50)}
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with running(web, *(f"127.0.{1 + host // 200}.{1 + host % 200}" for host in range(HOSTS))):
        pipe.send(web.port)
        with suppress(EOFError):
            pipe.recv()


def _peak() -> dict[str, int]:
    unit = 1 if sys.platform == "darwin" else 1024
    return {"peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit // 10**6}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help="answers, addresses, hosts")
    parser.add_argument("--rounds", type=int, default=10, help="copies of every answer (default: %(default)s)")
    parser.add_argument("--images", type=int, default=20_000, help="rows of a table (default: %(default)s)")
    arguments = parser.parse_args()
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "answers": lambda: answers(arguments.rounds),
        "addresses": addresses,
        "hosts": lambda: hosts(arguments.images),
    }
    if unknown := set(arguments.parts) - parts.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    bad = False
    for name in arguments.parts or parts:
        outcome = parts[name]()
        print(json.dumps({"part": name} | outcome), flush=True)
        bad |= any(outcome.get(key) for key in ("wrong", "passed", "connections"))
        bad |= name == "hosts" and any(each["done"] != each["good images"] for each in outcome.values())
    sys.exit(bad)


if __name__ == "__main__":
    main()
