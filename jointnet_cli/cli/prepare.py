"""`jointnet prepare`: training shards of captioned images with depth and normals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, is_dataclass, make_dataclass
from functools import partial, reduce
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from jointnet_cli.cli.console import RUN_FAILED, note, progress, stderr
from jointnet_cli.cli.options import DryRun, Json, Quiet
from jointnet_cli.data.settings import PrepareSettings, prepare_settings
from jointnet_cli.errors import UserError
from jointnet_cli.files.text import to_json
from jointnet_cli.params import Param, params

if TYPE_CHECKING:
    from jointnet_cli.data.job import PrepareJob, Tally
    from jointnet_cli.data.labels.specs import TeacherSpec

WORLDS = "worlds"
MOST_CAUSES, BAR = 4, 40

_Source = partial(Param, panel="Source")
_Work = partial(Param, panel="Parallel work", shown=False)
_Labels = partial(Param, panel="Labels")


@dataclass(frozen=True)
class ImageSourceOptions:
    """Which images."""

    source: Annotated[
        str,
        Param(
            "`worlds` renders landscapes; or tables (parquet, csv, jsonl), a folder of images, shards: a path, a pattern, "
            "`hf://`, `s3://`, `https://`.",
            "SOURCE",
        ),
    ] = WORLDS
    count: Annotated[
        int | None, Param("Number of images.", "N", ge=1, flag="--count -n", shown="all; worlds need it")
    ] = None
    recipe: Annotated[
        str | None,
        _Source(
            "A TOML file, or `prepare/coyo`: columns, filter, size and limits. The flags here override it.",
            "RECIPE",
            shown=False,
        ),
    ] = None
    overrides: Annotated[
        list[str] | None,
        _Source("Replace a setting, as in `fetch.retries=4`. Repeatable.", "KEY=VALUE", flag="--set"),
    ] = None
    columns: Annotated[
        list[str] | None,
        _Source(
            "Which column of the source is `url`, `caption`, `width` and so on; further pairs follow after a space or a "
            "comma.",
            "NAME=COLUMN …",
            shown="by their names",
        ),
    ] = None
    more_columns: Annotated[list[str] | None, typer.Argument(hidden=True, metavar="NAME=COLUMN")] = None
    """The pairs that follow `--columns` after a space."""
    dedupe: Annotated[
        str | None,
        Param(
            "Keep one row of each value, column after column; empty for none.",
            "COLUMN,…",
            panel="Filter",
            shown="recipe's, else url",
        ),
    ] = None


@dataclass(frozen=True)
class PrepareOptions:
    """Where the shards go, and who makes them."""

    out: Annotated[Path, Param("Folder for the shards; made if missing.", "DIR", flag="--out -o")] = Path("shards")
    workers: Annotated[int | None, Param("Processes.", "N", ge=1, env=True, panel="Worlds", shown="one a core")] = None
    retry_failed: Annotated[
        str | None,
        _Work(
            "Also fetch again what failed before for these causes: `timeout`, `5xx`, `http_404`, `all` and so on.",
            "CAUSE,…",
        ),
    ] = None
    worker: Annotated[str | None, _Work("Do the I-th of N parts, I from 1 to N.", "I/N")] = None
    cluster: Annotated[
        str | None,
        _Work(
            "Send shards to the workers of a Ray cluster; without an address, to one on this machine.",
            "ray[=ADDRESS]",
        ),
    ] = None
    json: Json = False
    quiet: Quiet = False
    dry_run: DryRun = False


@dataclass(frozen=True)
class LabelOptions:
    """Which maps the samples get, and from which networks."""

    label: Annotated[
        list[str] | None,
        _Labels(
            "Add a map to every sample, once per map: `depth=midas`, `depth=depth-anything-v2-small`, "
            "`normal=omnidata:FILE`, `depth=onnx:FILE?mean=0.5&std=0.5`, `depth=DIR`.",
            "MAP=TEACHER",
            shown=False,
        ),
    ] = None
    relabel: Annotated[
        bool, _Labels("Replace maps of another origin; worlds have exact ones.", flag="--relabel", shown=False)
    ] = False
    label_batch: Annotated[int, _Labels("Images that a teacher gets at once.", "N", ge=1)] = 16
    device: Annotated[
        str | None,
        _Labels("Where teachers compute: `cpu`, `cuda`, `cuda:1`, `mps`.", "DEVICE", env=True, shown="the fastest"),
    ] = None

    def specs(self) -> list[TeacherSpec]:
        """Return the teachers, checked as far as that goes without opening them.

        Raises:
            UserError: a wrong one, or two for one map.
        """
        from jointnet_cli.data.labels.specs import parse_specs

        return parse_specs(self.label or ())


def _optional(table: type) -> type:
    """Return a dataclass of the same described fields, each `None` unless its flag is given."""
    hints = get_type_hints(table, include_extras=True)
    made: list[tuple[str, Any, Any]] = []
    for name in (field.name for field in fields(table)):
        if is_dataclass(hints[name]):
            inner = _optional(hints[name])
            made.append((name, inner, inner()))
        elif metadata := getattr(hints[name], "__metadata__", ()):
            made.append((name, Annotated[hints[name].__origin__ | None, *metadata], None))
    return make_dataclass(f"{table.__name__}Flags", made, frozen=True)


SettingFlags = _optional(PrepareSettings)
"""Settings that are given by flags: tables of values, `None` for what the recipe decides."""


def prepare(
    source: ImageSourceOptions,
    settings: SettingFlags,  # type: ignore[valid-type]
    run: PrepareOptions,
    labels: LabelOptions,
) -> None:
    """Write training shards: image, caption and record of every sample, with depth and normals where there are any.

    Shards are webdataset tar files and their paths are printed. A run that was cut off goes on where it stopped.
    """
    labels.specs()
    if not labels.label:
        _refuse(labels, ("relabel", "label_batch"), "--label")
    alone = _is_labelling(source, run, labels)
    _refuse_unused(source, settings, run, alone)
    if not alone:
        _prepare(source, settings, run)
    if alone and run.dry_run:
        _print_labels(run, labels)
    elif labels.label and not run.dry_run:
        _label(run, labels, alone)


def _is_labelling(source: ImageSourceOptions, run: PrepareOptions, labels: LabelOptions) -> bool:
    """Return whether the shards are only to be labelled: they are their own source."""
    folder = Path(source.source)
    if source.source == WORLDS or not (folder.is_dir() and run.out.is_dir() and folder.samefile(run.out)):
        return False
    if not labels.label:
        raise UserError("--source and --out are the same folder", hint="give --label to add maps to its shards")
    return True


def _refuse_unused(source: ImageSourceOptions, settings: Any, run: PrepareOptions, alone: bool) -> None:
    """Refuse flags that the kind of source does not use."""
    worlds = source.source == WORLDS
    if worlds or alone:
        _refuse(settings, ("filter", "fetch", "image.resize"), "tables, images and shards as a source")
        _refuse(source, ("columns", "dedupe"), "tables, images and shards as a source")
        _refuse(run, ("retry_failed",), "tables, images and shards as a source")
        if source.more_columns:
            raise UserError("NAME=COLUMN applies only to tables, images and shards as a source", hint="leave it out")
    if not worlds:
        _refuse(settings, ("worlds",), "rendered worlds")
    if alone:
        _refuse(source, ("recipe", "overrides"), "shards that are made")
        _refuse(run, ("worker", "cluster"), "shards that are made")


def _refuse(group: Any, names: tuple[str, ...], only: str) -> None:
    kind: Any = type(group)
    for parameter in params(kind):
        path = ".".join(parameter.path)
        if path.startswith(names) and reduce(getattr, parameter.path, group) != parameter.default:
            raise UserError(f"{parameter.flags[0].partition('/')[0]} applies only to {only}", hint="leave it out")


def _prepare(source: ImageSourceOptions, flags: Any, run: PrepareOptions) -> None:
    from jointnet_cli.data.job import PrepareJob
    from jointnet_cli.data.plan import build_plan, open_plan, open_world_plan, world_plan
    from jointnet_cli.data.web.status import failure_filter

    worlds = source.source == WORLDS
    if worlds and source.count is None:
        raise UserError("worlds need --count", hint="for example --count 1000")
    given = _given(asdict(flags))
    given["columns"] = dict(_pairs([*(source.columns or []), *(source.more_columns or [])]))
    if source.dedupe is not None:
        given.setdefault("filter", {})["dedupe"] = _words(source.dedupe)
    settings = prepare_settings(source.recipe, source.overrides or [], given, worlds=worlds)
    retry = tuple(_words(run.retry_failed or ""))
    failure_filter(retry)  # a mistake is told before the source is read
    job = partial(
        PrepareJob,
        run.out,
        settings=settings,
        limit=source.count,
        retry=retry,
        worker=_worker(run.worker),
        processes=run.workers,
        cluster=_address(run.cluster),
    )
    if run.dry_run and worlds:
        _print_worlds(job(world_plan(settings, source.count or 0)), run)
    elif run.dry_run:
        with TemporaryDirectory(prefix="jointnet-") as folder:
            _print_estimate(job(build_plan(source.source, settings, Path(folder))), run)
    elif worlds:
        _run(job(open_world_plan(run.out, settings, source.count or 0)), run)
    else:
        with progress(f"filtering {source.source}", run.quiet):
            plan = open_plan(run.out, source.source, settings)
        print_bars("rows", plan.funnel, run.quiet)
        _run(job(plan), run)


def _run(job: PrepareJob, run: PrepareOptions) -> None:
    """Make the shards and report.

    Raises:
        typer.Exit: code 1 if images were fetched and none succeeded; a retry may heal nothing.
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
        if sheet:
            note(f"report {job.out / REPORT}, contact sheet {sheet}", run.quiet)
    facts["seconds"] = round(tally.seconds, 3)
    if not job.plan.is_worlds:
        facts["report"] = str(job.out / REPORT)
    if run.json:
        print(to_json({**facts, "shards": [str(shard) for shard in shards]}))
    else:
        print(*shards, sep="\n")
    _note_busy(tally, run)
    if tally.done and not made and not job.retry:
        raise typer.Exit(RUN_FAILED)


