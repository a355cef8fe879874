"""`jointnet prepare`: training shards of captioned images with depth and normals."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial, reduce
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import typer

from jointnet_cli.cli.console import RUN_FAILED, note, progress
from jointnet_cli.cli.options import command_app
from jointnet_cli.cli.prepare_options import ImageSourceOptions, LabelOptions, PrepareOptions, SettingFlags
from jointnet_cli.cli.prepare_output import estimate_lines, live, note_left, print_bars, print_estimate, print_worlds
from jointnet_cli.data.settings import COYO, prepare_settings
from jointnet_cli.data.source_files import WORLDS, Source
from jointnet_cli.devices import require_device
from jointnet_cli.errors import UserError
from jointnet_cli.files.paths import check_folder
from jointnet_cli.files.text import print_paths, to_json
from jointnet_cli.params import params

if TYPE_CHECKING:
    from jointnet_cli.data.job import PrepareJob

NO_RECIPE = "none"
IMAGE_SOURCES = "tables, images and shards as a source"
WORLDS_ONLY = "rendered worlds"


def prepare(
    options: ImageSourceOptions,
    settings: SettingFlags,  # type: ignore[valid-type]
    run: PrepareOptions,
    labels: LabelOptions,
) -> None:
    """Write training shards: image, caption and record of every sample, with depth and normals where available.

    Shards are webdataset tar files; their paths are printed. Run the same command again to continue an interrupted run.
    Without a SOURCE it reads COYO-700M from the hub, filtered as in the paper.
    """
    if run.verify or run.repair:
        _check_sets(options, settings, run, labels)
        return
    check_folder(run.out)
    if labels.specs():
        require_device(labels.device)
    else:
        _refuse(labels, ("relabel", "label_batch"), "--label")
    options, source = _resolve(options)
    alone = _is_labelling(source, run, labels)
    _refuse_unused(options, settings, run, source, alone)
    if not alone:
        _prepare(source, options, settings, run)
    if alone and run.dry_run:
        _print_labels(run, labels)
    elif labels.label and not run.dry_run:
        _label(run, labels, alone)


def _check_sets(options: ImageSourceOptions, flags: Any, run: PrepareOptions, labels: LabelOptions) -> None:
    """Check or repair the folders that stand in the place of a source, by default that of `--out`.

    Raises:
        typer.Exit: code 1 if one has faults.
    """
    from jointnet_cli.cli.prepare_verify import repair_set, verify_set

    if labels.label or run.dry_run:
        flag, mode = "--label" if labels.label else "--dry-run", "--repair" if run.repair else "--verify"
        raise UserError(f"{mode} and {flag} exclude each other", hint="leave one of them out")
    work: Callable[..., bool] = partial(repair_set, flags=_given(asdict(flags))) if run.repair else verify_set
    folders = map(Path, options.sources or [str(run.out)])
    sound = [work(folder, as_json=run.json, quiet=run.quiet) for folder in folders]
    if not all(sound):
        raise typer.Exit(RUN_FAILED)


def _resolve(options: ImageSourceOptions) -> tuple[ImageSourceOptions, Source]:
    """Return the options with all pairs of `--columns`, which may follow after spaces, and with a recipe; and the source."""
    words = [*(options.sources or []), *([options.source] if options.source else [])]
    pairs = [
        word for word in words if options.columns and "=" in word and "://" not in word and not Path(word).exists()
    ]
    named = tuple(word for word in words if word not in pairs)
    recipe = options.recipe if named or options.recipe else COYO
    options = replace(options, sources=list(named), columns=[*(options.columns or []), *pairs], recipe=recipe)
    if named:
        return options, Source(named)
    if recipe == NO_RECIPE or not (stated := prepare_settings(recipe, options.overrides or []).source):
        raise UserError(
            "there is no source" if recipe == NO_RECIPE else f"the recipe {recipe} names no source",
            hint="for example: jointnet prepare worlds --count 64 --out shards/worlds",
        )
    return options, Source((stated,))


def _is_labelling(source: Source, run: PrepareOptions, labels: LabelOptions) -> bool:
    """Return whether the shards are only to be labelled: they are their own source."""
    folder = Path(source.names[0])
    if (
        source.is_worlds
        or len(source.names) > 1
        or not (folder.is_dir() and run.out.is_dir() and folder.samefile(run.out))
    ):
        return False
    if not labels.label:
        raise UserError("the source and --out are the same folder", hint="give --label to add maps to its shards")
    return True


def _refuse_unused(
    options: ImageSourceOptions, settings: Any, run: PrepareOptions, source: Source, alone: bool
) -> None:
    """Refuse flags that the kind of source does not use."""
    if source.is_worlds or alone:
        _refuse(settings, ("filter", "fetch", "image.resize"), IMAGE_SOURCES)
        _refuse(options, ("columns", "dedupe", "everything"), IMAGE_SOURCES)
        _refuse(run, ("retry_failed",), IMAGE_SOURCES)
    if not source.is_worlds:
        hint = "leave it out, or name the source: jointnet prepare worlds"
        _refuse(settings, ("worlds",), WORLDS_ONLY, hint)
        _refuse(run, ("workers",), WORLDS_ONLY, "leave it out; --worker I/N divides the shards among commands")
    if alone:
        _refuse(options, ("recipe", "overrides"), "shards that are made")
        _refuse(run, ("worker", "cluster"), "shards that are made")
    if options.everything and options.count is not None:
        raise UserError("--all and --count exclude each other", hint="leave one of them out")


def _refuse(group: Any, names: tuple[str, ...], only: str, hint: str = "leave it out") -> None:
    kind: Any = type(group)
    for parameter in params(kind):
        path, value = ".".join(parameter.path), reduce(getattr, parameter.path, group)
        by_variable = os.environ.get(parameter.variable or "") == str(value)  # which is for all commands
        if path.startswith(names) and value not in (parameter.default, []) and not by_variable:
            raise UserError(f"{parameter.flags[0].partition('/')[0]} applies only to {only}", hint)


def _prepare(source: Source, options: ImageSourceOptions, flags: Any, run: PrepareOptions) -> None:
    from jointnet_cli.data.web.status import failure_filter

    if source.is_worlds and options.count is None:
        raise UserError("worlds need --count", hint="for example --count 1000")
    given = _given(asdict(flags))
    given["columns"] = dict(_pairs(options.columns or []))
    if options.dedupe is not None:
        given.setdefault("filter", {})["dedupe"] = _words(options.dedupe)
    # Mistakes in flags are reported before anything is imported or read.
    settings = partial(prepare_settings, overrides=options.overrides or [], flags=given, worlds=source.is_worlds)
    recipe = None if options.recipe == NO_RECIPE else options.recipe
    own, retry, count = settings(recipe), tuple(_words(run.retry_failed or "")), options.count or 0
    if own.source and (own.source == WORLDS) != source.is_worlds:
        raise UserError(f"the recipe {recipe} is for the source {own.source}, not for {source}", "leave --recipe out")
    failure_filter(retry)
    worker, cluster = _worker(run.worker), _address(run.cluster)

    from jointnet_cli.data.build import build_plan, open_plan
    from jointnet_cli.data.job import PrepareJob
    from jointnet_cli.data.plan import open_world_plan, world_plan
    from jointnet_cli.data.shards.format import PLAN

    part = partial(
        PrepareJob, run.out, limit=options.count, retry=retry, worker=worker, processes=run.workers, cluster=cluster
    )
    if source.is_worlds and run.dry_run:
        print_worlds(part(world_plan(own, count), own), run.json)
        return
    if source.is_worlds:
        _run(part(open_world_plan(run.out, own, count), own), run)
        return
    if options.recipe is None and (recipe := _choose_recipe(source, given["columns"], run)):
        own = settings(recipe)
    if run.dry_run and not (run.out / PLAN).exists():
        with TemporaryDirectory(prefix="jointnet-") as folder:
            print_estimate(part(build_plan(source, own, Path(folder)), own), run.json)
        return
    with progress(f"filtering {source}", run.quiet):
        plan = open_plan(
            run.out, source, own, str(Path(recipe).absolute()) if recipe and Path(recipe).is_file() else recipe
        )
    job = part(plan, own)
    if run.dry_run:
        print_estimate(job, run.json)
        return
    print_bars("rows", plan.funnel, run.quiet)
    if not (options.sources or options.count or options.everything):
        for line in estimate_lines(job):
            note(line, run.quiet)
        raise UserError(f"{source}: {plan.rows:,} images would be downloaded", hint="say how many: --count N, or --all")
    _run(job, run)


def _choose_recipe(source: Source, columns: dict[str, str], run: PrepareOptions) -> str | None:
    """Return the recipe of a folder's plan; for a new folder `prepare/coyo` if the table has the columns of COYO."""
    from jointnet_cli.data.plan import read_plan
    from jointnet_cli.data.shards.format import PLAN
    from jointnet_cli.data.sources import missing_columns, table_columns

    if (run.out / PLAN).exists():
        recipe = read_plan(run.out / PLAN).recipe
        if recipe:
            note(f"{source}: recipe {recipe}, with which {run.out} was made", run.quiet)
        return recipe
    found = table_columns(source)
    if found is None:
        note(f"{source}: images, no recipe", run.quiet)
        return None
    if missing := missing_columns(prepare_settings(COYO, flags={"columns": columns}), found):
        note(f"{source}: plain columns, no recipe: {COYO} needs {', '.join(missing)}", run.quiet)
        return None
    note(
        f"{source}: recipe {COYO}, because the table has COYO's columns; --recipe {NO_RECIPE} keeps all rows", run.quiet
    )
    return COYO


