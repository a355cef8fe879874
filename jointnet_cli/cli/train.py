"""`jointnet train`: one recipe, one trained model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from jointnet_cli.cli.console import RUN_FAILED, note, report_error
from jointnet_cli.cli.options import Quiet, option
from jointnet_cli.files.text import to_json

TERMINATED = 143
"""128 and the number of SIGTERM."""
Recipe = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", help="A TOML file, or a shipped recipe such as `diorama/base`.", show_default=False
    ),
]
Overrides = Annotated[
    list[str] | None,
    option(
        "--set", metavar="KEY=VALUE", help="Replace a setting of the recipe, as in `train.max_minutes=10`. Repeatable."
    ),
]


@dataclass(frozen=True)
class RunOptions:
    """How the run is kept and shown."""

    out: Annotated[
        Path | None,
        option(
            "--out", "-o", metavar="DIR", help="Folder of the run.", show_default="runs/ and the recipe's last name"
        ),
    ] = None
    resume: Annotated[bool, option("--resume/--no-resume", help="Go on from the last checkpoint in the folder.")] = True
    max_minutes: Annotated[
        float | None,
        option("--max-minutes", metavar="MINUTES", help="Time budget; replaces the recipe's.", show_default="recipe's"),
    ] = None
    json: Annotated[bool, option("--json", help="Print every log record as one JSON object a line.")] = False
    quiet: Quiet = False
    dry_run: Annotated[
        bool,
        option(
            "--dry-run",
            help="Check the recipe, data, memory and disk, print the recipe with all its defaults and stop.",
        ),
    ] = False


def train(recipe: Recipe, *, overrides: Overrides = None, run: RunOptions) -> None:
    """Train what a recipe describes and print the folder of the trained model.

    A run that was cut off goes on from its last checkpoint when the same command is given again. On several GPUs and nodes:
    `accelerate launch -m jointnet_cli train RECIPE`.
    """
    from jointnet_cli.training.recipe import load_recipe, to_toml_record

    budget = {} if run.max_minutes is None else {"train": {"max_minutes": run.max_minutes}}
    settings = load_recipe(recipe, overrides or [], budget)

    from jointnet_cli.training.interruptions import RunFailed, Terminated
    from jointnet_cli.training.run import train as run_recipe

    try:
        folder = run_recipe(
            settings,
            out=run.out or Path("runs", Path(recipe).stem),
            resume=run.resume,
            dry_run=run.dry_run,
            log=_logger(run),
        )
    except RunFailed as fault:
        report_error(fault)
        raise typer.Exit(RUN_FAILED) from None
    except Terminated:
        note("terminated")
        raise typer.Exit(TERMINATED) from None
    if not run.dry_run:
        from jointnet_cli.processes import leave

        leave()
    if not _speaks():
        return
    plan = to_toml_record(settings) if run.dry_run else {}
    if run.json:
        print(to_json({"model": str(folder), **({"recipe": plan} if plan else {})}))
    else:
        print(*_lines(plan), folder, sep="\n")


def _speaks() -> bool:
    """Return whether this is the only process, or the first of those that a launcher started."""
    return os.environ.get("RANK", "0") == "0"


def _logger(run: RunOptions) -> Callable[[dict[str, Any]], None]:
    if run.json:
        return lambda record: print(to_json(record), flush=True)
    return lambda record: note("  ".join(f"{key} {_short(value)}" for key, value in record.items()), run.quiet)


def _lines(settings: dict[str, Any], table: str = "") -> Iterator[str]:
    """Yield the settings in the form that `--set` takes."""
    from jointnet_cli.recipe_file import toml_value

    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _lines(value, f"{table}{key}.")
        else:
            yield f"{table}{key}={toml_value(value)}"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