def _print_worlds(job: PrepareJob, run: PrepareOptions) -> None:
    size, first = job.settings.image.size, job.plan.facts["seed"]
    for number in job.shards:
        positions, shard = job.plan.positions(number), job.path(number)
        seeds = first + positions[0], first + positions[-1]
        if run.json:
            print(to_json({"shard": str(shard), "count": len(positions), "seeds": seeds}))
        else:
            print(f"{shard}: {len(positions)} scenes of {size}x{size}, seeds {seeds[0]} to {seeds[1]}")


def _print_estimate(job: PrepareJob, run: PrepareOptions) -> None:
    """Print the funnel and what the download is expected to take; nothing is fetched and nothing kept."""
    from rich.filesize import decimal

    from jointnet_cli.data.report import estimate

    plan, rows = job.plan, job.plan.count(job.limit)
    expected = estimate(rows, job.settings)
    if run.json:
        print(to_json({"funnel": plan.funnel, "images": rows, "expected": vars(expected)}))
        return
    wide = max(map(len, plan.funnel))
    for name, count in plan.funnel.items():
        print(f"{name:{wide}}  {count:>13,}")
    print(f"{rows:,} images in {expected.shards:,} shards of {plan.shard_size:,}")
    size = decimal(expected.bytes)
    print(f"about {expected.images:,} images, {size}, {expected.hours:.1f} hours, if {expected.assuming}")


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
        typer.Exit: code 1 if some map could not be made.
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
        print(*paths, sep="\n")
    made = ", ".join(f"{count} {name}" for name, count in tally.made.items()) or "no"
    note(f"{made} maps made, {len(tally.skipped)} shards had theirs, {tally.failed.total()} failed", run.quiet)
    for example in tally.examples:
        note(f"  {example}", run.quiet)
    _note_busy(tally, run)
    if tally.failed:
        raise typer.Exit(RUN_FAILED)


