"""The flags that all evaluations share, and how they end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jointnet_cli.cli.console import RUN_FAILED, progress
from jointnet_cli.cli.options import INPUT_PANEL, OUTPUT_PANEL, Device, Dtype, Json, Quiet, option

if TYPE_CHECKING:
    from jointnet_cli.evaluation.measure import Watch
    from jointnet_cli.evaluation.report import Table
    from jointnet_cli.evaluation.runner import Runner

Shards = Annotated[
    str | None,
    option(
        "--shards",
        panel=INPUT_PANEL,
        metavar="DIR",
        help="Shards of pictures with captions and maps, such as worlds of `jointnet prepare --source worlds --evaluation`.",
    ),
]
Limit = Annotated[int | None, option("--limit", min=1, metavar="N", help="Use only the first items.")]


@dataclass(frozen=True)
class EvaluateOptions:
    """What is compared, on how much, and where it is kept."""

    rows: Annotated[
        list[str] | None,
        option("--row", "--rows", metavar="[NAME=]KIND[:VALUE]", help="A row of the table. Repeatable."),
    ] = None
    limit: Limit = None
    resamples: Annotated[
        int, option("--resamples", min=1, metavar="N", help="Resamples that the 95 % intervals are taken of.")
    ] = 1000
    out: Annotated[
        Path | None,
        option(
            "--out",
            "-o",
            panel=OUTPUT_PANEL,
            metavar="DIR",
            help="Folder of the items and the table; finished items in it are not made again.",
            show_default="evaluation/ and the command",
        ),
    ] = None
    json: Json = False
    quiet: Quiet = False

    def folder(self, command: str) -> Path:
        """Where a command keeps its items and table."""
        return self.out or Path("evaluation", command)

    def count(self, available: int) -> int:
        """How many items of those that there are."""
        return min(available, self.limit or available)

    def watch(self, items: Runner) -> Watch:
        """Shows the progress of rows on the main process, unless it is to be quiet."""
        return lambda name: progress(name, self.quiet or not items.main)


@dataclass(frozen=True)
class DeviceOptions:
    """Where the models of all rows compute."""

    device: Device = None
    dtype: Dtype = None


def conclude(table: Table, items: Runner, folder: Path, options: EvaluateOptions) -> None:
    """Publish the table, on one process.

    Raises:
        typer.Exit: code 1 if items failed.
    """
    from jointnet_cli.evaluation.figures import publish
    from jointnet_cli.processes import leave

    if items.main:
        publish(table, folder, as_json=options.json, quiet=options.quiet)
    leave()
    if items.failed:
        raise typer.Exit(RUN_FAILED)
