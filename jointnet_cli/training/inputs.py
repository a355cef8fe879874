"""Find the shards, models and teachers of a recipe, once, and say what to do about those that are missing."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from jointnet_cli.data.labels.specs import parse_spec
from jointnet_cli.data.shards.index import list_shards
from jointnet_cli.data.shards.shard_set import ShardSet
from jointnet_cli.errors import UserError
from jointnet_cli.modality import RGB
from jointnet_cli.model.folder import EMBEDDED, ModelFolder, is_published, read_folder
from jointnet_cli.model.hub import (
    DIORAMA,
    DIORAMA_BASE,
    fetch_configuration,
    find_model,
    is_cached,
    is_hub_id,
    local_folder,
)
from jointnet_cli.model.jointnet_json import JOINTNET
from jointnet_cli.progress import Progress
from jointnet_cli.training.recipe import BaseRecipe, JointRecipe, Recipe, VaeRecipe

WORLDS, SIZE, SAMPLES = "shards/worlds", 128, 128
"""The small set of rendered worlds that a hint makes: its folder, and the side and number of its images."""


@dataclass(frozen=True)
class Inputs:
    """The shards and models of a recipe. Shards are opened and counted on first use, once a process."""

    recipe: Recipe
    model: ModelFolder | None = None
    """The model to start from, as its JSON files describe it; weights may still have to be fetched."""
    vae: Path | None = None
    """The folder of the VAE to start from."""
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
        return min(self.shards.image_size)

    def require_model(self) -> ModelFolder:
        """Return the model of a recipe that always has one."""
        if self.model is None:
            raise ValueError("this recipe starts from no model")
        return self.model

    def require_vae(self) -> Path:
        """Return the VAE of a recipe that always has one."""
        if self.vae is None:
            raise ValueError("this recipe starts from no VAE")
        return self.vae


@dataclass(frozen=True)
class Missing:
    """An input that is not on this machine."""

    key: str
    """The setting that names it."""
    description: str
    remote: bool = False
    """Whether it can be fetched from the hub or a URL."""


def find_inputs(recipe: Recipe, name: str = "RECIPE", progress: Progress | None = None) -> Inputs:
    """Find everything that a recipe starts from, and check that the model fits the recipe. No shard is opened yet.

    Args:
        recipe: the settings of the run.
        name: the recipe as the user named it, for hints.
        progress: called while samples are counted.

    Raises:
        UserError: an input is missing, or the model does not fit; the hint is a command that works on this machine.
    """
    missing = list(missing_inputs(recipe))
    if not all(each.remote for each in missing):
        words = "; ".join(each.description for each in missing)
        raise UserError(words, hint=_offline_hint(recipe, name, missing))
    vae, model = _names(recipe)
    found = None
    try:
        if model:
            found = find_model(model, recipe.base if isinstance(recipe, JointRecipe) else None, weights=False)
        for modality, teacher in recipe.data.label.items():
            source = parse_spec(f"{modality}={teacher}").source
            if not Path(source).exists():
                fetch_configuration(source)
    except UserError as fault:
        remote = [each for each in missing if each.key != "data.shards"]
        raise UserError(str(fault), hint=_offline_hint(recipe, name, remote) if remote else fault.hint) from fault
    if found and isinstance(recipe, JointRecipe):
        check_network(recipe, found)
    return Inputs(recipe, found, vae_folder(vae) if vae else None, progress)


def check_network(recipe: JointRecipe, model: ModelFolder) -> None:
    """Check that a recipe can extend a base model, or continue a joint model.

    Raises:
        UserError: the joint model has other branches or another architecture, or it cannot work on images of that size.
    """
    if (size := recipe.data.size) and (nearest := model.nearest_side(size)) != size:
        raise UserError(f"data.size {size} is not a multiple of {model.unit}", hint=f"--set data.size={nearest}")
    if model.branches == [RGB]:
        return
    if model.branches != recipe.data.maps:
        maps = ", ".join(f"'{name}'" for name in model.branches)
        raise UserError(
            f"{recipe.model} has the branches {', '.join(model.branches)}, data.maps names {', '.join(recipe.data.maps)}",
            hint=f'--set "data.maps=[{maps}]", or start from a base model such as --set model={DIORAMA_BASE}',
        )
    if model.architecture != recipe.network.architecture:
        raise UserError(
            f"{recipe.model} has the architecture {model.architecture}, the recipe asks for {recipe.network.architecture}",
            hint=f"--set network.architecture={model.architecture}",
        )


def missing_inputs(recipe: Recipe) -> Iterator[Missing]:
    """Yield the shards, models and teachers that are not on this machine, without the network."""
    if missing := _missing_shards(recipe.data.shards):
        yield missing
    vae, model = _names(recipe)
    if vae and not (vae_folder(vae) / "config.json").is_file():
        yield Missing("vae" if isinstance(recipe, BaseRecipe) else "start", f"no trained VAE in {vae}")
    joint = isinstance(recipe, JointRecipe)
    if model and (missing := _missing_model(model, "model" if joint else "start") or _missing_base(model, recipe)):
        yield missing
    for modality, teacher in recipe.data.label.items():
        try:
            source = parse_spec(f"{modality}={teacher}").source
        except UserError as fault:
            yield Missing("data.label", str(fault))
            continue
        if not Path(source).exists() and not is_cached(source, "config.json"):
            yield Missing("data.label", f"the teacher {source} comes from the hub", remote=True)


def vae_folder(name: str) -> Path:
    """Return the folder of a VAE; `diorama` is that of the embedded model."""
    return EMBEDDED / "vae" if name == DIORAMA else Path(name)


def _names(recipe: Recipe) -> tuple[str | None, str | None]:
    """Return the VAE and the model that a recipe starts from."""
    if isinstance(recipe, VaeRecipe):
        return recipe.start, None
    return (recipe.vae, recipe.start) if isinstance(recipe, BaseRecipe) else (None, recipe.model)


def _missing_shards(source: str) -> Missing | None:
    if "://" in source:
        return Missing("data.shards", f"shards at {source}, which is not looked up", remote=True)
    try:
        list_shards(source)
    except UserError as fault:
        return Missing("data.shards", str(fault))
    return None


def _missing_model(name: str, key: str) -> Missing | None:
    folder = local_folder(name)
    if folder is None:
        if is_hub_id(name):
            found = is_cached(name, "model_index.json")
            return None if found else Missing(key, f"the model {name} comes from the hub", remote=True)
        return Missing(key, f"no model in {name}")
    try:
        find_model(name, DIORAMA, weights=False)
    except UserError as fault:
        return Missing(key, str(fault))
    return None


def _missing_base(name: str, recipe: Recipe) -> Missing | None:
    """Return the base of a model in the published layout where it is missing; another model replaces both."""
    folder, base = local_folder(name), recipe.base if isinstance(recipe, JointRecipe) else None
    if folder is None or not is_published(folder):
        return None
    if base is None:
        return Missing(
            "model", f"{name} is in the published layout, which holds no base model: --set base=NAME names it"
        )
    return _missing_model(base, "model")


def _offline_hint(recipe: Recipe, name: str, missing: list[Missing]) -> str:
    """Return commands that run the recipe on this machine without the network, with what is built in."""
    replaced = {each.key for each in missing}
    changes: dict[str, object] = {}
    if replaced & {"data.shards", "data.label"}:
        changes["data.shards"] = WORLDS
    changes |= {key: _replacement(recipe) for key in ("vae", "start", "model") if key in replaced}
    if "data.label" in replaced:
        changes["data.label"] = "{}"  # worlds have all maps
    if replaced & {"data.shards", "model"} and recipe.data.size not in (None, SIZE):
        changes["data.size"] = SIZE
    if recipe.train.mixed_precision != "no" and not _has_gpu():
        changes["train.mixed_precision"] = "no"  # most processors compute bfloat16 several times slower than float32
    prepare = ""
    if "data.shards" in changes and _missing_shards(WORLDS):
        prepare = f"jointnet prepare worlds --count {SAMPLES} --size {SIZE} --out {WORLDS} && "
    if recipe.data.shards == WORLDS:
        changes.pop("data.shards", None)
    settings = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    budget = ["--max-minutes", "5"] if recipe.train.max_minutes is None else []
    return f"to try it without the network: {prepare}{shlex.join(['jointnet', 'train', name, *settings, *budget])}"


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _replacement(recipe: Recipe) -> str:
    """Return the built-in model that a recipe can start from: all of `diorama` where the recipe continues such a model."""
    if not isinstance(recipe, JointRecipe):
        return DIORAMA
    continues = recipe.masked_input and recipe.network.architecture == JOINTNET
    return DIORAMA if continues and recipe.data.maps == read_folder(EMBEDDED).branches else DIORAMA_BASE
