"""A joint network whose further branches are the RGB branch's own weights and low-rank adapters (Hu et al., 2022)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from diffusers import UNet2DConditionModel
from torch import Tensor

from jointnet_cli.errors import UserError
from jointnet_cli.modality import RGB
from jointnet_cli.model.config import read_json, write_json
from jointnet_cli.model.folder import RANK, ModelFolder, adapter_config_file, adapters_file
from jointnet_cli.model.joint import JointNet
from jointnet_cli.model.jointnet_json import LORA

if TYPE_CHECKING:
    from peft import LoraConfig

TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "add_k_proj", "add_v_proj", "conv1", "conv2", "conv_shortcut"]
"""Layers with adapters: the projections of all attention, and the convolutions of the residual blocks."""

ADAPTER = "default"


class LoraJointNet(JointNet):
    """A joint network whose further branches have the parameters of the RGB branch, and adapters.

    A further modality costs its adapters and its exchange, in memory and on disk. Adapters start at zero, so that every
    branch starts as the base. Training the RGB branch's own weights moves every branch.

    Args:
        unet: the RGB branch; its parameters are locked until `set_trainable`.
        adapters: branch name to the adapters of every further branch.
        masked_input: as for `JointNet`.

    Raises:
        UserError: peft is not installed.
    """

    architecture = LORA

    def __init__(
        self, unet: UNet2DConditionModel, adapters: Mapping[str, LoraConfig], *, masked_input: bool = False
    ) -> None:
        further = {name: _adapted(unet, config) for name, config in adapters.items()}
        super().__init__({RGB: unet, **further}, masked_input=masked_input)

    @classmethod
    def extend(
        cls, unet: UNet2DConditionModel, modalities: Sequence[str], *, rank: int = RANK, masked_input: bool = False
    ) -> LoraJointNet:
        """Start every further branch as the base, with adapters of this rank.

        Raises:
            UserError: peft is not installed.
        """
        return cls(unet, {name: _lora(rank, rank, TARGETS) for name in modalities}, masked_input=masked_input)

    @classmethod
    def assemble(cls, folder: ModelFolder, unets: dict[str, UNet2DConditionModel]) -> LoraJointNet:
        adapters = read_adapters(folder.path, folder.branches[1:])
        return cls(unets[RGB], adapters, masked_input=folder.masked_input)

    @property
    def rank(self) -> int:
        """Rank of the adapters."""
        return int(self._adapters(self.names[1]).r)

    @property
    def backbones(self) -> dict[str, UNet2DConditionModel]:
        return {RGB: self.backbone(RGB)}

    def extra_weights(self) -> dict[str, dict[str, Tensor]]:
        adapters = {
            adapters_file(name): {
                key.replace(f".{ADAPTER}.", "."): value
                for key, value in self.backbone(name).state_dict().items()
                if f".{ADAPTER}." in key
            }
            for name in self.names[1:]
        }
        return {**super().extra_weights(), **adapters}

    def save_adapter_configs(self, folder: Path) -> None:
        """Write what `read_adapters` reads, as peft names it."""
        for name in self.names[1:]:
            config = self._adapters(name)
            settings = {"r": config.r, "lora_alpha": config.lora_alpha, "target_modules": sorted(config.target_modules)}
            path = folder / adapter_config_file(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, {"peft_type": "LORA", **settings})

    def _adapters(self, name: str) -> LoraConfig:
        return self.backbone(name).peft_config[ADAPTER]


def read_adapters(folder: Path, names: Sequence[str]) -> dict[str, LoraConfig]:
    """Return the adapters of some branches in a model folder, without their weights.

    Raises:
        UserError: they cannot be read, or peft is not installed.
    """
    adapters = {}
    for name in names:
        # Of the file only this is heeded: peft's own reader imports modules that a file may name.
        config = read_json(folder / adapter_config_file(name), "r", "lora_alpha", "target_modules")
        adapters[name] = _lora(int(config["r"]), int(config["lora_alpha"]), list(config["target_modules"]))
    return adapters


def _lora(rank: int, alpha: int, targets: Sequence[str]) -> LoraConfig:
    if not find_spec("peft"):
        raise UserError("a LoRA branch needs peft", hint="pip install 'jointnet-cli[lora]'")
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets))


def _adapted(unet: UNet2DConditionModel, config: LoraConfig) -> UNet2DConditionModel:
    """Return a UNet with adapters, whose other parameters are those of `unet`: the same objects."""
    from peft import inject_adapter_in_model

    shared = deepcopy(unet, {id(weights): weights for weights in unet.parameters()})
    return inject_adapter_in_model(config, shared, ADAPTER)