def _run(job: PrepareJob, run: PrepareOptions) -> None:
    """Make the shards and report.

    Raises:
        typer.Exit: code 1 if images were fetched and none succeeded (a retry may heal nothing), or a shard is damaged.
    """
    from jointnet_cli.data.prepare import prepare
    from jointnet_cli.data.report import REPORT, write_contact_sheet, write_report
    from jointnet_cli.data.shards.format import is_complete, sample_count

    with live(f"into {job.out}", run.quiet) as show:
        tally = prepare(job, show)
    made = tally.made.total()
    shards = [shard for shard in map(job.path, job.shards) if is_complete(shard)]
    skipped = sum(map(sample_count, shards)) - made
    facts: dict[str, Any] = {"written": made, "skipped": skipped}
    if job.plan.is_worlds:
        note(f"{made} scenes written, {skipped} already present", run.quiet)
    else:
        facts["failed"] = tally.failed.total()
        report, sheet = write_report(job.out, job.plan, job.limit), write_contact_sheet(job.out)
        images = report["images"]
        counts = {"wanted": images["wanted"], "succeeded": images["successes"], **report["causes"]}
        print_bars("images", counts, run.quiet)
        if report["causes"].get("needs_heif"):
            command = "pip install 'jointnet-cli[heif]'"
            note(f"HEIC images need pillow-heif: {command}, then add --retry-failed needs_heif", run.quiet)
        if sheet:
            note(f"report {job.out / REPORT}, contact sheet {sheet}", run.quiet)
    facts["seconds"] = round(tally.seconds, 3)
    if not job.plan.is_worlds:
        facts["report"] = str(job.out / REPORT)
    if run.json:
        print(to_json({**facts, "shards": [str(shard) for shard in shards]}))
    else:
        print_paths(*shards)
    note_left(tally, run.quiet)
    if tally.damaged or (tally.done and not made and not job.retry):
        raise typer.Exit(RUN_FAILED)


