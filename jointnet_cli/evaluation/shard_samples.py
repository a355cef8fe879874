"""The samples of shards by number."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from jointnet_cli.data.shard_files import count_samples, list_shards, read_samples
from jointnet_cli.data.shards import Sample, unpack


class ShardSamples:
    """Samples in the order of their shards.

    Raises:
        UserError: no complete shards.
    """

    def __init__(self, source: str | Path) -> None:
        self.source = str(source)
        self._shards = count_samples(list_shards(self.source))

    def __len__(self) -> int:
        return sum(shard.count for shard in self._shards)

    def sample(self, number: int, maps: Collection[str] = ()) -> Sample:
        """A sample, of its maps those that are named."""
        for shard in self._shards:
            if number < shard.count:
                return unpack(next(read_samples(shard.place, number)), set(maps))
            number -= shard.count
        raise IndexError(number)

    def undecoded(self) -> Iterator[dict[str, Any]]:
        """All samples as the shards hold them."""
        for shard in self._shards:
            for _, raw in zip(range(shard.count), read_samples(shard.place), strict=False):
                yield raw

    @cached_property
    def digest(self) -> str:
        """What tells them from other samples, wherever they lie."""
        counts = "\n".join(f"{Path(shard.place).name} {shard.count}" for shard in self._shards)
        first = next(read_samples(self._shards[0].place))["__key__"]
        return hashlib.sha256(f"{first}\n{counts}".encode()).hexdigest()[:12]
