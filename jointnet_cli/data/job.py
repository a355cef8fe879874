"""What every process of a preparation is told, and what it counts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from jointnet_cli.data.rows import SUCCESS, shard_name
from jointnet_cli.data.settings import FetchSettings
from jointnet_cli.data.web.status import failure_filter


@dataclass(frozen=True)
class PrepareJob:
    """What every process that works on a set has to know."""

    out: Path
    fetch: FetchSettings
    limit: int | None = None
    """Only the first images of the plan."""
    retry: tuple[str, ...] = ()
    """Classes of failures to try again in shards that are complete."""

    def again(self) -> Again:
        """Whether a status is tried again."""
        return failure_filter(self.retry)

    def shard(self, number: int) -> Path:
        """The tar file of a shard."""
        return self.out / f"{shard_name(number)}.tar"


@dataclass
class Tally:
    """How far a run is."""

    total: int = 0
    """Images to fetch in this run."""
    statuses: Counter[str] = field(default_factory=Counter)
    received: int = 0
    """Bytes."""
    shards: list[int] = field(default_factory=list)
    """The shards written."""
    started: float = field(default_factory=time.monotonic)

    @property
    def done(self) -> int:
        """Images that came or failed."""
        return self.statuses.total()

    @property
    def successes(self) -> int:
        """Images that came."""
        return self.statuses[SUCCESS]

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.monotonic() - self.started

    def add(self, other: Tally) -> None:
        """Count in what another process did."""
        self.statuses += other.statuses
        self.received += other.received
        self.shards += other.shards


Watch = Callable[[Tally], None]

Again = Callable[[str], bool]
"""Whether a status is to be tried again."""
