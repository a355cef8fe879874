"""The samples of a set of local or remote shards."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Self

from jointnet_cli.data.shards.format import MAP_SUFFIXES, Sample, unpack
from jointnet_cli.data.shards.index import Raw, Shard, count_samples, list_shards, read_samples, too_few_samples
from jointnet_cli.data.worlds.world import EVALUATION_SEEDS
from jointnet_cli.errors import UserError, reading
from jointnet_cli.files.paths import text_digest
from jointnet_cli.files.text import from_json, warn
from jointnet_cli.progress import Progress

EVALUATION_COMMAND = "jointnet prepare worlds --evaluation --count 512 --out shards/evaluation"
"""Makes worlds that no training set contains."""


@dataclass(frozen=True)
class ShardSet:
    """The samples of shards, in order. Only samples with an image count; they are counted on first use."""

    source: str
    locations: Sequence[str]
    """Paths or URLs of all shards."""
    limit: int | None = None
    progress: Progress | None = None

    @classmethod
    def open(
        cls,
        source: str | Path,
        limit: int | None = None,
        progress: Progress | None = None,
        *,
        evaluation: bool = False,
    ) -> Self:
        """Find shards on this machine or elsewhere.

        Args:
            source: a folder, of which the complete shards are taken; one tar file; a pattern with braces; or a URL.
            limit: use only the first samples.
            progress: called while samples are counted, with the shards done and their number.
            evaluation: warn on stderr of worlds that models may have been trained on.

        Raises:
            UserError: there are no shards, or one cannot be read.
        """
        found = cls(str(source), list_shards(str(source), evaluation=evaluation), limit, progress)
        if evaluation and found.has_training_seeds:
            warn(f"the worlds in {source} have training seeds: a model may have seen them", f"{EVALUATION_COMMAND}")
        return found

    @cached_property
    def shards(self) -> tuple[Shard, ...]:
        """The shards that hold the first `limit` samples, the last one cut short; none of them empty.

        Raises:
            UserError: a shard cannot be read, or none has a sample.
        """
        left = sum(shard.count for shard in self._counted) if self.limit is None else self.limit
        kept: list[Shard] = []
        for shard in self._counted:
            count = min(shard.count, left)
            left -= count
            if count:
                kept.append(replace(shard, count=count))
        return tuple(kept)

    @cached_property
    def _counted(self) -> list[Shard]:
        return count_samples(self.locations, self.progress)

    def __len__(self) -> int:
        return sum(shard.count for shard in self.shards)

    def raw(self, start: int = 0) -> Iterator[Raw]:
        """Stream undecoded samples from one of them on.

        Raises:
            UserError: a shard cannot be read, is damaged, or has fewer samples than stated.
        """
        for shard in self.shards:
            if start < shard.count:
                found = start
                for sample in islice(read_samples(shard.location, start), shard.count - start):
                    yield sample
                    found += 1
                if found < shard.count:
                    raise too_few_samples(shard, found)
            start = max(start - shard.count, 0)

    def samples(self, maps: Collection[str] = tuple(MAP_SUFFIXES), start: int = 0) -> Iterator[Sample]:
        """Stream samples from one of them on, decoding only the maps asked for.

        Raises:
            UserError: as `raw` and `unpack`.
        """
        return (unpack(raw, set(maps)) for raw in self.raw(start))

    def sample(self, number: int, maps: Collection[str] = ()) -> Sample:
        """Return one sample, with the maps asked for."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        return next(self.samples(maps, number))

    @cached_property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the first image that can be decoded, in pixels.

        Raises:
            UserError: there is none.
        """
        for raw in self.raw():
            with suppress(UserError, ValueError):
                height, width = unpack(raw, ()).image.shape[:2]
                return height, width
        raise UserError(f"no image in {self.source} can be decoded")

    def describe(self, maps: Collection[str] = ()) -> str:
        """Describe the set by its counts and its first sample.

        Raises:
            UserError: no samples, a first sample that cannot be decoded or has not all of the maps.
        """
        raw = next(self.raw())
        first, members = self.shards[0].location, sorted(name for name in raw if not name.startswith("__"))
        for name in maps:
            if name in MAP_SUFFIXES and MAP_SUFFIXES[name] not in raw:
                raise UserError(
                    f"{first} has no {name} maps: its first sample, {raw['__key__']}, holds {', '.join(members)}",
                    hint=f"make them while training, data.label.{name} = 'TEACHER', or before, `jointnet prepare --label`",
                )
        with reading(f"the first sample of {first}"):
            height, width = unpack(raw, ()).image.shape[:2]
        return f"{len(self):,} samples in {len(self.shards):,} shards; the first is {width}x{height} with {', '.join(members)}"

    @cached_property
    def digest(self) -> str:
        """A digest of the samples that does not depend on their location.

        It changes with any byte of a shard whose stats state its SHA-256, otherwise only with the first key and the counts.
        """
        shards = "\n".join(f"{Path(each.location).name} {each.count} {each.sha256}".rstrip() for each in self._counted)
        return text_digest(f"{next(self.raw())['__key__']}\n{shards}")

    @cached_property
    def has_training_seeds(self) -> bool:
        """Whether a shard begins with a rendered world whose seed is not reserved for evaluation."""
        return any(_begins_with_training_seed(shard.location) for shard in self.shards)

    @property
    def origin(self) -> dict[str, str]:
        """What a table states about worlds with training seeds; empty for other samples."""
        return {"worlds": "training seeds"} if self.has_training_seeds else {}


def _begins_with_training_seed(location: str) -> bool:
    """Return whether the first sample of a shard is such a world. The worlds of one shard have consecutive seeds."""
    try:
        first = next(read_samples(location), {})
        record = from_json(first.get("json", b"{}"))
        return "scene" in record and int(record["seed"]) < EVALUATION_SEEDS
    except (ValueError, TypeError, KeyError, OverflowError):  # no record of a world
        return False
