"""Run commands on a disk that fills and with few file descriptors, as docs/reliability.md states it.

    python tools/campaign/limits.py                        # both parts
    python tools/campaign/limits.py disk --disks 30
    python tools/campaign/limits.py descriptors --most 256

`disk` gives `prepare`, `train` and `generate` a file system (tmpfs, as root) that is smaller than their results, in so many
sizes. The command has to end with an error in plain words; on a larger file system the same command has to end with the results
of an undisturbed run, to the byte. Without the right to mount, a limit of the size of files (`RLIMIT_FSIZE`) stands for it.
`descriptors` runs the same commands, and a download from 700 hosts, with few descriptors, and compares the results.
Prints one line of JSON per command; the exit code is 1 if one is not as expected.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kills import COMMANDS, PROJECT, digests
from servers import HOSTS, serving, write_table

DOWNLOAD = ["prepare", "table.csv", "-q", "--size", "48", "--shard-size", "700", "--allow-private-hosts"]


def disk(name: str, work: Path, disks: int) -> dict[str, Any]:
    """Run a command on so many file systems that are too small, and then on one that is not.

    Args:
        name: one of `COMMANDS`.
        work: a folder with the `shards` that training reads.
        disks: sizes, evenly spread below that of the results.
    """
    begin, whole = time.monotonic(), work / f"{name}-whole"
    _expect(0, *_run(name, whole, work))
    sizes = [path.stat().st_size for path in whole.rglob("*") if path.is_file()]
    expected, wrong = digests(whole), list[str]()
    for number in range(disks):
        share, out = (number + 0.5) / disks, work / f"{name}-{number}" / "out"
        out.parent.mkdir()
        with small_disk(out.parent, int(share * sum(sizes)), int(share * max(sizes))) as (limit, enlarge):
            code, words = _run(name, out, work, limit)
            if code == 0 or "Traceback" in words or "error: " not in words:
                wrong.append(f"{share:.0%}: exit code {code}: {words[-300:]}")
            enlarge()
            code, words = _run(name, out, work)
            if code or digests(out) != expected:
                wrong.append(f"{share:.0%}: then exit code {code}, other files: {words[-300:]}")
    by = "tmpfs" if _may_mount() else "RLIMIT_FSIZE"
    outcome = {"command": name, "disks": disks, "by": by, "bytes": sum(sizes), "files": len(expected), "wrong": wrong}
    return outcome | {"seconds": round(time.monotonic() - begin)}


@contextmanager
def small_disk(place: Path, size: int, longest: int) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """Mount a small file system on a folder; yield what to call in a process that is limited, and what enlarges the disk.

    Without the right to mount, the files of the process may have `longest` bytes.
    """
    if not _may_mount():
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (longest, hard)), lambda: None
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={max(size // 1024, 16)}k", "tmpfs", place], check=True)
    try:
        yield lambda: None, lambda: _remount(place)
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def _remount(place: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=2g", place], check=True)


def _may_mount() -> bool:
    with tempfile.TemporaryDirectory() as place:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], capture_output=True).returncode == 0
        if mounted:
            subprocess.run(["umount", "--lazy", place], check=True)
        return mounted


def descriptors(name: str, work: Path, most: int) -> dict[str, Any]:
    """Run a command with so many descriptors and compare its files with those of a run with all of them."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    begin, whole, few = time.monotonic(), work / f"{name}-all", work / f"{name}-few"
    _expect(0, *_run(name, whole, work))
    code, words = _run(name, few, work, limit)
    wrong = [f"exit code {code}: {words[-300:]}"] if code or digests(few) != digests(whole) else []
    outcome = {"command": name, "descriptors": most, "files": len(digests(whole)), "wrong": wrong}
    return outcome | {"seconds": round(time.monotonic() - begin)}


def _run(name: str, out: Path, work: Path, limit: Callable[[], None] | None = None) -> tuple[int, str]:
    """Run a command of `COMMANDS`, or the download, within limits; return its exit code and stderr."""
    words = [*(DOWNLOAD if name == "download" else COMMANDS[name]), "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "jointnet_cli", *words],
        cwd=work,
        capture_output=True,
        text=True,
        preexec_fn=limit,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )
    return done.returncode, done.stderr


def _expect(wanted: int, code: int, words: str) -> None:
    if code != wanted:
        sys.exit(words)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help="disk, descriptors")
    parser.add_argument("--commands", nargs="+", choices=list(COMMANDS), default=list(COMMANDS))
    parser.add_argument("--disks", type=int, default=10, help="sizes of the disk (default: %(default)s)")
    parser.add_argument("--most", type=int, default=256, help="descriptors (default: %(default)s)")
    arguments = parser.parse_args()
    parts = arguments.parts or ["disk", "descriptors"]
    if unknown := set(parts) - {"disk", "descriptors"}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    outcomes = []
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        _expect(0, *_run("prepare", work / "shards", work))
        if "disk" in parts:
            outcomes += [_told("disk", disk(name, work, arguments.disks)) for name in arguments.commands]
        if "descriptors" in parts:
            outcomes += [_told("descriptors", descriptors(name, work, arguments.most)) for name in arguments.commands]
            with serving() as port:
                write_table(work / "table.csv", port, 3 * HOSTS)
                outcomes.append(_told("descriptors", descriptors("download", work, arguments.most)))
    sys.exit(any(outcome["wrong"] for outcome in outcomes))


def _told(part: str, outcome: dict[str, Any]) -> dict[str, Any]:
    print(json.dumps({"part": part} | outcome), flush=True)
    return outcome


if __name__ == "__main__":
    main()
