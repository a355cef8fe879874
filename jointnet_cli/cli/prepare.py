"""`jointnet prepare`: training shards of captioned images with depth and normals."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from jointnet_cli.cli.console import note, progress
from jointnet_cli.cli.options import DryRun, Json, Quiet, option
from jointnet_cli.errors import UserError

if TYPE_CHECKING:
    from jointnet_cli.data.prepare import PrepareWorlds

SOURCES = {"worlds": "procedural landscapes with exact depth and normals"}


@dataclass(frozen=True)
class SceneOptions:
    """Which scenes."""

    count: Annotated[int, option("--count", "-n", min=1, metavar="N", help="Number of scenes.")]
    source: Annotated[
        str, option("--source", metavar="NAME", help="Where they come from: `worlds` renders landscapes.")
    ] = "worlds"
    size: Annotated[int, option("--size", min=16, metavar="PIXELS", help="Pixels of a side.")] = 128
    seed: Annotated[
        int, option("--seed", min=0, metavar="N", help="Seed of the first scene; scene n has seed + n.")
    ] = 0
    evaluation: Annotated[
        bool, option("--evaluation", help="Use the seeds reserved for evaluation; never train on these.")
    ] = False


@dataclass(frozen=True)
class ShardOptions:
    """How they are written."""

    out: Annotated[Path, option("--out", "-o", metavar="DIR", help="Folder for the shards; made if missing.")] = Path(
        "shards"
    )
    shard_size: Annotated[int, option("--shard-size", min=1, metavar="N", help="Scenes per shard.")] = 500
    workers: Annotated[
        int | None, option("--workers", env="WORKERS", min=1, metavar="N", help="Processes.", show_default="one a core")
    ] = None
    json: Json = False
    quiet: Quiet = False
    dry_run: DryRun = False


def prepare(scenes: SceneOptions, shards: ShardOptions) -> None:
    """Write training shards: image, 16-bit depth, normals, caption and scene record of every sample.

    Shards are webdataset tar files and their paths are printed. A run that was cut off goes on where it stopped.
    """
    if scenes.source not in SOURCES:
        known = "; ".join(f"{name} ({what})" for name, what in SOURCES.items())
        raise UserError(f"there is no source {scenes.source!r}; the sources of this version: {known}")

    from jointnet_cli.data.prepare import PrepareWorlds, prepare_worlds

    request = PrepareWorlds(
        out=shards.out,
        count=scenes.count,
        size=scenes.size,
        seed=scenes.seed,
        evaluation=scenes.evaluation,
        workers=shards.workers,
        shard_size=shards.shard_size,
    )
    if shards.dry_run:
        _print_plan(request, shards.json)
        return
    with progress(f"rendering into {shards.out}", shards.quiet) as advance:
        report = prepare_worlds(request, advance)
    if shards.json:
        facts = {"written": report.written, "skipped": report.skipped, "seconds": round(report.seconds, 3)}
        print(json.dumps({**facts, "shards": [str(shard) for shard in report.shards]}))
    else:
        print(*report.shards, sep="\n")
    note(f"{report.written} scenes written, {report.skipped} were there before", shards.quiet)


def _print_plan(request: PrepareWorlds, as_json: bool) -> None:
    for shard, seeds in request.shards():
        if as_json:
            print(json.dumps({"shard": str(shard), "count": len(seeds), "seeds": [seeds[0], seeds[-1]]}))
        else:
            print(f"{shard}: {len(seeds)} scenes of {request.size}x{request.size}, seeds {seeds[0]} to {seeds[-1]}")
