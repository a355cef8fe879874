"""The published JointNet layout: two UNets with further keys, read, imported and exported.

    unet/         the RGB branch: config.json (`_class_name: JointNetModel`), diffusion_pytorch_model.{safetensors,bin}
    jointnet/     the other branch, likewise

VAE, text encoder, tokenizer and scheduler are the base model's and lie elsewhere.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jointnet_cli import __version__
from jointnet_cli.errors import UserError
from jointnet_cli.files.atomic import atomic_folder
from jointnet_cli.files.paths import check_folder
from jointnet_cli.model.config import read_json, write_json
from jointnet_cli.model.folder import EXCHANGE, ModelFolder, branch_folder
from jointnet_cli.model.jointnet_json import JOINTNET, write_record
from jointnet_cli.model.weights import find_weights, read_tensors

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from torch import Tensor

PREFIX = "jointnet_"
OWN = {"has_masked_latent_input", "joint_in_channels"}
"""Keys of the configuration that are not the UNet's."""
WEIGHTS = "diffusion_pytorch_model.safetensors"


def module_names(branch: str, other: str) -> dict[str, str]:
    """Return the published name of every module that a branch's file holds beside its UNet, and its name here.

    Skips and middle are stored with their sender, the input exchange and the masked input with their receiver.
    """
    return {
        "jointnet_rgb_in_trans": f"exchange.{other}_to_{branch}.input",
        "jointnet_down_blocks": f"exchange.{branch}_to_{other}.skips",
        "jointnet_mid_block": f"exchange.{branch}_to_{other}.middle",
        "jointnet_masked_latent_conv": f"masked.{branch}",
    }


def read_branches(model: ModelFolder) -> tuple[dict[str, UNet2DConditionModel], dict[str, Tensor]]:
    """Return the UNets of a model in the published layout, and the tensors of its exchange and masked input.

    Raises:
        UserError: weights that are missing, damaged or more than tensors.
        RuntimeError: weights that do not fit the configuration.
    """
    import torch
    from diffusers import UNet2DConditionModel

    unets, joint = {}, {}
    for name in model.branches:
        own, exchanged = _split(model, name)
        with torch.device("meta"):  # no memory for what the configuration states and the file lacks
            unet = UNet2DConditionModel.from_config(_base_config(_config(model, name)))
        unet.load_state_dict({key: value.float() for key, value in own.items()}, assign=True)
        unets[name] = unet
        joint.update(exchanged)
    return unets, joint


def import_model(model: ModelFolder, folder: Path, origin: Mapping[str, str]) -> None:
    """Write a model in the published layout, with its base, as a folder of our own format.

    Tensors, their types and the configurations stay as they are. `origin` (source and base, as the user named them) goes into
    the records.

    Raises:
        UserError: not in the published layout, something is there already, or weights are missing or damaged.
    """
    if not model.published:
        raise UserError(f"{model.path} is not in the published layout", hint="it needs no import: use it as --model")
    _require_free(folder)
    from safetensors.torch import save_file

    with atomic_folder(folder) as new:
        _copy_base(model, new)
        joint: dict[str, Tensor] = {}
        for name in model.branches:
            place = branch_folder(name)
            own, exchanged = _split(model, name)
            joint.update(exchanged)
            (new / place).mkdir(parents=True)
            write_json(new / place / "config.json", _base_config(_config(model, name)))
            save_file(own, new / place / WEIGHTS, metadata={"format": "pt"})
        save_file(joint, new / EXCHANGE)
        imported = {**origin, "hash": model.weights_hash(), "version": __version__}
        write_record(
            new,
            branches=model.branches,
            masked_input=model.masked_input,
            defaults={},
            provenance={"imported": imported},
        )


def export_model(model: ModelFolder, folder: Path) -> None:
    """Write the branches of a model of two in the published layout; the base stays where it is.

    Raises:
        UserError: another architecture, not two branches, something is there already, or weights are missing or damaged.
    """
    if model.architecture != JOINTNET:
        raise UserError(
            f"{model.path} has the architecture {model.architecture}",
            hint=f"the published layout holds {JOINTNET} alone",
        )
    if model.published or len(model.branches) != 2:
        state = "is in the published layout already" if model.published else f"has branches {', '.join(model.branches)}"
        hint = "the published layout holds RGB and one other branch, as `jointnet train diorama/joint-depth` makes them"
        raise UserError(f"{model.path} {state}", hint=hint)
    _require_free(folder)
    from safetensors.torch import save_file

    joint = read_tensors(model.path / EXCHANGE)
    with atomic_folder(folder) as new:
        for (name, place), target in zip(model.backbones.items(), ("unet", "jointnet"), strict=True):
            other = next(branch for branch in model.branches if branch != name)
            exchanged = _renamed(joint, {ours: theirs for theirs, ours in module_names(name, other).items()})
            config = _config(model, name)
            further = {"has_masked_latent_input": model.masked_input, "joint_in_channels": None}
            (new / target).mkdir()
            write_json(new / target / "config.json", {**config, "_class_name": "JointNetModel", **further})
            tensors = {**_tensors(model.path / place), **exchanged}
            save_file(tensors, new / target / WEIGHTS, metadata={"format": "pt"})


def _split(model: ModelFolder, name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the tensors of a branch's own UNet, and those of the modules beside it under our names."""
    other = next(branch for branch in model.branches if branch != name)
    tensors = _tensors(model.path / model.backbones[name])
    own = {key: value for key, value in tensors.items() if not key.startswith(PREFIX)}
    return own, _renamed(tensors, module_names(name, other))


def _renamed(tensors: Mapping[str, Tensor], modules: Mapping[str, str]) -> dict[str, Tensor]:
    """Return the tensors of some modules, with the modules' names replaced."""
    return {
        new + key[len(old) :]: value
        for old, new in modules.items()
        for key, value in tensors.items()
        if key.startswith(f"{old}.")
    }


def _tensors(folder: Path) -> dict[str, Tensor]:
    weights = find_weights(folder)
    if weights is None:
        raise UserError(f"{folder} holds no weights", hint="copy or download the whole model again")
    return {key: value for path in weights.files for key, value in read_tensors(path).items()}


def _config(model: ModelFolder, name: str) -> dict[str, Any]:
    return read_json(model.path / model.backbones[name] / "config.json")


def _base_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a branch's configuration as that of the plain UNet."""
    plain = {key: value for key, value in config.items() if key not in OWN}
    return {**plain, "_class_name": "UNet2DConditionModel"}


def _copy_base(model: ModelFolder, folder: Path) -> None:
    """Copy what a joint model takes from its base: configurations, tokenizers, and one kind of weights a network."""
    shutil.copy2(model.base / "model_index.json", folder)
    for part in ("scheduler", *model.family.tokenizers, *model.family.networks):
        weights = find_weights(model.base / part)
        kept = {path.name for path in weights.files} if weights else set()
        (folder / part).mkdir()
        for path in (model.base / part).iterdir():
            if path.suffix in (".json", ".txt", ".model") or path.name in kept:
                shutil.copy2(path, folder / part)


def _require_free(folder: Path) -> None:
    if os.path.lexists(folder):
        raise UserError(f"{folder} exists already", hint="choose another --out, or remove it first")
    check_folder(folder)
