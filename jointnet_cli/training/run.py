"""From a recipe to a trained model folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jointnet_cli.files.atomic import write_text
from jointnet_cli.files.text import to_json
from jointnet_cli.training.preflight import preflight, require_inputs
from jointnet_cli.training.recipe import BaseRecipe, JointRecipe, VaeRecipe, to_toml_record
from jointnet_cli.training.runs import Log, _check_run_folder

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
    _check_run_folder(out, record, resume)
    require_inputs(recipe)
    if dry_run:
        for finding in preflight(recipe, out):
            log(finding.record)
        return out / "model"
    from jointnet_cli.processes import open_accelerator, require_shared_folder
    from jointnet_cli.training.trainer import Trainer

    accelerator = open_accelerator(recipe.train.mixed_precision, recipe.train.trackers, out)
    if accelerator.is_main_process:
        for finding in preflight(recipe, out):
            if finding.warning:
                log(finding.record)
        out.mkdir(parents=True, exist_ok=True)
    else:
        log = _ignore
    require_shared_folder(accelerator, out)
    with accelerator.main_process_first():  # which encodes and learns what the others then read
        stage = open_stage(recipe, out, log)
        if accelerator.is_main_process:
            write_text(out / "recipe.json", to_json(record, indent=2))
    return Trainer(stage, out, log, record, accelerator).fit(resume=resume)


def open_stage(recipe: VaeRecipe | BaseRecipe | JointRecipe, run: Path, log: Log) -> Stage:
    """The stage that a recipe asks for, with its data and networks loaded."""
    if isinstance(recipe, VaeRecipe):
        from jointnet_cli.training.stages.vae import VaeStage

        return VaeStage(recipe)
    if isinstance(recipe, BaseRecipe):
        from jointnet_cli.training.stages.base import BaseStage

        return BaseStage(recipe, log, run)
    from jointnet_cli.training.stages.joint import JointStage

    return JointStage(recipe, log)


def _ignore(line: dict[str, Any]) -> None:
    pass
