"""Shards of samples with truth, and a warning of worlds that models may have been trained on."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from jointnet_cli.data.shards.format import Sample, find_shards, unpack, worlds_command
from jointnet_cli.data.shards.shard_set import count_samples, list_shards, read_samples
from jointnet_cli.data.worlds.world import EVALUATION_SEEDS
from jointnet_cli.files.paths import text_digest

EVALUATION_COMMAND = worlds_command("shards/evaluation", evaluation=True)
"""Makes worlds that no training set contains."""


def evaluation_shards(source: str | Path) -> list[Path]:
    """List the complete shards of a folder on this machine. Warn on stderr as `ShardSamples` does.

    Raises:
        UserError: no complete shards.
    """
    shards = find_shards(source, evaluation=True)
    if any(_begins_with_training_seed(str(shard)) for shard in shards):
        _warn_of_training_seeds(source)
    return shards


class ShardSamples:
    """Samples in the order of their shards. Warn on stderr if they are worlds that models may have been trained on.

    Raises:
        UserError: no complete shards.
    """

    def __init__(self, source: str | Path) -> None:
        self.source = str(source)
        self._shards = count_samples(list_shards(self.source, evaluation=True))
        if self.has_training_seeds:
            _warn_of_training_seeds(self.source)

    def __len__(self) -> int:
        return sum(shard.count for shard in self._shards)

    @cached_property
    def has_training_seeds(self) -> bool:
        """Whether a shard begins with a rendered world whose seed is not reserved for evaluation."""
        return any(_begins_with_training_seed(shard.place) for shard in self._shards if shard.count)

    @property
    def origin(self) -> dict[str, str]:
        """The fact that a table states about worlds with training seeds; nothing about other samples."""
        return {"worlds": "training seeds"} if self.has_training_seeds else {}

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
        return text_digest(f"{first}\n{counts}")


def _warn_of_training_seeds(source: str | Path) -> None:
    print(
        f"warning: the worlds in {source} have training seeds: a model may have seen them\nhint: {EVALUATION_COMMAND}",
        file=sys.stderr,
    )


def _begins_with_training_seed(place: str) -> bool:
    """Whether the first sample of a shard is such a world. The worlds of one shard have consecutive seeds."""
    try:
        first = next(read_samples(place), {})
        record = json.loads(first.get("json", b"{}"))
        return "scene" in record and int(record["seed"]) < EVALUATION_SEEDS
    except (ValueError, TypeError, KeyError):  # no record of a world
        return False
