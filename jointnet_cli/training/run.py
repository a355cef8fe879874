"""From a recipe to a trained model folder."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jointnet_cli.files.atomic import write_text
from jointnet_cli.files.text import to_json
from jointnet_cli.training.inputs import Inputs, find_inputs
from jointnet_cli.training.optimizers import require_optimizer
from jointnet_cli.training.preflight import preflight
from jointnet_cli.training.recipe import BaseRecipe, Recipe, VaeRecipe, to_toml_record
from jointnet_cli.training.runs import Log, OnStep, check_run_folder, require_trackers, run_folder, set_run_aside

if TYPE_CHECKING:
    from jointnet_cli.training.stages.stage import Stage


def train(
    recipe: Recipe,
    *,
    out: Path,
    name: str = "RECIPE",
    resume: bool = True,
    dry_run: bool = False,
    log: Log = lambda line: None,
    on_step: OnStep = lambda step, progress, losses: None,
) -> Path:
    """Run a recipe in the folder `out`, continuing from its newest checkpoint, and return the model folder.

    Under `accelerate launch` every process calls this; only the main one writes files and the log. A dry run logs what
    `preflight` finds, reads no weights and writes nothing; a training logs only its warnings.

    Args:
        recipe: the settings.
        out: the run folder.
        name: the recipe as the user named it, for hints.
        resume: whether to continue a run that the folder holds; otherwise it is refused, or, damaged, set aside.
        dry_run: only check.
        log: receives every record.
        on_step: receives every step; see `OnStep`.

    Raises:
        UserError: the run folder belongs to another recipe or is in use, or something that the recipe names is missing.
        RunFailed: the training cannot continue with these settings.
    """
    record = to_toml_record(recipe)
    check_run_folder(out, record, resume)
    require_trackers(recipe.train)
    require_optimizer(recipe.train)
    progress = (
        (lambda done, count: log({"counted": done, "shards": count})) if recipe.streamed and not dry_run else None
    )
    inputs = find_inputs(recipe, name, progress)
    checks = preflight(inputs, out, partial(open_stage, recipe, inputs, out, weights=False))
    if dry_run:
        for check in checks:
            log(check.record)
        return out / "model"
    from jointnet_cli.processes import open_accelerator, require_shared_folder
    from jointnet_cli.training.trainer import Trainer

    accelerator = open_accelerator(recipe.train.mixed_precision, recipe.train.trackers, out)
    main = accelerator.is_main_process
    if not main:
        log = _ignore
    for check in checks if main else ():
        if check.warning:
            log(check.record)
    with run_folder(out) if main else nullcontext():
        if main and not resume:
            set_run_aside(out)
        require_shared_folder(accelerator, out)
        with accelerator.main_process_first():  # which encodes and learns what the others then read
            stage = open_stage(recipe, inputs, out, log)
            if main:
                write_text(out / "recipe.json", to_json(record, indent=2))
        return Trainer(stage, out, log, record, accelerator, on_step).fit()


def open_stage(
    recipe: Recipe, inputs: Inputs, run: Path, log: Log = lambda line: None, *, weights: bool = True
) -> Stage:
    """Open the stage of a recipe with its data and networks; without `weights` the networks are shapes without values."""
    if isinstance(recipe, VaeRecipe):
        from jointnet_cli.training.stages.vae import VaeStage

        return VaeStage(recipe, inputs, log, weights=weights)
    if isinstance(recipe, BaseRecipe):
        from jointnet_cli.training.stages.base import BaseStage

        return BaseStage(recipe, inputs, log, run, weights=weights)
    from jointnet_cli.training.stages.joint import JointStage

    return JointStage(recipe, inputs, log, weights=weights)


def _ignore(line: dict[str, Any]) -> None:
    pass
