"""`prepare` of images from elsewhere: the run from source to report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from jointnet_cli.cli.console import RUN_FAILED, note, progress
from jointnet_cli.cli.live import live, say_causes, say_funnel, size
from jointnet_cli.cli.wanted import BOUNDS, FetchOptions, ImageSourceOptions
from jointnet_cli.errors import UserError
from jointnet_cli.files.text import to_json

if TYPE_CHECKING:
    from jointnet_cli.data.job import PrepareJob, Tally
    from jointnet_cli.data.plan import Plan
    from jointnet_cli.data.settings import PrepareRecipe


@dataclass(frozen=True)
class Download:
    """A run as the command line asks for it."""

    source: str
    out: Path
    recipe: PrepareRecipe
    job: PrepareJob
    worker: tuple[int, int] = (1, 1)
    address: str | None = None
    """Of a Ray cluster."""


def read_download(
    source: str,
    out: Path,
    limit: int | None,
    size: int | None,
    shard_size: int | None,
    wanted: ImageSourceOptions,
    fetch: FetchOptions,
) -> Download:
    """The run that the flags describe, checked as far as that goes without the source.

    Raises:
        UserError: a wrong recipe, setting or flag.
    """
    from jointnet_cli.data.job import PrepareJob
    from jointnet_cli.data.settings import load_prepare_recipe

    bounds = {name: getattr(wanted, name) for name in BOUNDS}
    flags: dict[str, dict[str, Any]] = {
        "filter": {**bounds, "dedupe": None if wanted.dedupe is None else _words(wanted.dedupe)},
        "columns": dict(_pairs([*(wanted.columns or []), *(wanted.more_columns or [])])),
        "image": {"size": size, "resize": fetch.resize},
        "shards": {"size": shard_size},
        "fetch": {
            "concurrency": fetch.concurrency,
            "per_host": fetch.per_host,
            "allow_private_hosts": fetch.allow_private_hosts or None,
        },
    }
    given = {table: {key: value for key, value in keys.items() if value is not None} for table, keys in flags.items()}
    recipe = load_prepare_recipe(wanted.recipe, wanted.overrides or [], given)
    job = PrepareJob(out, recipe.settings(), limit, tuple(_words(fetch.retry_failed or "")))
    job.again()
    return Download(source, out, recipe, job, _worker(fetch.worker), _address(fetch.cluster))


def print_plan(download: Download, as_json: bool) -> None:
    """Print the funnel and what the download is expected to take; nothing is fetched and nothing kept."""
    from tempfile import TemporaryDirectory

    from jointnet_cli.data.plan import build_plan
    from jointnet_cli.data.report import estimate

    with TemporaryDirectory(prefix="jointnet-") as folder:
        plan = build_plan(download.recipe.sifting(download.source), Path(folder))
    rows = plan.rows if download.job.limit is None else min(plan.rows, download.job.limit)
    expected = estimate(rows, plan.shard_size, download.job.fetch)
    if as_json:
        print(to_json({"funnel": plan.funnel, "images": rows, "expected": vars(expected)}))
        return
    wide = max(map(len, plan.funnel))
    for name, count in plan.funnel.items():
        print(f"{name:{wide}}  {count:>13,}")
    print(f"{rows:,} images in {expected.shards:,} shards of {plan.shard_size:,}")
    print(
        f"about {expected.images:,} images, {size(expected.bytes)}, {expected.hours:.1f} hours, if {expected.assuming}"
    )


def run_download(download: Download, as_json: bool, quiet: bool) -> None:
    """Filter, fetch, write and report.

    Raises:
        typer.Exit: code 1 if images were fetched and none came; a retry may heal nothing.
    """
    from jointnet_cli.data.job import Tally
    from jointnet_cli.data.plan import open_plan
    from jointnet_cli.data.report import write_report, write_sheet
    from jointnet_cli.data.web.download import download_shards, rows_to_fetch, share

    with progress(f"filtering {download.source}", quiet):
        plan = open_plan(download.out, download.recipe.sifting(download.source))
    say_funnel(plan.funnel, quiet)
    job = download.job
    numbers = share(plan.shards(job.limit), download.worker)
    tally = Tally(total=rows_to_fetch(job, plan, numbers))
    with live(f"into {download.out}", quiet) as watch:
        if download.address is None:
            download_shards(job, numbers, tally, watch)
        else:
            from jointnet_cli.data.prepare import gather_on_ray

            gather_on_ray(job, numbers, tally, download.address, watch)
    report = write_report(download.out, plan, job.limit)
    sheet = write_sheet(download.out)
    say_causes(report, quiet)
    if sheet:
        note(f"report {download.out / 'report.json'}, contact sheet {sheet}", quiet)
    _print_result(download, plan, tally, as_json)
    _say_the_rest(job, numbers, quiet)
    if tally.done and not tally.successes and not job.retry:
        raise typer.Exit(RUN_FAILED)


def _print_result(download: Download, plan: Plan, tally: Tally, as_json: bool) -> None:
    from jointnet_cli.data.shards.format import is_complete, sample_count
    from jointnet_cli.data.web.download import share

    own = share(plan.shards(download.job.limit), download.worker)
    shards = [shard for shard in map(download.job.shard, own) if is_complete(shard)]
    if not as_json:
        print(*shards, sep="\n")
        return
    facts = {
        "written": tally.successes,
        "skipped": sum(map(sample_count, shards)) - tally.successes,
        "failed": tally.done - tally.successes,
        "seconds": round(tally.seconds, 3),
        "report": str(download.out / "report.json"),
    }
    print(to_json({**facts, "shards": [str(shard) for shard in shards]}))


def _say_the_rest(job: PrepareJob, numbers: Sequence[int], quiet: bool) -> None:
    from jointnet_cli.data.shards.format import is_complete

    missing = sum(not is_complete(job.shard(number)) for number in numbers)
    if missing:
        note(f"{missing} shards are being written by another process", quiet)


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
