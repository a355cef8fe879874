"""Which samples of every step a process works on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """One process's part of every step.

    The samples of a run are numbered: their places. A step takes the next `total` of them, whoever works on them, so that a
    run does not depend on how a step is divided into processes and micro-batches.
    """

    batch: int
    """Samples of a micro-batch."""
    accumulation: int = 1
    """Micro-batches of a step, one after the other in every process."""
    processes: int = 1
    process: int = 0

    @property
    def total(self) -> int:
        """Samples of a step."""
        return self.batch * self.accumulation * self.processes

    @property
    def lanes(self) -> range:
        """Where in a step this process's samples stand."""
        own = self.batch * self.accumulation
        return range(self.process * own, (self.process + 1) * own)

    def places(self, step: int, micro: int = 0) -> range:
        """The places of one micro-batch of a step."""
        first = step * self.total + self.lanes.start + micro * self.batch
        return range(first, first + self.batch)
