"""What `jointnet prepare` prints: plans, estimates, progress and the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.filesize import decimal as size_text

from jointnet_cli.cli.console import note, report_error, stderr
from jointnet_cli.files.text import to_json

if TYPE_CHECKING:
    from jointnet_cli.data.job import PrepareJob, Tally

MOST_CAUSES, BAR = 4, 40


def print_worlds(job: PrepareJob, as_json: bool) -> None:
    """Print the shards of rendered worlds and their seeds."""
    size, first = job.settings.image.size, job.plan.facts["seed"]
    for number in job.shards:
        positions, shard = job.plan.positions(number), job.path(number)
        seeds = first + positions[0], first + positions[-1]
        if as_json:
            print(to_json({"shard": str(shard), "count": len(positions), "seeds": seeds}))
        else:
            print(f"{shard}: {len(positions)} scenes of {size}x{size}, seeds {seeds[0]} to {seeds[1]}")


def print_estimate(job: PrepareJob, as_json: bool) -> None:
    """Print the funnel and what the download is expected to take."""
    if as_json:
        from jointnet_cli.data.report import estimate

        rows = job.plan.count(job.limit)
        expected = vars(estimate(rows, job.settings))
        print(to_json({"funnel": job.plan.funnel, "images": rows, "expected": expected}))
        return
    wide = max(map(len, job.plan.funnel))
    for name, count in job.plan.funnel.items():
        print(f"{name:{wide}}  {count:>13,}")
    print(*estimate_lines(job), sep="\n")


def estimate_lines(job: PrepareJob) -> list[str]:
    """Return what a download is expected to take, in words."""
    from jointnet_cli.data.report import estimate

    rows = job.plan.count(job.limit)
    expected = estimate(rows, job.settings)
    size, minutes = size_text(expected.bytes), 60 * expected.hours
    duration = f"{expected.hours:.1f} hours" if minutes >= 60 else f"{minutes:.0f} minutes"
    duration = duration if minutes >= 1 else "less than a minute"
    return [
        f"{rows:,} images in {expected.shards:,} shards of {job.plan.shard_size:,}",
        f"about {expected.images:,} images, {size}, {duration}, if {expected.assuming}",
    ]


def note_left(tally: Tally, quiet: bool) -> None:
    """Say on stderr which shards were left as they were: those of other processes, and damaged ones."""
    if tally.busy:
        note(f"shards left to other processes, which write them: {len(tally.busy)}", quiet)
    for fault in tally.damaged:
        report_error(fault)


@contextmanager
def live(description: str, quiet: bool = False) -> Iterator[Callable[[Tally], None]]:
    """Show progress on a terminal: images/s, bytes/s, share of successes, most frequent failures, time left."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    console = stderr()
    if quiet or not console.is_terminal:
        yield lambda tally: None
        return
    # On a narrow terminal the description wraps; count and time do not.
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
    seconds = max(tally.seconds, 1e-3)
    parts = [f"{tally.done / seconds:.0f} images/s"]
    if tally.received:
        parts.append(f"{size_text(round(tally.received / seconds))}/s")
    if tally.failed:
        parts.append(f"{tally.made.total() / tally.done:.0%} succeeded")
    return ", ".join([*parts, *(f"{status} {count}" for status, count in tally.failed.most_common(MOST_CAUSES))])


def print_bars(what: str, counts: Mapping[str, int], quiet: bool = False) -> None:
    """Print a histogram on stderr."""
    largest = max([*counts.values(), 1])
    wide = max(map(len, counts), default=0)
    for name, count in counts.items():
        note(f"{name:{wide}}  {count:>13,} {what}  {'#' * round(BAR * count / largest)}".rstrip(), quiet)
