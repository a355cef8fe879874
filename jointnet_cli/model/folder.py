"""What a model folder states: its JSON files, read without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jointnet_cli.errors import UserError
from jointnet_cli.modality import RGB
from jointnet_cli.model.config import REMEDY, check_files, read_json
from jointnet_cli.model.family import Family, find_family
from jointnet_cli.model.jointnet_json import CONTROLNET_DIRECT_EXTEND, JOINTNET, LORA, read_record
from jointnet_cli.model.weights import count_parameters, find_weights, weights_hash

RANK = 16
"""Rank of a LoRA branch's adapters."""

EMBEDDED = Path(__file__).parent / "diorama"

FALLBACK = {"preset": "balanced", "guidance": 7.5}
"""Sampling defaults of a model whose folder states none."""

EXCHANGE = "exchange.safetensors"

CONTROL = "control.safetensors"


@dataclass(frozen=True)
class ModelFolder:
    """A model folder, by what its files state."""

    path: Path
    """Where the branches are."""
    base: Path
    """Where all else is: the same folder, unless the branches are in the published layout."""
    family: Family
    branches: list[str]
    """Names in branch order; RGB is the first."""
    masked_input: bool
    factor: int
    """Pixels a latent pixel stands for; 1 for a model that works on pixels."""
    window: int
    """Side of the square images the model was trained on, in latent pixels."""
    multiple: int
    """Latent sides have to be multiples of this."""
    defaults: dict[str, Any]
    """Sampling defaults: `preset`, `guidance`, and `scheduler`, `steps`, `depth_steps` where the model has its own."""
    provenance: dict[str, Any] = field(default_factory=dict)
    published: bool = False
    """Whether the branches are in the published JointNet layout, `unet/` and `jointnet/`."""
    architecture: str = JOINTNET
    """One of `ARCHITECTURES`."""
    rank: int | None = None
    """Rank of the adapters of LoRA branches; `None` for other architectures."""
    repositories: Mapping[Path, str] = field(default_factory=dict)
    """Hub repository of `path` and `base`, where they are snapshots of one; weights are fetched from it."""
    base_only: bool = False
    """Whether the folder holds further branches, which are left out."""

    @property
    def size(self) -> int:
        """Side of the square images the model was trained on, in pixels."""
        return self.window * self.factor

    @property
    def backbones(self) -> dict[str, str]:
        """The folders of the UNets that are there whole, below `path`, by their branch."""
        if self.published:
            return dict(zip(self.branches, ("unet", "jointnet"), strict=True))
        whole = self.branches if self.architecture == JOINTNET else [RGB]
        return {name: branch_folder(name) for name in whole}

    @property
    def extra_files(self) -> list[str]:
        """Files below `path` that hold weights beside the UNets' own."""
        if self.architecture == CONTROLNET_DIRECT_EXTEND:
            return [CONTROL]
        if self.architecture == LORA:
            return [EXCHANGE, *(adapters_file(name) for name in self.branches[1:])]
        exchanging = self.architecture == JOINTNET and len(self.branches) > 1 and not self.published
        return [EXCHANGE] if exchanging else []

    @property
    def networks(self) -> list[Path]:
        """The folders of all networks."""
        beside = [self.base / name for name in self.family.networks]
        return [*(self.path / place for place in self.backbones.values()), *beside]

    @property
    def tokenizer(self) -> Path:
        """The folder of the first tokenizer, and of the model's list of words if it has one."""
        return self.base / next(iter(self.family.tokenizers))

    @property
    def unit(self) -> int:
        """Sides of images have to be multiples of this, in pixels."""
        return self.factor * self.multiple

    def nearest_side(self, pixels: float) -> int:
        """Return the nearest side that the model can work on, in pixels."""
        return max(self.unit, self.unit * round(pixels / self.unit))

    def latent_side(self, pixels: int, what: str) -> int:
        """Pixels to latent pixels.

        Raises:
            UserError: no positive multiple of what the model can work on; `what` is the option to correct.
        """
        if (nearest := self.nearest_side(pixels)) != pixels:
            raise UserError(f"{what} must be a multiple of {self.unit}, got {pixels}", hint=f"--{what} {nearest}")
        return pixels // self.factor

    def weights_hash(self) -> str:
        """Return twelve hexadecimal digits that name the weights; see `weights_hash`."""
        if self.base_only:
            return weights_hash(*self.networks)
        return weights_hash(self.path) if self.base == self.path else weights_hash(self.path, self.base)


