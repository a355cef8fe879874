"""`jointnet train`: train a model as a recipe describes."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from jointnet_cli.cli.console import INTERRUPTED, RUN_FAILED, note, report_error
from jointnet_cli.cli.options import command_app
from jointnet_cli.cli.training_progress import training_progress
from jointnet_cli.files.paths import check_folder
from jointnet_cli.files.text import print_paths, to_json
from jointnet_cli.params import QUIET, Param

TERMINATED = 143
"""128 and the number of SIGTERM."""
Recipe = Annotated[
    str,
    Param(
        "A TOML file, or a shipped recipe such as `diorama/base`.",
        "RECIPE",
        shown=False,
        complete="recipe",
        argument=True,
    ),
]
Overrides = Annotated[
    list[str] | None,
    Param("Replace a setting of the recipe, as in `train.max_minutes=10`. Repeatable.", "KEY=VALUE", flag="--set"),
]


@dataclass(frozen=True)
class RunOptions:
    """Where a run is kept, and how it is shown."""

    out: Annotated[
        Path | None,
        Param("Folder of the run.", "DIR", flag="--out -o", out=True, shown="runs/ and the recipe's last name"),
    ] = None
    resume: Annotated[
        bool,
        Param(
            "Continue the run that the folder holds from its last checkpoint; start one if it holds none. "
            "`--no-resume` starts at step 0 where all checkpoints are damaged, and refuses a folder that holds any other run.",
        ),
    ] = True
    max_minutes: Annotated[
        float | None,
        Param("Time budget; replaces the recipe's.", "MINUTES", shown="recipe's"),
    ] = None
    json: Annotated[bool, Param("Print every log record as one JSON object a line.", flag="--json")] = False
    quiet: Annotated[bool, QUIET] = False
    dry_run: Annotated[
        bool,
        Param(
            "Check the recipe, data, memory and disk, print the recipe with all its defaults and stop.",
            flag="--dry-run",
        ),
    ] = False


def train(recipe: Recipe, *, overrides: Overrides = None, run: RunOptions) -> None:
    """Train a model as a recipe describes, and print its folder.

    The same command, given again, continues a run that was interrupted. Only budgets, logging, previews and the number of
    samples that are computed at once may change. On several GPUs and nodes:
    `accelerate launch -m jointnet_cli train RECIPE`.
    """
    from jointnet_cli.training.recipe import load_recipe, to_toml_record

    out = run.out or Path("runs", Path(recipe).stem)
    check_folder(out)
    budget = {} if run.max_minutes is None else {"train": {"max_minutes": run.max_minutes}}
    settings = load_recipe(recipe, overrides or [], budget)

    from jointnet_cli.signals import Terminated
    from jointnet_cli.training.failures import RunFailed
    from jointnet_cli.training.run import train as run_recipe

    batch = settings.train.batch_size * settings.train.accumulation * int(os.environ.get("WORLD_SIZE", "1"))
    try:
        with training_progress(settings.stage, batch, as_json=run.json, quiet=run.quiet or not _speaks()) as shown:
            folder = run_recipe(
                settings,
                out=out,
                name=recipe,
                resume=run.resume,
                dry_run=run.dry_run,
                log=shown.log,
                on_step=shown.step,
            )
    except RunFailed as fault:
        report_error(fault)
        raise typer.Exit(RUN_FAILED) from None
    except KeyboardInterrupt as stop:
        if _speaks():
            note(f"{'terminated' if isinstance(stop, Terminated) else 'interrupted'}: {_saved(out)}")
            note(f"continue with: {_command(recipe, overrides or [], run)}")
        raise typer.Exit(TERMINATED if isinstance(stop, Terminated) else INTERRUPTED) from None
    if not run.dry_run:
        from jointnet_cli.processes import leave

        leave()
        if not shown.last:
            note(f"{out} is trained already; a larger train.max_steps or --max-minutes continues it", run.quiet)
    if not _speaks():
        return
    plan = to_toml_record(settings) if run.dry_run else {}
    if run.json:
        print(to_json({"model": str(folder), **({"recipe": plan} if plan else {})}))
    else:
        print(*_lines(plan), sep="\n", end="\n" * bool(plan))
        print_paths(folder)


def _speaks() -> bool:
    """Return whether this is the only process, or the first that a launcher started."""
    return os.environ.get("RANK", "0") == "0"


def _saved(out: Path) -> str:
    """Return what a run folder holds to continue from."""
    steps = sorted(int(path.name) for path in (out / "state").glob("*") if path.name.isdecimal())
    return f"step {steps[-1]:,} is saved in {out / 'state' / f'{steps[-1]:09}'}" if steps else "no step is saved yet"


def _command(recipe: str, overrides: list[str], run: RunOptions) -> str:
    """Return the command that continues a run."""
    words = ["jointnet", "train", recipe]
    for override in overrides:
        words += ["--set", override]
    if run.max_minutes is not None:
        words += ["--max-minutes", f"{run.max_minutes:g}"]
    return shlex.join([*words, *(["--out", str(run.out)] if run.out else [])])


def _lines(settings: dict[str, Any], table: str = "") -> Iterator[str]:
    """Yield the settings in the form that `--set` takes."""
    from jointnet_cli.recipe_file import toml_value

    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _lines(value, f"{table}{key}.")
        else:
            yield f"# {table}{key} is not set" if value is None else f"{table}{key}={toml_value(value)}"


app = command_app({"train": (train, "jointnet train diorama/joint-depth --set model=diorama/base --max-minutes 30")})
