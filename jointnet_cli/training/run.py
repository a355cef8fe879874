"""From a recipe to a trained model folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jointnet_cli.data.shards import find_shards
from jointnet_cli.errors import UserError
from jointnet_cli.model.folder import read_folder
from jointnet_cli.training.recipe import BaseRecipe, JointRecipe, VaeRecipe, read_record, to_toml_record

if TYPE_CHECKING:
    from jointnet_cli.training.stage import Stage

BUDGET = {"max_steps", "max_minutes", "log_every", "checkpoint_minutes", "preview_minutes"}
Log = Callable[[dict[str, Any]], None]


def train(
    recipe: VaeRecipe | BaseRecipe | JointRecipe,
    *,
    out: Path,
    resume: bool = True,
    dry_run: bool = False,
    log: Log = lambda line: None,
) -> Path:
    """Run a recipe in the folder `out`, going on from its newest checkpoint, and return the model folder.

    Raises:
        UserError: the run folder belongs to another recipe, or something the recipe names is missing.
    """
    record = to_toml_record(recipe)
    _check_run_folder(out, record, resume)
    _check_inputs(recipe)
    if dry_run:
        return out / "model"
    out.mkdir(parents=True, exist_ok=True)
    stage = open_stage(recipe, out, log)
    (out / "recipe.json").write_text(json.dumps(record, indent=2))
    from jointnet_cli.training.trainer import Trainer

    return Trainer(stage, out, log).fit(resume=resume)


def open_stage(recipe: VaeRecipe | BaseRecipe | JointRecipe, run: Path, log: Log) -> Stage:
    """The stage that a recipe asks for, with its data and networks loaded."""
    if isinstance(recipe, VaeRecipe):
        from jointnet_cli.training.vae import VaeStage

        return VaeStage(recipe)
    if isinstance(recipe, BaseRecipe):
        from jointnet_cli.training.base import BaseStage

        return BaseStage(recipe, log, run)
    from jointnet_cli.training.joint import JointStage

    return JointStage(recipe, log)


def _without_budget(record: dict[str, Any]) -> dict[str, Any]:
    """A recipe less what may change between the pieces of a run."""
    return {**record, "train": {key: value for key, value in record["train"].items() if key not in BUDGET}}


def _check_inputs(recipe: VaeRecipe | BaseRecipe | JointRecipe) -> None:
    """What a recipe starts from must be there before anything is written."""
    find_shards(recipe.data.shards)
    if isinstance(recipe, VaeRecipe):
        vae, model = recipe.start, None
    elif isinstance(recipe, BaseRecipe):
        vae, model = recipe.vae, recipe.start
    else:
        vae, model = None, recipe.model
    if vae and not (Path(vae) / "config.json").is_file():
        raise UserError(f"no trained VAE in {vae}", hint="train one first: jointnet train diorama/vae")
    if model:
        read_folder(Path(model))


def _check_run_folder(out: Path, record: dict[str, Any], resume: bool) -> None:
    before = out / "recipe.json"
    if not before.exists():
        return
    if not resume:
        raise UserError(f"{out} holds a run already", hint="give --resume to go on with it, or another --out")
    # Read as a recipe, so that a key that is new since then has its default.
    old = to_toml_record(read_record(json.loads(before.read_text())))
    if _without_budget(old) != _without_budget(record):
        raise UserError(f"{out} holds a run of another recipe", hint="choose another --out")
