"""The paper's baselines, whose output layer speaks for all modalities at once (paper 3.1, Fig. 2a, A.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from jointnet_cli.modality import RGB
from jointnet_cli.model.branch import Conditioning, decode, embed, encode, skip_widths
from jointnet_cli.model.folder import CONTROL, RANK, ModelFolder
from jointnet_cli.model.joint import JointDenoiser, receive, zero_conv
from jointnet_cli.model.jointnet_json import CONTROLNET_DIRECT_EXTEND, DIRECT_EXTEND

Output = Literal["copy", "zero", "random"]
"""How the output layer starts for further modalities; with `copy` it predicts RGB's noise for all (paper 3.1)."""


class ExtendedUNet(JointDenoiser):
    """A network whose one UNet predicts all modalities, stacked in its output channels.

    Args:
        unet: of N C_out channels out.
        names: the N modalities, RGB first.

    Raises:
        ValueError: output channels that are not a multiple of N.
    """

    def __init__(self, unet: UNet2DConditionModel, names: Sequence[str]) -> None:
        super().__init__()
        _require_multiple(unet.config.out_channels, names)
        self.body = unet
        self._names = list(names)

    @classmethod
    def assemble(cls, folder: ModelFolder, unets: dict[str, UNet2DConditionModel]) -> Self:
        return cls(unets[RGB], folder.branches)

    @property
    def names(self) -> list[str]:
        return self._names

    def backbone(self, name: str) -> UNet2DConditionModel:
        return self.body

    @property
    def backbones(self) -> dict[str, UNet2DConditionModel]:
        return {RGB: self.body}


