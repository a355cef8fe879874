"""Work of the lowest rank in processes of their own, and the lock of the folder that it is for."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

STOPS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True)
class Worker:
    """Runs Python in processes of their own, one at a time, for a run whose folder is taken."""

    lock: int
    """The open file that is locked. Processes inherit it: as long as one lives, the folder is taken."""
    nice: int = 19

    def run(self, arguments: Sequence[object], log: Path) -> str:
        """Run Python and return the last line that it prints; the rest goes to a log.

        Every process has a session of its own, which automatic groups of processes are ranked by.

        Raises:
            CalledProcessError: it failed.
        """
        command = [sys.executable, *map(str, arguments)]
        few = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
        # A signal that came while the process starts would leave it behind: it waits until the process is known.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
        try:
            with log.open("ab") as file:
                process = subprocess.Popen(
                    command, stdout=subprocess.PIPE, stderr=file, env={**os.environ, **few},
                    start_new_session=True, preexec_fn=self._take_rank, pass_fds=[self.lock],
                )  # fmt: skip
        except BaseException:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
            raise
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
            answer = process.communicate()[0].decode().strip()
        except BaseException:
            process.terminate()
            process.wait()
            raise
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, f"{' '.join(command)}, see {log}")
        return answer.rpartition("\n")[2]

    def _take_rank(self) -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
        os.nice(self.nice)
        with suppress(OSError):  # no automatic groups here
            Path("/proc/self/autogroup").write_text(str(self.nice))


def claim(path: Path) -> int:
    """Hold a lock and write this process's number into its file."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        sys.exit(f"process {path.read_text()} or what it started works in {path.parent} already")
    os.ftruncate(file, 0)
    os.write(file, str(os.getpid()).encode())
    return file


def runner(out: Path) -> str:
    """Whether something works in a folder."""
    path = out / "pid"
    if not path.exists():
        return "not started"
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return f"running, process {file.read()}"
    return "stopped"
