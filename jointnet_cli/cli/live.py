"""What is seen of a download while it runs, and what is said at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from jointnet_cli.cli.console import note, stderr

if TYPE_CHECKING:
    from jointnet_cli.data.job import Tally

MOST_CAUSES = 4
BAR = 40
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


@contextmanager
def live(description: str, quiet: bool = False) -> Iterator[Callable[[Tally], None]]:
    """A progress line that only a terminal sees: images/s, how many succeed, bytes/s, the commonest failures, time left."""
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

        def show(tally: Tally) -> None:
            bar.update(task, completed=tally.done, total=tally.total, description=rates(tally))

        yield show


def rates(tally: Tally) -> str:
    """The state of a run in one line."""
    seconds = max(tally.seconds, 1e-3)
    parts = [f"{tally.done / seconds:.0f} images/s", f"{size(tally.received / seconds)}/s"]
    if tally.done:
        parts.append(f"{tally.successes / tally.done:.0%} come")
    failures = [(status, count) for status, count in tally.statuses.most_common() if status != "success"]
    parts += [f"{status} {count}" for status, count in failures[:MOST_CAUSES]]
    return ", ".join(parts)


def say_funnel(funnel: Mapping[str, int], quiet: bool = False) -> None:
    """Print how many rows every criterion left."""
    say_bars("rows", funnel, quiet)


def say_causes(report: Mapping[str, Any], quiet: bool = False) -> None:
    """Print how many images came, and why the others did not."""
    images = report["images"]
    say_bars("images", {"wanted": images["wanted"], "came": images["successes"], **report["causes"]}, quiet)


def say_bars(what: str, counts: Mapping[str, int], quiet: bool = False) -> None:
    """Print a histogram."""
    largest = max([*counts.values(), 1])
    wide = max(map(len, counts), default=0)
    for name, count in counts.items():
        note(f"{name:{wide}}  {count:>13,} {what}  {'#' * round(BAR * count / largest)}".rstrip(), quiet)


def size(count: float) -> str:
    """Bytes as people read them."""
    for unit in _UNITS:
        if count < 1000 or unit == _UNITS[-1]:
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
