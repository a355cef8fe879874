"""Images a second of `jointnet prepare` and of img2dataset, from one server on this machine, in turn.

    python benchmarks/fetch.py --images 3000 --runs 3

Both programs run whole, from the start of their process to its end: a parquet list of URLs in, 512-pixel squares in shards
of 1,000 out, with captions, hashes and tags. img2dataset lives in an environment of its own, made on the first run
(`--environment`), because its pins exclude ours. The server has a process of its own and its images in memory; both
programs share the rest of the machine with it. What is compared is the median of the runs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from io import BytesIO
from multiprocessing import Event, Pipe, Process
from multiprocessing.connection import Connection
from pathlib import Path

import duckdb
import numpy as np
from PIL import Image

IMG2DATASET = "img2dataset==1.47.0"
DISTINCT = 100
"""Different images; the URLs go round among them."""
SIZE, SHARD = 512, 1000


def make_image(number: int) -> bytes:
    """A JPEG with detail at every scale, its sides between 550 and 1,600 pixels, the shorter ones more often."""
    random = np.random.default_rng(number)
    width, height = (550 + 1050 * random.random(2) ** 2).astype(int)
    picture = np.full((height, width, 3), 128.0, np.float32)
    for cells in (4, 16, 64, 256):
        noise = random.integers(0, 255, (cells, cells, 3), np.uint8)
        layer = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
        picture += (np.asarray(layer, np.float32) - 128) * (2 / cells**0.4)
    buffer = BytesIO()
    Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def serve(answers: Connection, stop: object) -> None:
    """Answer `/N` with image N modulo `DISTINCT` until told to stop; sends the port first."""
    images = [make_image(number) for number in range(DISTINCT)]
    replies = [
        b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(image) + image
        for image in images
    ]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(replies[int(head.split(b" ", 2)[1][1:]) % DISTINCT])
                await writer.drain()
                if b"connection: close" in head.lower():
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=4096)
        answers.send((server.sockets[0].getsockname()[1], sum(map(len, images)) / DISTINCT))
        await asyncio.to_thread(stop.wait)  # type: ignore[attr-defined]

    asyncio.run(run())


def ours(urls: Path, out: Path, concurrency: int) -> list[str]:
    """The command line of `jointnet prepare`."""
    return [
        *(sys.executable, "-m", "jointnet_cli", "prepare", str(urls), "--out", str(out), "--quiet"),
        *("--size", str(SIZE), "--shard-size", str(SHARD), "--allow-private-hosts"),
        *("--concurrency", str(concurrency), "--per-host", str(concurrency)),
    ]


def theirs(python: Path, urls: Path, out: Path, concurrency: int) -> list[str]:
    """The command line of img2dataset: a process a core, the threads divided among them."""
    cores = os.cpu_count() or 1
    return [
        *(str(python.with_name("img2dataset")), "--url_list", str(urls), "--output_folder", str(out)),
        *("--input_format", "parquet", "--url_col", "url", "--caption_col", "caption", "--output_format", "webdataset"),
        *("--image_size", str(SIZE), "--resize_mode", "center_crop", "--number_sample_per_shard", str(SHARD)),
        *("--processes_count", str(cores), "--thread_count", str(max(concurrency // cores, 1))),
    ]


def measure(command: list[str], out: Path, images: int) -> float:
    """Images a second of a run from nothing; every one of them must come."""
    shutil.rmtree(out, ignore_errors=True)
    environment = {**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1", "WANDB_MODE": "disabled"}
    begin = time.monotonic()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    seconds = time.monotonic() - begin
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
    came = sum(json.loads(path.read_text())["successes"] for path in out.glob("*_stats.json"))
    if came != images:
        raise SystemExit(f"{came} of {images} images came\n{' '.join(command)}\n{done.stderr}")
    return images / seconds


def prepare_environment(folder: Path) -> Path:
    """img2dataset's Python, made if missing."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", IMG2DATASET], check=True)
    return python


def write_urls(path: Path, port: int, images: int) -> None:
    """The list that both read."""
    url = f"'http://127.0.0.1:{port}/' || number"
    rows = f"SELECT {url} AS url, 'image ' || number AS caption FROM range({images}) AS numbers(number)"
    duckdb.execute(f"COPY ({rows}) TO '{path}' (FORMAT parquet)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--environment", type=Path, default=Path.home() / ".cache" / "jointnet" / "img2dataset")
    options = parser.parse_args()
    python = prepare_environment(options.environment)
    receiver, sender = Pipe(duplex=False)
    stop = Event()
    server = Process(target=serve, args=(sender, stop), daemon=True)
    server.start()
    port, mean_bytes = receiver.recv()
    rates: dict[str, list[float]] = {"jointnet": [], "img2dataset": []}
    try:
        with tempfile.TemporaryDirectory(prefix="fetch-") as folder:
            urls, out = Path(folder, "urls.parquet"), Path(folder, "shards")
            write_urls(urls, port, options.images)
            commands: dict[str, Callable[[], list[str]]] = {
                "jointnet": lambda: ours(urls, out, options.concurrency),
                "img2dataset": lambda: theirs(python, urls, out, options.concurrency),
            }
            for run in range(options.runs):
                for name in sorted(commands, reverse=bool(run % 2)):
                    rates[name].append(measure(commands[name](), out, options.images))
                    print(f"run {run + 1}  {name:12} {rates[name][-1]:8.1f} images/s", file=sys.stderr)
    finally:
        stop.set()
        server.join()
    medians = {name: statistics.median(values) for name, values in rates.items()}
    facts = {
        "images": options.images,
        "kilobytes_an_image": round(mean_bytes / 1000),
        "concurrency": options.concurrency,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "images_per_second": {name: [round(rate, 1) for rate in values] for name, values in rates.items()},
        "median": {name: round(rate, 1) for name, rate in medians.items()},
        "ratio": round(medians["jointnet"] / medians["img2dataset"], 3),
    }
    print(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