def _note_busy(tally: Tally, run: PrepareOptions) -> None:
    if tally.busy:
        note(f"{len(tally.busy)} shards are being written by another process", run.quiet)


@contextmanager
def live(description: str, quiet: bool = False) -> Iterator[Callable[[Tally], None]]:
    """A progress line that only a terminal sees: images/s, bytes/s, share that succeeds, commonest failures, time left."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    console = stderr()
    if quiet or not console.is_terminal:
        yield lambda tally: None
        return
    # Where the terminal is narrow, the words go on in a second line; count and time stay whole.
    whole = Column(no_wrap=True)
    columns = (
        TextColumn("{task.description}", markup=False, table_column=Column()),
        BarColumn(BAR // 2),
        MofNCompleteColumn(table_column=whole),
        TimeRemainingColumn(table_column=whole),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(description, total=None)
        yield lambda tally: bar.update(task, completed=tally.done, total=tally.total, description=rates(tally))


def rates(tally: Tally) -> str:
    """Return the state of a run in one line."""
    from rich.filesize import decimal

    seconds = max(tally.seconds, 1e-3)
    parts = [f"{tally.done / seconds:.0f} images/s"]
    if tally.received:
        parts.append(f"{decimal(round(tally.received / seconds))}/s")
    if tally.failed:
        parts.append(f"{tally.made.total() / tally.done:.0%} succeeded")
    return ", ".join([*parts, *(f"{status} {count}" for status, count in tally.failed.most_common(MOST_CAUSES))])


def print_bars(what: str, counts: Mapping[str, int], quiet: bool = False) -> None:
    """Print a histogram on stderr."""
    largest = max([*counts.values(), 1])
    wide = max(map(len, counts), default=0)
    for name, count in counts.items():
        note(f"{name:{wide}}  {count:>13,} {what}  {'#' * round(BAR * count / largest)}".rstrip(), quiet)


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
    if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise UserError(f"--worker {text}: expected I/N with I from 1 to N", hint="for example --worker 3/16")
    return (int(index), int(count))


def _address(text: str | None) -> str | None:
    if text is None:
        return None
    engine, _, address = text.partition("=")
    if engine != "ray":
        raise UserError(f"--cluster {text}: only Ray is known", hint="--cluster ray, or --cluster ray=HOST:6379")
    return address or "local"
