"""What a recipe names and this machine has not got, found without loading and without the network."""

from __future__ import annotations

from pathlib import Path

from jointnet_cli.data.labels.specs import parse_spec
from jointnet_cli.data.shards.index import list_shards
from jointnet_cli.errors import UserError
from jointnet_cli.model.folder import read_folder
from jointnet_cli.model.hub import is_hub_id, models_home
from jointnet_cli.training.recipe import BaseRecipe, JointRecipe, VaeRecipe


def missing_inputs(recipe: VaeRecipe | BaseRecipe | JointRecipe) -> list[str]:
    """One line each for shards, models and teachers that are not on this machine. What lies elsewhere is not looked up."""
    found = [_shards(recipe.data.shards)]
    if isinstance(recipe, VaeRecipe):
        found += [missing_vae(recipe.start)]
    elif isinstance(recipe, BaseRecipe):
        found += [missing_vae(recipe.vae), _model(recipe.start)]
    else:
        found += [_model(recipe.model), *(_teacher(*label) for label in recipe.data.label.items())]
    return [line for line in found if line]


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
