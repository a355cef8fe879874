"""Kill commands at random moments and compare what they end with, with a run that was not disturbed.

    python tools/campaign/kills.py                                 # prepare, train and generate, 50 kills each
    python tools/campaign/kills.py prepare --kills 5 --work DIR    # one command

Every command is started again after each kill, as a user does it. Tars, tables, weights, images and maps have to be equal to
the byte. Prints one line of JSON per command; the exit code is 1 if a file differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path

PROJECT = Path(__file__).parents[2]

COMPARED = (".tar", ".parquet", ".safetensors", ".png", ".exr")

COMMANDS = {
    "prepare": ["prepare", "worlds", "--count", "48", "--shard-size", "6", "--size", "48", "--workers", "1", "-q"],
    "train": [
        *("train", "diorama/joint-depth", "-q", "--set", "model=diorama/base", "--set", "data.shards=shards"),
        *("--set", "train.batch_size=2", "--set", "train.max_steps=8", "--set", "train.checkpoint_minutes=0.001"),
        *("--set", "preview_prompts=[]"),
    ],
    "generate": ["generate", "a red hut", "--count", "4", "--seed", "1", "--steps", "6", "--skip-existing", "-q"],
}
"""Commands without `--out`; the same one again continues."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help=", ".join(COMMANDS))
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="folder for the results; by default a temporary one")
    arguments = parser.parse_args()
    names = arguments.commands or list(COMMANDS)
    if unknown := set(names) - COMMANDS.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as scratch:
        work = (arguments.work or Path(scratch)).absolute()
        work.mkdir(parents=True, exist_ok=True)
        if "train" in names and not (work / "shards").exists():
            _run([*COMMANDS["prepare"], "--out", "shards"], work)
        results = [campaign(name, work / name, arguments.kills, random.Random(arguments.seed)) for name in names]
    sys.exit(any(result["differing"] for result in results))


def campaign(name: str, folder: Path, kills: int, draw: random.Random) -> dict[str, object]:
    """Kill one command so many times; print and return the outcome.

    Args:
        name: one of `COMMANDS`.
        folder: for the results; `shards` beside it is what training reads.
        kills: processes that end by SIGKILL.
        draw: decides the moments.
    """
    folder.mkdir(parents=True)
    started = time.monotonic()
    _run([*COMMANDS[name], "--out", str(folder / "whole")], folder.parent)
    seconds = time.monotonic() - started
    whole, died, differing, runs = digests(folder / "whole"), 0, set[str](), 0
    while died < kills:
        out = folder / f"killed-{runs}"
        runs += 1
        while died < kills:
            process = _start([*COMMANDS[name], "--out", str(out)], folder.parent)
            try:
                process.wait(draw.uniform(0.05, 1) * seconds)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                died += 1
            else:
                break
        _run([*COMMANDS[name], "--out", str(out)], folder.parent)
        found = digests(out)
        differing |= {key for key in whole.keys() | found.keys() if whole.get(key) != found.get(key)}
        shutil.rmtree(out)
    outcome = {"command": name, "kills": died, "runs": runs, "files": len(whole), "differing": sorted(differing)}
    print(json.dumps(outcome | {"seconds": round(time.monotonic() - started)}), flush=True)
    return outcome


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every result below a folder, by its relative path; states of a training are none."""
    files = (path for path in sorted(folder.rglob("*")) if path.suffix in COMPARED and path.is_file())
    named = {path.relative_to(folder).as_posix(): path for path in files}
    return {
        name: sha256(path.read_bytes()).hexdigest() for name, path in named.items() if not name.startswith("state/")
    }


def _start(words: list[str], place: Path) -> subprocess.Popen[bytes]:
    path = os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")])
    # A group of its own: the workers of a command are killed with it. Not a session, which Linux gives as much time as all of
    # another session, however nice its processes are.
    return subprocess.Popen(
        [sys.executable, "-m", "jointnet_cli", *words],
        cwd=place,
        stdout=subprocess.DEVNULL,
        process_group=0,
        env={**os.environ, "PYTHONPATH": path},
    )


def _run(words: list[str], place: Path) -> None:
    code = _start(words, place).wait()
    if code:
        sys.exit(f"jointnet {' '.join(words)}: exit code {code}")


if __name__ == "__main__":
    main()
