"""The plan of a set assigns every image a place in a shard. It depends on source and filter alone.

A plan of images is the folder `.plan` beside the shards: `rows-00000.parquet` and so on, one row an image in order, and
`plan.json`, what it was made from and how many rows each criterion left. Every process that works on the set reads the
same plan, whenever it joins.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jointnet_cli.data.rows import ImageRow, row_key
from jointnet_cli.data.settings import PrepareSettings
from jointnet_cli.data.shards.format import PLAN, read_record
from jointnet_cli.data.source_files import Source
from jointnet_cli.data.sql import literal, plan_cursor, readable
from jointnet_cli.data.worlds.grammar import TILTED
from jointnet_cli.data.worlds.world import EVALUATION_SEEDS
from jointnet_cli.errors import UserError
from jointnet_cli.files.atomic import make_once, write_text
from jointnet_cli.files.text import to_json
from jointnet_cli.params import params

WORLDS_FILE = "worlds.json"


@dataclass(frozen=True)
class Plan:
    """The assignment of samples to places in shards. For rendered worlds it is arithmetic: `rows` is their count."""

    facts: dict[str, Any]
    """All that decides the set."""
    rows: int
    shard_size: int
    funnel: dict[str, int] = field(default_factory=dict)
    """Rows left: as read, and after each criterion."""
    folder: Path | None = None
    """The plan on disk; `None` for rendered worlds."""
    parts: tuple[int, ...] = ()
    """The first number of every file."""
    recipe: str | None = None
    """The recipe that the settings came from, by its name or path."""

    @property
    def is_worlds(self) -> bool:
        """Whether the samples are rendered worlds. The world at a position has the seed `facts["seed"]` + position."""
        return self.folder is None

    def count(self, limit: int | None = None) -> int:
        """Return the number of samples; `limit` cuts the set off."""
        return self.rows if limit is None else min(self.rows, limit)

    def positions(self, shard: int, limit: int | None = None) -> range:
        """Return the running numbers of a shard's samples."""
        start = shard * self.shard_size
        return range(start, max(start, min(self.count(limit), start + self.shard_size)))

    def shards(self, limit: int | None = None) -> range:
        """Return the numbers of the shards."""
        return range(-(-self.count(limit) // self.shard_size))

    def select(self, shard: int, limit: int | None = None) -> str:
        """Return SQL of a shard's rows: `number` and the source's columns."""
        positions = self.positions(shard, limit)
        first = bisect_right(self.parts, positions.start) - 1
        last = bisect_left(self.parts, positions.stop, lo=first + 1)
        files = ", ".join(literal(f"{self.folder}/{part_name(index)}") for index in range(first, last))
        return f"SELECT * FROM read_parquet([{files}]) WHERE number >= {positions.start} AND number < {positions.stop}"

    def readable(self) -> AbstractContextManager[None]:
        """Turn the faults of reading the plan's files into `UserError` while entered."""
        return readable(self.folder or Path(), _REMAKE)

    def require_rows(self) -> None:
        """Check that the files of the plan can be opened and hold its rows.

        Raises:
            UserError: they cannot, or do not.
        """
        files = ", ".join(literal(f"{self.folder}/{part_name(index)}") for index in range(len(self.parts)))
        with self.readable():
            (found,) = (
                plan_cursor().execute(f"SELECT count(*) FROM read_parquet([{files}])").fetchall()[0] if files else (0,)
            )
        if found != self.rows:
            raise UserError(f"{self.folder} is damaged: it has {found} rows rather than {self.rows}", hint=_REMAKE)

    def read(self, shard: int, limit: int | None = None) -> list[ImageRow]:
        """Return the images of a shard, in order."""
        with self.readable():
            cursor = plan_cursor().execute(f"{self.select(shard, limit)} ORDER BY number")
            names = [column[0] for column in cursor.description or []]
            found = cursor.fetchall()
        if len(found) != len(self.positions(shard, limit)):
            raise UserError(f"{self.folder} is damaged: it lacks rows of shard {shard}", hint=_REMAKE)
        rows = []
        for values in found:
            fields = dict(zip(names, values, strict=True))
            place = fields.pop("number") - shard * self.shard_size
            url, caption = fields.pop("url"), fields.pop("caption") or ""
            rows.append(ImageRow(row_key(shard, place), url, caption, fields))
        return rows


def read_plan(folder: Path) -> Plan:
    """Read the plan in `folder`.

    Raises:
        UserError: it is missing or damaged.
    """
    record = read_record(folder / "plan.json", _check_plan, _REMAKE)
    facts, parts = record["facts"], tuple(record["parts"])
    return Plan(facts, record["rows"], facts["shard_size"], record["funnel"], folder, parts, record.get("recipe"))


_REMAKE = f"move the folder {PLAN} away and give the command that made the set again; finished shards stay"


def _check_plan(record: dict[str, Any]) -> None:
    facts, parts, rows = record["facts"], record["parts"], record["rows"]
    numbers = [*parts, rows, *record["funnel"].values()]
    if not all(isinstance(number, int) and number >= 0 for number in numbers) or parts != sorted(parts):
        raise ValueError("parts, rows or funnel are not counts")
    if not isinstance(facts["shard_size"], int) or facts["shard_size"] < 1:
        raise ValueError("shard_size is not a positive number")
    if not isinstance(record.get("recipe"), str | None):
        raise ValueError("recipe is not a name")


def open_world_plan(out: Path, settings: PrepareSettings, count: int) -> Plan:
    """Return the plan of rendered worlds in a folder, whose facts stand in its `worlds.json`.

    Raises:
        UserError: the folder has other worlds, or the seeds are not allowed.
    """
    plan, marker = world_plan(settings, count), out / WORLDS_FILE
    if (out / PLAN).exists():
        raise UserError(f"{out} holds images of a table, a folder or shards", hint="choose another --out for worlds")
    out.mkdir(parents=True, exist_ok=True)
    make_once(marker, lambda: write_text(marker, to_json(plan.facts)))
    require_equal(out, read_world_facts(marker), plan.facts, marker)
    return plan


def read_world_facts(marker: Path) -> dict[str, Any]:
    """Return what decided a set of rendered worlds.

    Raises:
        UserError: the file is missing or damaged.
    """
    remedy = "move it away and give the command that made the set again"
    return {"tilted": 0.0, **read_record(marker, _check_worlds, remedy)}  # older sets have no tilted cameras


def _check_worlds(facts: dict[str, Any]) -> None:
    if not all(
        isinstance(facts[name], int) and facts[name] >= (name != "seed") for name in ("seed", "size", "shard_size")
    ):
        raise ValueError("seed, size or shard_size is not a number")
    if not isinstance(facts.get("tilted", 0), int | float):
        raise ValueError("tilted is not a number")


def world_plan(settings: PrepareSettings, count: int) -> Plan:
    """Return the plan of `count` rendered worlds.

    Raises:
        UserError: seeds that are reserved for evaluation without `worlds.evaluation`, or the reverse.
    """
    worlds = settings.worlds
    seed = worlds.seed if worlds.seed is not None else EVALUATION_SEEDS if worlds.evaluation else 0
    tilted = worlds.tilted if worlds.tilted is not None else 0.0 if worlds.evaluation else TILTED
    if not worlds.evaluation and seed + count > EVALUATION_SEEDS:
        raise UserError(
            f"world seeds from {EVALUATION_SEEDS} on are reserved for evaluation",
            hint="choose a smaller --seed, or give --evaluation for a set that is never trained on",
        )
    if worlds.evaluation and seed < EVALUATION_SEEDS:
        raise UserError(
            f"an evaluation set needs world seeds from {EVALUATION_SEEDS} on", hint=f"--seed {EVALUATION_SEEDS}"
        )
    size = settings.shards.size
    facts = {"seed": seed, "size": settings.image.size, "shard_size": size, "tilted": tilted}
    return Plan(facts, count, size)


def image_facts(source: Source, settings: PrepareSettings) -> dict[str, Any]:
    """Return all that decides a set of images, as `plan.json` records it."""
    return {
        "source": source.recorded,
        "columns": settings.columns,
        "filter": {**asdict(settings.filter), "dedupe": list(settings.filter.dedupe)},
        "shard_size": settings.shards.size,
        "image": settings.content,
    }


def require_equal(out: Path, made: Mapping[str, Any], asked: Mapping[str, Any], record: Path) -> None:
    """Compare what decided a set with what is asked for now.

    Raises:
        UserError: they differ; `record` is the file that states the former.
    """
    for name, before, now in _changes(made, asked):
        remedy = f"ask for what {record} says"
        if flag := _flag(name):
            remedy = f"leave {flag} out" if before is None else f"{flag} {before}"
        raise UserError(f"{out} was made with {name} = {before}, now {now}", f"choose another --out, or {remedy}")


def _flag(fact: str) -> str | None:
    """Return the flag that decides a fact: `size`, `shard_size`, `filter.side_above`."""
    paths = {(*table, *fact.replace("shard_size", "shards.size").split(".")) for table in ((), ("image",), ("worlds",))}
    return next((parameter.flags[0] for parameter in params(PrepareSettings) if parameter.path in paths), None)


def _changes(made: Mapping[str, Any], asked: Mapping[str, Any], table: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the name of each fact that differs, and both values."""
    for name in sorted({*made, *asked}):
        before, now = made.get(name), asked.get(name)
        if isinstance(before, dict) and isinstance(now, dict):
            yield from _changes(before, now, f"{table}{name}.")
        elif before != now:
            yield f"{table}{name}", before, now


def part_name(index: int) -> str:
    return f"rows-{index:05}.parquet"