def read_folder(path: Path) -> ModelFolder:
    """Read the JSON files of a model folder.

    Raises:
        UserError: no model there, or one of another format.
    """
    if not (path / "model_index.json").is_file():
        inside = path / "model"  # of a training run
        layout = "a model folder holds model_index.json, unet/, text_encoder/, scheduler/ …"
        hint = f"did you mean {inside}?" if (inside / "model_index.json").is_file() else layout
        raise UserError(f"no model in {path}", hint=hint)
    check_files(path)
    family = find_family(read_json(path / "model_index.json", "_class_name"), str(path))
    record = read_record(path)
    unet, factor = _read_unet(path / "unet"), 1
    if family.has_vae:
        factor = pixels_per_latent(read_json(path / "vae" / "config.json", "block_out_channels"))
    folder = ModelFolder(
        path=path,
        base=path,
        family=family,
        branches=record["branches"],
        masked_input=record["masked_input"],
        factor=factor,
        window=_window(unet),
        # DeepFloyd-IF's up blocks double their input, whatever the size of the skip tensor that they meet.
        multiple=1 if family.has_vae else 2 ** (len(unet["block_out_channels"]) - 1),
        defaults={**FALLBACK, **record["defaults"]},
        provenance=record["provenance"],
        architecture=record["architecture"],
        rank=record.get("rank"),
    )
    stating = [f"{name}/config.json" for name in (*folder.backbones.values(), *family.networks)]
    stating += [f"{name}/tokenizer_config.json" for name in family.tokenizers]
    for file in [*stating, "scheduler/scheduler_config.json"]:
        _require(path, [file])
        read_json(path / file)
    if folder.architecture == LORA:
        _require(path, [adapter_config_file(name) for name in folder.branches[1:]])
    return folder


def base_of(model: ModelFolder) -> ModelFolder:
    """Return the base of a joint model that holds its base whole: its RGB branch alone, as a base to train from."""
    return replace(
        model,
        branches=[RGB],
        masked_input=False,
        defaults={key: value for key, value in model.defaults.items() if key != "depth_steps"},
        provenance={key: value for key, value in model.provenance.items() if key != "joint"},
        architecture=JOINTNET,
        rank=None,
        base_only=True,
    )


def pixels_per_latent(vae: Mapping[str, Any]) -> int:
    """Return the pixels that one latent pixel stands for, along one side, from a VAE's configuration."""
    return int(2 ** (len(vae["block_out_channels"]) - 1))


def branch_folder(branch: str) -> str:
    """Return the folder of a branch's UNet in our own format."""
    return "unet" if branch == RGB else f"branches/{branch}"


def adapters_file(branch: str) -> str:
    """Return the file of a LoRA branch's adapter weights."""
    return f"{branch_folder(branch)}/adapters.safetensors"


def adapter_config_file(branch: str) -> str:
    """Return the file that describes a LoRA branch's adapters."""
    return f"{branch_folder(branch)}/adapter_config.json"


def is_published(path: Path) -> bool:
    """Return whether a folder holds a model in the published JointNet layout."""
    return (path / "jointnet" / "config.json").is_file()


def read_published(path: Path, base: ModelFolder, modality: str) -> ModelFolder:
    """Read the JSON files of a model in the published layout.

    Args:
        path: folder with `unet/` and `jointnet/`.
        base: the base model's folder, which VAE, text encoder, tokenizer and scheduler come from.
        modality: what the branch in `jointnet/` denoises.

    Raises:
        UserError: the folder is incomplete, or its branches differ in their channels.
    """
    check_files(path)
    config = _read_unet(path / "unet")
    if _read_unet(path / "jointnet")["in_channels"] != config["in_channels"]:
        raise UserError(f"the branches in {path} differ in their channels", hint="this layout is not supported")
    return replace(
        base,
        path=path,
        branches=[RGB, modality],
        masked_input=bool(config.get("has_masked_latent_input")),
        window=_window(config),
        defaults=FALLBACK,
        provenance={},
        published=True,
        architecture=JOINTNET,
        rank=None,
    )


def _read_unet(folder: Path) -> dict[str, Any]:
    return read_json(folder / "config.json", "sample_size", "block_out_channels", "in_channels")


def _window(unet: dict[str, Any]) -> int:
    size = unet["sample_size"]
    return int(size if isinstance(size, int) else size[0])


def _require(folder: Path, parts: Sequence[str]) -> None:
    for part in parts:
        if not (folder / part).is_file():
            raise UserError(f"the model in {folder} lacks {part}", hint=REMEDY)


def describe(name: str, folder: ModelFolder) -> dict[str, Any]:
    """Describe a model for JSON; `parameters` and `hash` are `None` while weights are not on this machine."""
    whole = all(find_weights(place) is not None for place in folder.networks)
    scheduler = read_json(folder.base / "scheduler" / "scheduler_config.json")
    return {
        "model": name,
        "path": str(folder.path),
        "base": None if folder.base == folder.path else str(folder.base),
        "family": folder.family.name,
        "architecture": folder.architecture,
        **({} if folder.rank is None else {"rank": folder.rank}),
        "branches": folder.branches,
        "masked_input": folder.masked_input,
        "parameters": _parameters(folder) if whole else None,
        "prediction": str(scheduler.get("prediction_type", "epsilon")),
        "size": folder.size,
        "factor": folder.factor,
        "bytes": sum(map(_disk_size, folder.networks if folder.base_only else {folder.path, folder.base})),
        "hash": folder.weights_hash() if whole else None,
        "defaults": folder.defaults,
        "provenance": folder.provenance,
    }


def _parameters(folder: ModelFolder) -> int:
    """Return those of the joint network: all branches and what they exchange."""
    files = [folder.path / name for name in folder.extra_files]
    for place in folder.backbones.values():
        weights = find_weights(folder.path / place)
        files += weights.files if weights else []
    return sum(count_parameters(path) for path in files)


def _disk_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
