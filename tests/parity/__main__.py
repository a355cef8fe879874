"""Show that a change of structure changed no result: record every command's output, change the code, compare.

    python tests/parity record /tmp/before     # runs 50 commands; FOLDER holds their digests and the files
    python tests/parity compare /tmp/before    # runs them again and prints what differs; exits 1 if anything does

Digests hold for one machine and one set of versions, so they are never committed.
"""

from __future__ import annotations

import argparse
import atexit
import difflib
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

from commands import COMMANDS, GROUPS, Command
from inputs import make_inputs
from payload import json_lines, payload

DATED = re.compile(r"(-[0-9a-f]{8}){2}")
"""Digests in the names of an evaluation's items that depend on the dates of files."""
Recording = dict[str, list[str]]
"""What was compared, by command and file."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="parity", description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["record", "compare"])
    parser.add_argument("folder", type=Path, help="where the recording lies")
    parser.add_argument("--only", metavar="NAME", action="append", help="these commands, and what stands before them")
    options = parser.parse_args()
    _settle()
    target, run = options.folder.resolve() / "recording.json", options.folder.resolve() / "run"
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir(parents=True)
    found = record(run, options.only)  # the same folder each time, because records and tables name it
    if options.action == "record":
        target.write_text(json.dumps(found, indent=1))
        print(f"{len(found)} outputs of {len(COMMANDS)} commands in {target}")
        return 0
    known: Recording = json.loads(target.read_text())
    if options.only:
        known = {name: lines for name, lines in known.items() if name.split(" ")[0] in {n.split(" ")[0] for n in found}}
    return _report(known, found)


def record(folder: Path, only: list[str] | None = None) -> Recording:
    """Run the commands in `folder` and describe everything they print and write."""
    os.chdir(folder)
    make_inputs(Path("in"))
    last = max((n for n, command in enumerate(COMMANDS) if only and command.name in only), default=len(COMMANDS))
    found: Recording = {}
    for command in COMMANDS[: last + 1]:
        printed = _run(command)
        if not command.timed:
            found[f"{command.name} stdout"] = printed
        for path in command.files:
            lines = None if command.timed and path.suffix in (".md", ".png") else payload(path)
            if lines is not None:
                found[f"{command.name} {DATED.sub('', str(path))}"] = lines
    if only is None:
        for words in _help_pages():
            found[f"help {' '.join(words)}"] = _invoke([*words, "--help"]).stdout.splitlines()
    return found


def _settle() -> None:
    """One thread, no network, no settings or caches of the caller."""
    for name in os.environ:
        if name.startswith("JOINTNET_"):
            del os.environ[name]
    cache = tempfile.mkdtemp(prefix="parity-cache-")
    os.environ.update(HF_HUB_OFFLINE="1", XDG_CACHE_HOME=cache, COLUMNS="160", OMP_NUM_THREADS="1", NO_COLOR="1")
    import torch

    torch.set_num_threads(1)
    atexit.register(shutil.rmtree, cache, ignore_errors=True)


def _invoke(words: list[str]):
    from typer.testing import CliRunner

    from jointnet_cli.cli import app

    return CliRunner().invoke(app, words)


def _run(command: Command) -> list[str]:
    print(f"{command.name}: jointnet {command.line}", file=sys.stderr, flush=True)
    ran = _invoke([*shlex.split(command.line), *(["--quiet"] if "--out" in command.line else [])])
    if ran.exit_code:
        print(f"  exit code {ran.exit_code}: {ran.stderr or ran.exception!r}", file=sys.stderr)
    lines = [f"exit code {ran.exit_code}"]
    for line in ran.stdout.splitlines():
        lines += json_lines(json.loads(line)) if line.startswith("{") else [line]
    return lines


def _help_pages() -> list[list[str]]:
    import typer

    from jointnet_cli.cli import app

    root = typer.main.get_command(app)
    pages = [[], *([name] for name in sorted(root.commands))]
    return pages + [[group, name] for group in GROUPS for name in sorted(root.get_command(None, group).commands)]


def _report(known: Recording, found: Recording) -> int:
    differing = [name for name in sorted({*known, *found}) if known.get(name) != found.get(name)]
    for name in differing:
        print(f"--- {name}")
        changes = difflib.unified_diff(known.get(name, []), found.get(name, []), "before", "after", lineterm="", n=0)
        for line in list(changes)[2:14]:
            print(f"  {line[:200]}")
    print(f"{len(differing)} of {len({*known, *found})} outputs differ")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
