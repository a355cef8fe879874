"""One `jointnet` command, run as the command line runs it, with the phases timed that it does not record itself.

    python -m jointnet_cli.evaluation.probe PHASES.json STARTED generate "ocean reef" --json

Writes the seconds of `start` (the interpreter, since the epoch time STARTED), `import` and `load` to PHASES.json.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jointnet_cli.files.text import to_json

IMAGE_COMMANDS = ("generate", "depth", "panorama")


def main(phases_path: str, started: str, *arguments: str) -> None:
    """Run the command in this process, which ends with its exit code."""
    phases = {"start": time.time() - float(started)}
    clock = time.perf_counter()
    from jointnet_cli.cli import app

    if arguments[0] in IMAGE_COMMANDS:
        from jointnet_cli import engine

        _time(engine.Engine, "open", "load", phases)
    phases["import"] = time.perf_counter() - clock
    try:
        app(list(arguments), prog_name="jointnet")
    finally:
        Path(phases_path).write_text(to_json(phases), encoding="utf-8")


def _time(owner: Any, name: str, phase: str, phases: dict[str, float]) -> None:
    """Let every call of a function of `owner` add its seconds to a phase."""
    original: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(original)
    def timed(*args: Any, **kwargs: Any) -> Any:
        clock = time.perf_counter()
        try:
            return original(*args, **kwargs)
        finally:
            phases[phase] = phases.get(phase, 0.0) + time.perf_counter() - clock

    setattr(owner, name, timed)


if __name__ == "__main__":
    main(*sys.argv[1:])
