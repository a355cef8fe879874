"""`jointnet evaluate resources`: wall time and peak memory of every command, split into phases."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.evaluation import Quiet
from jointnet_cli.files.text import to_json
from jointnet_cli.params import MODEL, Param

if TYPE_CHECKING:
    from jointnet_cli.evaluation.runner import Watch

IMAGE_COMMANDS = ("generate", "depth", "panorama")
PROMPT = "a red hut on a green hill at sunset"
PHASES = (
    *("start", "import", "load", "encode", "text", "denoise", "decode"),
    *("layer", "mesh", "viewer", "stereo", "clip", "files", "other"),
)
"""`start` is the interpreter's; `other` is what no phase covers, such as the work of `prepare`."""
SCRIPT = f"""
import json, sys, time
started, path, arguments = time.time(), sys.argv[1], sys.argv[3:]
from jointnet_cli.cli import app
if arguments[0] in {IMAGE_COMMANDS!r}:
    import jointnet_cli.engine
phases = {{"start": started - float(sys.argv[2]), "import": time.time() - started}}
with open(path, "w") as file:
    json.dump(phases, file)
app(arguments, prog_name="jointnet")
"""
"""Runs a command as the command line does, and writes the seconds before it."""
PACKAGE_PARENT = Path(__file__).parents[3]
_UNITS_A_MIB = 1 << 20 if sys.platform == "darwin" else 1 << 10  # ru_maxrss is bytes on macOS, KiB on Linux


@dataclass(frozen=True, kw_only=True)
class ResourcesCommand:
    """Measure wall time and peak memory of every quick command, each in a process of its own, split into phases.

    Prints one JSON object.
    """

    name = "resources"
    example = "jointnet evaluate resources --model diorama"

    width: Annotated[int, Param("Width of the panorama.", "PIXELS", ge=1)] = 2048
    model: Annotated[
        str, replace(MODEL, help="`diorama`, or the folder of a model.", metavar="NAME|DIR", env=False)
    ] = "diorama"
    quiet: Quiet = False

    def run(self, watch: Watch) -> int:
        """Run the commands in order, and print what they took.

        Raises:
            UserError: a command failed.
        """
        report = {}
        with tempfile.TemporaryDirectory() as folder, watch("commands") as progress:
            commands = quick_commands(folder, self.model, self.width)
            for number, (name, arguments) in enumerate(commands.items()):
                usage = measure(arguments)
                report[name] = {
                    "seconds": round(usage.seconds, 2),
                    "cpu_seconds": round(usage.cpu_seconds, 2),
                    "peak_mib": round(usage.peak_mib),
                    "phases": {phase: round(seconds, 3) for phase, seconds in usage.phases.items()},
                }
                progress(number + 1, len(commands))
        threads = os.environ.get("OMP_NUM_THREADS", "all")
        machine = f"{platform.machine()}, {os.cpu_count()} cores, {threads} threads"
        print(to_json({"machine": machine, "model": self.model, "commands": report}, indent=2))
        return 0


def quick_commands(folder: str, model: str, width: int) -> dict[str, list[str]]:
    """Return the arguments of every command that is measured, by its name. They write into a folder."""
    made = ["--out", folder, "--model", model, "--json", "--quiet"]
    image, shards = str(Path(folder, "*.image.png")), str(Path(folder, "shards"))
    return {
        "help": ["--help"],
        "doctor": ["doctor", "--model", model],
        "generate": ["generate", PROMPT, *made],
        "depth": ["depth", image, *made],
        "panorama": ["panorama", "ocean reef", "--width", str(width), *made],
        "prepare": ["prepare", "worlds", "--count", "32", "--workers", "1", "--out", shards, "--quiet"],
    }


@dataclass(frozen=True)
class Usage:
    """What one command took."""

    seconds: float
    """Wall time."""
    cpu_seconds: float
    """Of all its threads and processes; it hardly depends on what else the machine is doing."""
    peak_mib: float
    """The highest resident memory, of the command or the largest process it started."""
    phases: dict[str, float]
    """Seconds of wall time for those of `PHASES` that the command has."""


def measure(arguments: Sequence[str]) -> Usage:
    """Run one command in a process of its own.

    Raises:
        UserError: it failed.
    """
    paths = [str(PACKAGE_PARENT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with tempfile.TemporaryDirectory() as folder:
        phases_file = Path(folder, "phases.json")
        with Path(folder, "stdout").open("w+", encoding="utf-8") as stdout, Path(folder, "stderr").open("w+") as stderr:
            started = time.time()
            command = [sys.executable, "-c", SCRIPT, str(phases_file), repr(started), *arguments]
            process = subprocess.Popen(command, stdout=stdout, stderr=stderr, env=environment)
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
    return Usage(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / _UNITS_A_MIB, ordered)


def _recorded(output: str) -> dict[str, float]:
    """Sum the seconds by phase that the sidecars of the results state."""
    total: dict[str, float] = {}
    for line in output.splitlines():
        sidecar = json.loads(Path(json.loads(line)["files"]["metadata"]).read_text(encoding="utf-8"))
        for phase, seconds in sidecar["timings"].items():
            total[phase] = total.get(phase, 0.0) + seconds
    return total
