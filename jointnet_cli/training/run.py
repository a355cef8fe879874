"""From a recipe to a trained model folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jointnet_cli.files.atomic import write_text
from jointnet_cli.files.text import to_json
from jointnet_cli.training.inputs import Inputs, find_inputs
from jointnet_cli.training.optimizers import require_optimizer
from jointnet_cli.training.preflight import preflight
from jointnet_cli.training.recipe import BaseRecipe, JointRecipe, VaeRecipe, to_toml_record
from jointnet_cli.training.runs import Log, check_run_folder, require_trackers

if TYPE_CHECKING:
    from jointnet_cli.training.stages.stage import Stage


def train(
    recipe: VaeRecipe | BaseRecipe | JointRecipe,
    *,
    out: Path,
    resume: bool = True,
    dry_run: bool = False,
    log: Log = lambda line: None,
) -> Path:
    """Run a recipe in the folder `out`, going on from its newest checkpoint, and return the model folder.

    Under `accelerate launch` every process calls this; only the main one writes files and the log. A dry run logs what
    `preflight` finds, reads no weights and writes nothing; another logs only its warnings.

    Raises:
        UserError: the run folder belongs to another recipe, or something the recipe names is missing.
        RunFailed: the training cannot go on as it is set.
    """
    record = to_toml_record(recipe)
    check_run_folder(out, record, resume)
    require_trackers(recipe.train)
    require_optimizer(recipe.train)
    streamed = isinstance(recipe, JointRecipe) and not recipe.data.cache and not dry_run
    inputs = find_inputs(recipe, (lambda done, count: log({"counted": done, "shards": count})) if streamed else None)
    checks = preflight(inputs, out, partial(open_stage, recipe, inputs, out, weights=False))
    if dry_run:
        for check in checks:
            log(check.record)
        return out / "model"
    from jointnet_cli.processes import open_accelerator, require_shared_folder
    from jointnet_cli.training.trainer import Trainer

    accelerator = open_accelerator(recipe.train.mixed_precision, recipe.train.trackers, out)
    if accelerator.is_main_process:
        for check in checks:
            if check.warning:
                log(check.record)
        out.mkdir(parents=True, exist_ok=True)
    else:
        log = _ignore
    require_shared_folder(accelerator, out)
    with accelerator.main_process_first():  # which encodes and learns what the others then read
        stage = open_stage(recipe, inputs, out, log)
        if accelerator.is_main_process:
            write_text(out / "recipe.json", to_json(record, indent=2))
    return Trainer(stage, out, log, record, accelerator).fit(resume=resume)


def open_stage(
    recipe: VaeRecipe | BaseRecipe | JointRecipe,
    inputs: Inputs,
    run: Path,
    log: Log = lambda line: None,
    *,
    weights: bool = True,
) -> Stage:
    """Open the stage that a recipe asks for, with its data and networks loaded; without `weights` in its shapes alone."""
    if isinstance(recipe, VaeRecipe):
        from jointnet_cli.training.stages.vae import VaeStage

        return VaeStage(recipe, inputs, weights=weights)
    if isinstance(recipe, BaseRecipe):
        from jointnet_cli.training.stages.base import BaseStage

        return BaseStage(recipe, inputs, log, run, weights=weights)
    from jointnet_cli.training.stages.joint import JointStage

    return JointStage(recipe, inputs, log, weights=weights)


def _ignore(line: dict[str, Any]) -> None:
    pass
