"""`jointnet prepare`: training shards of captioned images with depth and normals."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jointnet_cli.cli.console import RUN_FAILED, note, progress
from jointnet_cli.cli.download import print_plan, read_download, run_download
from jointnet_cli.cli.labels import LabelOptions
from jointnet_cli.cli.options import DryRun, Json, Quiet, option
from jointnet_cli.cli.wanted import FetchOptions, ImageSourceOptions
from jointnet_cli.errors import UserError
from jointnet_cli.files.text import to_json

if TYPE_CHECKING:
    from jointnet_cli.data.worlds.dataset import PrepareWorlds

WORLDS = "worlds"
WORLDS_PANEL = "Worlds"
OTHER_FLAGS = {"overrides": "--set", "more_columns": "NAME=COLUMN"}
"""Fields whose flag is not their name."""


@dataclass(frozen=True)
class WorldOptions:
    """Which images."""

    source: Annotated[
        str,
        option(
            "--source",
            metavar="SOURCE",
            help="`worlds` renders landscapes; or tables (parquet, csv, jsonl), a folder of images, shards: a path, a "
            "pattern, `hf://`, `s3://`, `https://`.",
        ),
    ] = WORLDS
    count: Annotated[
        int | None,
        option("--count", "-n", min=1, metavar="N", help="Number of images.", show_default="all; worlds need it"),
    ] = None
    size: Annotated[
        int | None,
        option(
            "--size",
            min=16,
            metavar="PIXELS",
            help="Pixels of a side.",
            show_default="128 for worlds, recipe's, else 512",
        ),
    ] = None
    seed: Annotated[
        int | None,
        option(
            "--seed",
            panel=WORLDS_PANEL,
            min=0,
            metavar="N",
            help="Seed of the first scene; scene n has seed + n.",
            show_default="0, with --evaluation the first reserved one",
        ),
    ] = None
    evaluation: Annotated[
        bool,
        option("--evaluation", panel=WORLDS_PANEL, help="Use the seeds reserved for evaluation; never train on these."),
    ] = False
    tilted: Annotated[
        float | None,
        option(
            "--tilted",
            panel=WORLDS_PANEL,
            metavar="SHARE",
            help="Share of the scenes whose camera looks up, down or wide, 0 to 1.",
            show_default="0.25, 0 with --evaluation",
        ),
    ] = None


@dataclass(frozen=True)
class ShardOptions:
    """How they are written."""

    out: Annotated[Path, option("--out", "-o", metavar="DIR", help="Folder for the shards; made if missing.")] = Path(
        "shards"
    )
    shard_size: Annotated[
        int | None,
        option(
            "--shard-size",
            min=1,
            metavar="N",
            help="Images per shard.",
            show_default="500 for worlds, recipe's, else 1000",
        ),
    ] = None
    workers: Annotated[
        int | None,
        option(
            "--workers",
            env="WORKERS",
            panel=WORLDS_PANEL,
            min=1,
            metavar="N",
            help="Processes.",
            show_default="one a core",
        ),
    ] = None
    json: Json = False
    quiet: Quiet = False
    dry_run: DryRun = False


def prepare(
    scenes: WorldOptions, shards: ShardOptions, wanted: ImageSourceOptions, fetch: FetchOptions, labels: LabelOptions
) -> None:
    """Write training shards: image, caption and record of every sample, with depth and normals where there are any.

    Shards are webdataset tar files and their paths are printed. A run that was cut off goes on where it stopped.
    """
    labels.specs()
    if not labels.label:
        _refuse_flags(labels, {"relabel", "label_batch"}, "shards without --label")
    labelling = _is_labelling(scenes, shards, labels)
    if scenes.source == WORLDS:
        _refuse(wanted, fetch)
        _prepare_worlds(scenes, shards)
    elif labelling:
        _refuse(wanted, fetch)
    else:
        _refuse_flags(scenes, {"seed", "evaluation", "tilted"}, "images from elsewhere")
        download = read_download(scenes.source, shards.out, scenes.count, scenes.size, shards.shard_size, wanted, fetch)
        if shards.dry_run:
            print_plan(download, shards.json)
        else:
            run_download(download, shards.json, shards.quiet)
    if labelling and shards.dry_run:
        _print_labels(shards, labels)
    elif labels.label and not shards.dry_run:
        _label(shards, labels, alone=labelling)


def _is_labelling(scenes: WorldOptions, shards: ShardOptions, labels: LabelOptions) -> bool:
    """Whether the shards are only to be labelled: they are their own source."""
    source = Path(scenes.source)
    if scenes.source == WORLDS or not (source.is_dir() and shards.out.is_dir() and source.samefile(shards.out)):
        return False
    if not labels.label:
        raise UserError("--source and --out are the same folder", hint="give --label to add maps to its shards")
    return True


def _prepare_worlds(scenes: WorldOptions, shards: ShardOptions) -> None:
    from jointnet_cli.data.worlds.dataset import PrepareWorlds, prepare_worlds

    if scenes.count is None:
        raise UserError("worlds need --count", hint="for example --count 1000")
    sizes = {name: value for name, value in (("size", scenes.size), ("shard_size", shards.shard_size)) if value}
    request = PrepareWorlds(
        out=shards.out,
        count=scenes.count,
        seed=scenes.seed,
        evaluation=scenes.evaluation,
        tilted=scenes.tilted,
        workers=shards.workers,
        **sizes,
    )
    if shards.dry_run:
        _print_plan(request, shards.json)
        return
    with progress(f"rendering into {shards.out}", shards.quiet) as advance:
        report = prepare_worlds(request, advance)
    if shards.json:
        facts = {"written": report.written, "skipped": report.skipped, "seconds": round(report.seconds, 3)}
        print(to_json({**facts, "shards": [str(shard) for shard in report.shards]}))
    else:
        print(*report.shards, sep="\n")
    note(f"{report.written} scenes written, {report.skipped} were there before", shards.quiet)


def _print_plan(request: PrepareWorlds, as_json: bool) -> None:
    for shard, seeds in request.shards():
        if as_json:
            print(to_json({"shard": str(shard), "count": len(seeds), "seeds": [seeds[0], seeds[-1]]}))
        else:
            print(f"{shard}: {len(seeds)} scenes of {request.size}x{request.size}, seeds {seeds[0]} to {seeds[-1]}")


def _print_labels(shards: ShardOptions, labels: LabelOptions) -> None:
    from jointnet_cli.data.shards.shard_set import ShardSet

    wanted = {spec.modality: spec.name for spec in labels.specs()}
    for shard in ShardSet.open(shards.out).shards:
        if shards.json:
            print(to_json({"shard": shard.location, "count": shard.count, "labels": wanted}))
        else:
            maps = ", ".join(f"{modality} from {name}" for modality, name in wanted.items())
            print(f"{shard.location}: {shard.count} images, {maps}")


def _label(shards: ShardOptions, labels: LabelOptions, alone: bool) -> None:
    """The stage that adds maps to every complete shard of the folder; `alone` it prints the shards.

    Raises:
        typer.Exit: code 1 if some map could not be made.
    """
    from jointnet_cli.data.labels.labelling import label_shards
    from jointnet_cli.data.labels.teachers import open_teacher
    from jointnet_cli.data.shards.index import list_shards

    paths = list(map(Path, list_shards(shards.out)))
    with progress(f"labelling {shards.out}", shards.quiet) as advance:
        teachers = [open_teacher(spec, labels.device) for spec in labels.specs()]
        report = label_shards(paths, teachers, batch=labels.label_batch, replace=labels.relabel, progress=advance)
    if shards.json:
        facts = {"labelled": report.labelled, "failed": report.failed, "seconds": round(report.seconds, 3)}
        print(to_json({**facts, "shards": [str(shard) for shard in report.written]}))
    elif alone:
        print(*paths, sep="\n")
    made = ", ".join(f"{count} {name}" for name, count in report.labelled.items()) or "no"
    note(f"{made} maps made, {len(report.skipped)} shards had theirs, {report.failed.total()} failed", shards.quiet)
    for example in report.examples:
        note(f"  {example}", shards.quiet)
    if report.failed:
        raise typer.Exit(RUN_FAILED)


def _refuse(*groups: ImageSourceOptions | FetchOptions) -> None:
    for group in groups:
        _refuse_flags(
            group, {field.name for field in fields(group)}, "rendered worlds, or for shards that are labelled"
        )


def _refuse_flags(group: object, names: set[str], purpose: str) -> None:
    for field in fields(group):  # type: ignore[arg-type]
        if field.name in names and getattr(group, field.name) != field.default:
            flag = OTHER_FLAGS.get(field.name) or f"--{field.name.replace('_', '-')}"
            raise UserError(f"{flag} has no meaning for {purpose}", hint="leave it out")
