"""What a recipe starts from, found once; and what of it this machine lacks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from jointnet_cli.data.labels.specs import parse_spec
from jointnet_cli.data.shards.index import list_shards
from jointnet_cli.data.shards.shard_set import ShardSet
from jointnet_cli.errors import UserError
from jointnet_cli.model.folder import ModelFolder, read_folder
from jointnet_cli.model.hub import find_model, is_hub_id, models_home
from jointnet_cli.progress import Progress
from jointnet_cli.training.recipe import BaseRecipe, JointRecipe, VaeRecipe


@dataclass(frozen=True)
class Inputs:
    """The shards and the model of a recipe. Shards are opened and counted on first use, once a process."""

    recipe: VaeRecipe | BaseRecipe | JointRecipe
    model: ModelFolder | None = None
    """The model to go on from, as its JSON files state it; weights may still have to be fetched."""
    progress: Progress | None = None
    """Called while samples are counted."""

    @cached_property
    def shards(self) -> ShardSet:
        """The samples.

        Raises:
            UserError: there are no shards.
        """
        return ShardSet.open(self.recipe.data.shards, self.recipe.data.limit, self.progress)

    @cached_property
    def side(self) -> int:
        """Side of the square training images in pixels; one sample is read where only the shards tell."""
        recipe = self.recipe
        if isinstance(recipe, JointRecipe) and not recipe.data.cache:
            return recipe.data.size or self.require_model().size
        if isinstance(recipe, VaeRecipe) and recipe.data.crop:
            return recipe.data.crop
        return int(min(self.shards.sample(0).image.shape[:2]))

    def require_model(self) -> ModelFolder:
        """Return the model that a joint recipe always has."""
        if self.model is None:
            raise ValueError("this recipe starts from no model")
        return self.model


def find_inputs(recipe: VaeRecipe | BaseRecipe | JointRecipe, progress: Progress | None = None) -> Inputs:
    """Find what a recipe starts from; no shard is opened yet.

    Raises:
        UserError: a model is missing.
    """
    vae, model = _start(recipe)
    if fault := missing_vae(vae):
        raise UserError(fault, hint="train one first: jointnet train diorama/vae")
    base = recipe.base if isinstance(recipe, JointRecipe) else None
    return Inputs(recipe, find_model(model, base, weights=False) if model else None, progress)


def missing_inputs(recipe: VaeRecipe | BaseRecipe | JointRecipe) -> list[str]:
    """Report shards, models and teachers that are not on this machine, one line each, without the network."""
    vae, model = _start(recipe)
    found = [_shards(recipe.data.shards), missing_vae(vae), _model(model)]
    found += [_teacher(*label) for label in recipe.data.label.items()]
    return [line for line in found if line]


def _start(recipe: VaeRecipe | BaseRecipe | JointRecipe) -> tuple[str | None, str | None]:
    """Return the folder of a VAE, and the model, that a recipe starts from."""
    if isinstance(recipe, VaeRecipe):
        return recipe.start, None
    return (recipe.vae, recipe.start) if isinstance(recipe, BaseRecipe) else (None, recipe.model)


def _shards(source: str) -> str | None:
    if "://" in source:
        return f"shards at {source}, which is not looked up"
    if "{" in source:
        return None
    try:
        list_shards(source)
    except UserError as fault:
        return str(fault)
    return None


def missing_vae(folder: str | None) -> str | None:
    """That a folder, if there is to be one, holds no trained VAE."""
    there = folder is None or (Path(folder) / "config.json").is_file()
    return None if there else f"no trained VAE in {folder}"


def _model(name: str | None) -> str | None:
    if name is None or name == "diorama":
        return None
    folder = Path(name) if Path(name).exists() else models_home() / name
    if folder.is_file():
        return None
    if not folder.is_dir():
        return f"model {name} comes from the hub" if is_hub_id(name) else f"no model in {name}"
    try:
        read_folder(folder)
    except UserError as fault:
        return str(fault)
    return None


def _teacher(modality: str, teacher: str) -> str | None:
    try:
        parse_spec(f"{modality}={teacher}")
    except UserError as fault:
        return str(fault)
    return None