def _print_labels(run: PrepareOptions, labels: LabelOptions) -> None:
    from jointnet_cli.data.shards.shard_set import ShardSet

    wanted = {spec.modality: spec.name for spec in labels.specs()}
    for shard in ShardSet.open(run.out).shards:
        if run.json:
            print(to_json({"shard": shard.location, "count": shard.count, "labels": wanted}))
        else:
            maps = ", ".join(f"{modality} from {name}" for modality, name in wanted.items())
            print(f"{shard.location}: {shard.count} images, {maps}")


def _label(run: PrepareOptions, labels: LabelOptions, alone: bool) -> None:
    """Add maps to every complete shard of the folder; `alone` it prints the shards.

    Raises:
        typer.Exit: code 1 if some map could not be made, or a shard is damaged.
    """
    from jointnet_cli.data.labels.labelling import label_shards
    from jointnet_cli.data.labels.teachers import open_teacher
    from jointnet_cli.data.shards.index import list_shards

    paths = list(map(Path, list_shards(run.out)))
    with progress(f"labelling {run.out}", run.quiet) as advance:
        teachers = [open_teacher(spec, labels.device) for spec in labels.specs()]
        tally = label_shards(paths, teachers, batch=labels.label_batch, replace=labels.relabel, progress=advance)
    if run.json:
        facts = {"labelled": tally.made, "failed": tally.failed, "seconds": round(tally.seconds, 3)}
        print(to_json({**facts, "shards": [str(shard) for shard in tally.written]}))
    elif alone:
        print_paths(*paths)
    made = ", ".join(f"{count} {name}" for name, count in tally.made.items()) or "no"
    note(f"{made} maps made, {len(tally.skipped)} shards had theirs, {tally.failed.total()} failed", run.quiet)
    for example in tally.examples:
        note(f"  {example}", run.quiet)
    note_left(tally, run.quiet)
    if tally.failed or tally.damaged:
        raise typer.Exit(RUN_FAILED)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values that are not `None`, in their tables."""
    found = {key: _given(value) if isinstance(value, dict) else value for key, value in values.items()}
    return {key: value for key, value in found.items() if value is not None and value != {}}


def _pairs(texts: list[str]) -> list[tuple[str, str]]:
    pairs = []
    for word in _words(",".join(texts)):
        name, equals, column = word.partition("=")
        if not (name and equals and column):
            raise UserError(f"{word}: expected NAME=COLUMN", hint="for example --columns url=link caption=alt")
        pairs.append((name, column))
    return pairs


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _worker(text: str | None) -> tuple[int, int]:
    if text is None:
        return (1, 1)
    index, _, count = text.partition("/")
    if not (text.isascii() and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise UserError(f"--worker {text}: expected I/N with I from 1 to N", hint="for example --worker 3/16")
    return (int(index), int(count))


def _address(text: str | None) -> str | None:
    if text is None:
        return None
    engine, _, address = text.partition("=")
    if engine != "ray":
        raise UserError(f"--cluster {text}: only Ray is known", hint="--cluster ray, or --cluster ray=HOST:6379")
    return address or "local"


app = command_app({"prepare": (prepare, "jointnet prepare worlds --count 20000 --out shards")}, runs_bare=True)
