"""Wall time and peak memory of every command, each in a process of its own, split into phases."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.probe import IMAGE_COMMANDS
from jointnet_cli.progress import Progress

PROMPT = "a red hut on a green hill at sunset"
PHASES = ("start", "import", "load", "encode", "text", "denoise", "decode", "layer", "mesh", "viewer", "files", "other")
"""`start` is the interpreter's; `other` is what no phase covers, such as the work of `prepare` and the way out."""
PACKAGE_PARENT = Path(__file__).parents[2]
_UNITS_A_MIB = 1 << 20 if sys.platform == "darwin" else 1 << 10  # ru_maxrss is bytes on macOS, KiB on Linux


@dataclass
class Run:
    """What one command took."""

    seconds: float
    """Wall time."""
    cpu_seconds: float
    """Of all its threads and processes; unlike wall time it hardly depends on what else the machine is doing."""
    peak_mib: float
    """Resident memory at its highest, of the command or the largest process it started."""
    phases: dict[str, float]
    """Seconds of wall time for those of `PHASES` that the command has."""
    output: str
    """What it printed."""


def evaluate_resources(model: str, panorama_width: int = 2048, progress: Progress | None = None) -> dict[str, Any]:
    """Run every quick command once, in order, and measure it.

    Args:
        model: `diorama` or a model folder.
        panorama_width: pixels of the panorama.
        progress: called with the commands done and their number.

    Raises:
        UserError: a command failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        made = ["--out", folder, "--model", model, "--json", "--quiet"]
        photo = str(Path(folder, "*.image.png"))
        commands = {
            "help": ["--help"],
            "doctor": ["doctor", "--model", model],
            "generate": ["generate", PROMPT, *made],
            "depth": ["depth", photo, *made],
            "panorama": ["panorama", "ocean reef", "--width", str(panorama_width), *made],
            "prepare": ["prepare", "--count", "32", "--workers", "1", "--out", str(Path(folder, "shards")), "--quiet"],
        }
        report = {}
        for number, (name, arguments) in enumerate(commands.items()):
            run = measure(arguments)
            report[name] = {
                "seconds": round(run.seconds, 2),
                "cpu_seconds": round(run.cpu_seconds, 2),
                "peak_mib": round(run.peak_mib),
                "phases": {phase: round(seconds, 3) for phase, seconds in run.phases.items()},
            }
            if progress:
                progress(number + 1, len(commands))
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {os.environ.get('OMP_NUM_THREADS', 'all')} threads"
    return {"machine": machine, "model": model, "commands": report}


def measure(arguments: Sequence[str]) -> Run:
    """Run one command in a process of its own.

    Raises:
        UserError: it failed.
    """
    paths = [str(PACKAGE_PARENT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with tempfile.TemporaryDirectory() as folder:
        phases_file = Path(folder, "phases.json")
        with Path(folder, "stdout").open("w+", encoding="utf-8") as stdout, Path(folder, "stderr").open("w+") as stderr:
            probe = [sys.executable, "-m", "jointnet_cli.evaluation.probe", str(phases_file)]
            started = time.time()
            process = subprocess.Popen(
                [*probe, repr(started), *arguments], stdout=stdout, stderr=stderr, env=environment
            )
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.time() - started
            process.returncode = os.waitstatus_to_exitcode(status)
            stdout.seek(0)
            stderr.seek(0)
            output, complaint = stdout.read(), stderr.read()
        if process.returncode:
            raise UserError(f"jointnet {' '.join(arguments)} failed: {(complaint or output).strip()}")
        phases = json.loads(phases_file.read_text(encoding="utf-8"))
    if arguments[0] in IMAGE_COMMANDS:
        phases |= _recorded(output)
    phases["other"] = seconds - sum(phases.values())
    ordered = {phase: phases[phase] for phase in PHASES if phase in phases}
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / _UNITS_A_MIB, ordered, output)


def _recorded(output: str) -> dict[str, float]:
    """The seconds by phase that the sidecars of the results state, summed."""
    total: dict[str, float] = {}
    for line in output.splitlines():
        sidecar = json.loads(Path(json.loads(line)["files"]["metadata"]).read_text(encoding="utf-8"))
        for phase, seconds in sidecar["timings"].items():
            total[phase] = total.get(phase, 0.0) + seconds
    return total