class DirectExtend(ExtendedUNet):
    """One UNet that reads and predicts all modalities, stacked in its channels (paper Fig. 2a).

    Args:
        unet: of N C channels in and N C_out channels out.
        names: the N modalities, RGB first.

    Raises:
        ValueError: channels that are not a multiple of N.
    """

    architecture = DIRECT_EXTEND

    def __init__(self, unet: UNet2DConditionModel, names: Sequence[str]) -> None:
        super().__init__(unet, names)
        _require_multiple(unet.config.in_channels, names)

    @classmethod
    def extend(
        cls, unet: UNet2DConditionModel, modalities: Sequence[str], *, rank: int = RANK, output: Output = "copy"
    ) -> DirectExtend:
        """Start from a copy of a base UNet that does not hear the further modalities yet."""
        names = [RGB, *modalities]
        return cls(_widened(unet, len(names), len(names), output), names)

    @property
    def channels(self) -> int:
        return int(self.body.config.in_channels // len(self._names))

    def extra_weights(self) -> dict[str, dict[str, Tensor]]:
        return {}

    def set_trainable(self, train_rgb: bool) -> None:
        """Train everything, whatever `train_rgb`: no weights are RGB's alone."""
        self.requires_grad_(True)

    def forward(
        self, latents: Tensor, timestep: Tensor | int, conditioning: Conditioning, known: Tensor | None = None
    ) -> Tensor:
        stacked = latents.flatten(1, 2)
        conditions = embed(self.body, stacked, timestep, conditioning)
        features = encode(self.body, self.body.conv_in(stacked), conditions)
        predicted: Tensor = decode(self.body, features, conditions).unflatten(1, (len(self._names), -1))
        return predicted


class Control(nn.Module):
    """A copy of a UNet's first half that reads all modalities, and what it sends to the UNet itself."""

    def __init__(self, unet: UNet2DConditionModel, count: int) -> None:
        super().__init__()
        self.encoder = _untrained(unet, count, 1)
        del self.encoder.up_blocks, self.encoder.conv_norm_out, self.encoder.conv_out
        widths = skip_widths(unet)
        self.skips = nn.ModuleList(zero_conv(width, width, 1) for width in widths)
        self.middle = zero_conv(widths[-1], widths[-1], 1)


class ControlNetDirectExtend(ExtendedUNet):
    """The base UNet on RGB, a ControlNet that tells it of all modalities, and an extended output (paper A.1).

    The paper says that "the input is processed by ControlNet while the output is directly extended", and that RGB degrades
    as with Direct Extend; it does not say what trains. Here the input side is a ControlNet's: the base's `conv_in`, time
    embedding, down and middle blocks are locked, their copy and the zero convolutions train. The output side is Direct
    Extend's: the up blocks and the output layer train, as with a ControlNet whose decoder is unlocked. Were they locked too,
    the further modalities would have to be read from features made for RGB by one linear layer, and the base could not
    degrade by the cause that the paper names, a main body that the large loss of the further output drives away.

    Args:
        unet: of C channels in and N C_out channels out.
        names: the N modalities, RGB first.

    Raises:
        ValueError: output channels that are not a multiple of N.
    """

    architecture = CONTROLNET_DIRECT_EXTEND

    def __init__(self, unet: UNet2DConditionModel, names: Sequence[str]) -> None:
        super().__init__(unet, names)
        self.control = Control(unet, len(names))

    @classmethod
    def extend(
        cls, unet: UNet2DConditionModel, modalities: Sequence[str], *, rank: int = RANK, output: Output = "copy"
    ) -> ControlNetDirectExtend:
        """Start from copies of a base UNet, of which the control's sends nothing and hears RGB alone yet."""
        names = [RGB, *modalities]
        network = cls(_widened(unet, 1, len(names), output), names)
        wide = _widened(unet, len(names), 1, output).state_dict()
        encoder = network.control.encoder
        encoder.load_state_dict({key: wide[key] for key in encoder.state_dict()})
        return network

    @property
    def channels(self) -> int:
        return int(self.body.config.in_channels)

    def extra_weights(self) -> dict[str, dict[str, Tensor]]:
        return {CONTROL: self.control.state_dict()}

    def set_trainable(self, train_rgb: bool) -> None:
        """Train the control, the up blocks and the output layer; with `train_rgb` also the rest."""
        self.requires_grad_(True)
        if not train_rgb:
            self.body.requires_grad_(False)
            for part in (self.body.up_blocks, self.body.conv_norm_out, self.body.conv_out):
                part.requires_grad_(True)

    def forward(
        self, latents: Tensor, timestep: Tensor | int, conditioning: Conditioning, known: Tensor | None = None
    ) -> Tensor:
        body, encoder, stacked = self.body, self.control.encoder, latents.flatten(1, 2)
        conditions = embed(body, stacked, timestep, conditioning)
        features = encode(body, body.conv_in(latents[:, 0]), conditions)
        sent = encode(encoder, encoder.conv_in(stacked), embed(encoder, stacked, timestep, conditioning))
        predicted = decode(body, receive(features, self.control, sent), conditions)
        by_modality: Tensor = predicted.unflatten(1, (len(self._names), -1))
        return by_modality


def _require_multiple(channels: int, names: Sequence[str]) -> None:
    if channels % len(names):
        raise ValueError(f"{channels} channels cannot be shared by {', '.join(names)}")


def _widened(unet: UNet2DConditionModel, inputs: int, outputs: int, output: Output) -> UNet2DConditionModel:
    """Copy a UNet with `inputs` times its channels in, of which only the first have an effect, and `outputs` times out."""
    wide = _untrained(unet, inputs, outputs)
    fresh, state = wide.state_dict(), unet.state_dict()
    heard = state["conv_in.weight"]
    state["conv_in.weight"] = torch.cat([heard, *[torch.zeros_like(heard)] * (inputs - 1)], dim=1)
    for key in ("conv_out.weight", "conv_out.bias"):
        own = state[key]
        further = {"copy": own, "zero": torch.zeros_like(own)}
        parts = [further.get(output, drawn.to(own)) for drawn in fresh[key].split(len(own))[1:]]
        state[key] = torch.cat([own, *parts])
    wide.load_state_dict(state)
    return wide


def _untrained(unet: UNet2DConditionModel, inputs: int, outputs: int) -> UNet2DConditionModel:
    """Return a new UNet of the same shape with so many times the channels in and out."""
    # Without diffusers' own entries, one of which names settings that stay at their defaults.
    config = {key: value for key, value in unet.config.items() if not key.startswith("_")}
    channels = {"in_channels": inputs * config["in_channels"], "out_channels": outputs * config["out_channels"]}
    return UNet2DConditionModel.from_config({**config, **channels})
