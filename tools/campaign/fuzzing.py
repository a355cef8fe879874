"""Count the damaged inputs that `tests/fuzz` reads in a minute, as docs/reliability.md states it.

    python tools/campaign/fuzzing.py --minutes 10

Prints one line of JSON; the exit code is 1 if an input raised what nobody meant.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1, help="at least so long (default: %(default)s)")
    parser.add_argument("--examples", type=int, default=100, help="inputs of a test at a time (default: %(default)s)")
    arguments = parser.parse_args()
    begin, code = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as place:
        counts = Path(place) / "counts"
        variables = {"FUZZ_COUNTS": str(counts), "FUZZ_EXAMPLES": str(arguments.examples), "PYTHONPATH": str(PROJECT)}
        while not code and time.monotonic() - begin < 60 * arguments.minutes:
            code = subprocess.run(
                [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-W", "ignore", "tests/fuzz"],
                cwd=PROJECT,
                env={**os.environ, **variables},
                stdout=sys.stderr,
            ).returncode
        minutes = (time.monotonic() - begin) / 60
        inputs = sum(map(int, counts.read_text().split()))
    outcome = {
        "inputs": inputs,
        "minutes": round(minutes, 1),
        "a minute": round(inputs / minutes),
        "failed": bool(code),
    }
    print(json.dumps(outcome))
    sys.exit(bool(code))


if __name__ == "__main__":
    main()
