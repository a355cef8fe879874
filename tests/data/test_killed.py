"""`kill -9`, wherever it hits: the next run loses nothing and doubles nothing.

`JOINTNET_KILLS=20` kills more often than the default.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.gallery import content, files, gallery, write_table
from helpers.shards import find_shards

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("JOINTNET_KILLS", "4"))
COUNT, SHARD = 120, 8
MISSING = range(30, 36)
PROJECT = Path(__file__).parents[2]


def start(out: Path, table: Path) -> subprocess.Popen[str]:
    flags = [
        "--size",
        "16",
        "--shard-size",
        str(SHARD),
        "--allow-private-hosts",
        "--per-host",
        "4",
        "--set",
        "fetch.retries=0",
    ]
    return subprocess.Popen(
        [sys.executable, "-m", "jointnet_cli", "prepare", str(table), "--out", str(out), "-q", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )


def finish(out: Path, table: Path) -> None:
    process = start(out, table)
    _, words = process.communicate(timeout=120)
    assert process.returncode == 0, words


def test_kill_at_random_moments(tmp_path: Path) -> None:
    draw = random.Random(KILLS)
    with gallery(COUNT, missing=MISSING, pause=0.02) as web:
        table = write_table(tmp_path / "t.csv", web, COUNT)
        finish(tmp_path / "whole", table)
        out, killed, finished = tmp_path / "out", 0, []
        while killed < KILLS:
            process = start(out, table)
            # Anywhere from the filter to the writing: after so many requests and a little while.
            enough = web.asked.total() + draw.randrange(COUNT // 2)
            while web.asked.total() < enough and process.poll() is None:
                time.sleep(0.002)
            time.sleep(draw.random() * 0.1)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            if process.returncode == 0:  # the set was whole before: the next kills get a folder of their own
                finished.append(out)
                out = tmp_path / f"out{len(finished)}"
            else:
                killed += 1
        finish(out, table)
        for folder in [*finished, out]:
            assert files(folder) == files(tmp_path / "whole")
            assert len(content(folder)) == 3 * (COUNT - len(MISSING))
            assert len(find_shards(folder)) == COUNT // SHARD
            assert not [path.name for path in folder.iterdir() if path.name.startswith(".") and path.name != ".plan"]
