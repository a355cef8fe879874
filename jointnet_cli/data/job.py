"""The job that all processes of a preparation share, and their counts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jointnet_cli.data.plan import Plan
from jointnet_cli.data.rows import shard_name
from jointnet_cli.data.settings import PrepareSettings
from jointnet_cli.data.shards.format import read_stats
from jointnet_cli.data.web.status import failure_filter
from jointnet_cli.errors import UserError

IMAGES = "images"
"""What a preparation makes, in `Tally.made`; labelling counts maps by their modality."""


@dataclass(frozen=True)
class PrepareJob:
    """A job that any number of processes work on."""

    out: Path
    plan: Plan
    settings: PrepareSettings
    limit: int | None = None
    """Only the first images of the plan."""
    retry: tuple[str, ...] = ()
    """Classes of failures to try again in shards that are complete."""
    numbers: tuple[int, ...] | None = None
    """Only these shards."""
    worker: tuple[int, int] = (1, 1)
    """I and N: this is worker I of N, counted from 1."""
    processes: int | None = None
    """That render worlds on this machine; `None` takes one a core."""
    cluster: str | None = None
    """Address of a Ray cluster that does the work, or `local` for one that is started on this machine."""

    @property
    def shards(self) -> Sequence[int]:
        """Numbers of the shards of this worker."""
        index, count = self.worker
        return (self.numbers or self.plan.shards(self.limit))[index - 1 :: count]

    def again(self) -> Again:
        """Return whether a status is tried again.

        Raises:
            UserError: an unknown failure class.
        """
        return failure_filter(self.retry)

    def path(self, number: int) -> Path:
        """Return the tar file of a shard."""
        return self.out / f"{shard_name(number)}.tar"

    def missing(self, number: int) -> int:
        """Return the number of samples to make for a shard: those never tried, and failures that are tried again."""
        wanted, stats = len(self.plan.positions(number, self.limit)), read_stats(self.path(number))
        if not stats:
            return wanted
        again = self.again()
        failed = sum(count for status, count in stats.get("status_dict", {}).items() if again(status))
        return int(failed) + max(0, wanted - int(stats["count"]))


@dataclass
class Tally:
    """Counts of a run."""

    total: int = 0
    """Samples to make in this run."""
    made: Counter[str] = field(default_factory=Counter)
    """`IMAGES`, or maps by modality."""
    failed: Counter[str] = field(default_factory=Counter)
    """What could not be made, by the class of the failure."""
    received: int = 0
    """Bytes."""
    written: list[Path] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)
    """Shards that had everything before."""
    busy: list[Path] = field(default_factory=list)
    """Shards that another process holds."""
    damaged: list[UserError] = field(default_factory=list)
    """Faults of shards that were left as they were."""
    examples: list[str] = field(default_factory=list)
    """The first failures, in words."""
    started: float = field(default_factory=time.monotonic)

    @property
    def done(self) -> int:
        """Number of samples that were made or failed."""
        return self.made.total() + self.failed.total()

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.started

    def add(self, other: Tally) -> None:
        """Add the counts of another process."""
        self.made += other.made
        self.failed += other.failed
        self.received += other.received
        self.written += other.written
        self.skipped += other.skipped
        self.busy += other.busy
        self.damaged += other.damaged
        self.examples += other.examples


Show = Callable[[Tally], None]

Again = Callable[[str], bool]
"""Whether a status is to be tried again."""
