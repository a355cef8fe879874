"""Progress of long work, and the named phases of a result with their seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

Progress = Callable[[int, int], None]
"""Called with the amount done and the total amount."""

PhaseProgress = Callable[[str, int, int], None]
"""Called with a phase of `PHASES`, the amount done and the total amount, which is 0 where a phase begins."""

PHASES = {
    "load": "load the model",
    "text": "encode text",
    "encode": "encode images",
    "denoise": "denoise",
    "decode": "decode",
    "layer": "second layer",
    "mesh": "mesh",
    "viewer": "viewer",
    "stereo": "stereo images",
    "clip": "clip",
    "files": "files",
}
"""Name of every phase in the progress, by its key in records."""


@dataclass
class Timer:
    """Seconds of the phases of one result. It reports each phase when it begins and as it advances."""

    report: PhaseProgress | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    """By phase, in the order in which they first ended."""
    counts: dict[str, float] = field(default_factory=dict)
    """Amounts that do not depend on the machine, such as `evaluations` of the network."""

    def count(self, name: str, amount: float) -> None:
        """Add to an amount."""
        self.counts[name] = self.counts.get(name, 0) + amount

    @contextmanager
    def phase(self, name: str) -> Iterator[Progress]:
        """Add the seconds of a block to a phase; yield what reports its progress.

        Raises:
            ValueError: a name that `PHASES` lacks.
        """
        if name not in PHASES:
            raise ValueError(f"unknown phase {name}")
        self._tell(name, 0, 0)
        started = time.perf_counter()
        try:
            yield lambda done, total: self._tell(name, done, total)
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def share(self, number: int, count: int) -> Timer:
        """Return the timer of one of several equal runs: it adds to the same seconds, and its progress is a share of all."""
        report = partial(self._tell_share, number, count)
        return Timer(report, self.seconds, self.counts)

    def part(self, count: int, **counts: float) -> Timer:
        """Return the timer of one of several results that were made together: an equal part of the seconds, its own counts."""
        return Timer(self.report, {name: seconds / count for name, seconds in self.seconds.items()}, counts)

    def _tell_share(self, number: int, count: int, name: str, done: int, total: int) -> None:
        self._tell(name, number * total + done, count * total)

    def _tell(self, name: str, done: int, total: int) -> None:
        if self.report is not None:
            self.report(name, done, total)
