"""What every architecture offers to sampling, training and the model folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import deepcopy
from itertools import permutations
from typing import ClassVar, Protocol

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from jointnet_cli.errors import UserError
from jointnet_cli.modality import RGB
from jointnet_cli.model.branch import Conditioning, Features, decode, embed, encode, skip_widths
from jointnet_cli.model.folder import EXCHANGE, RANK, ModelFolder
from jointnet_cli.model.jointnet_json import JOINTNET


class JointDenoiser(nn.Module, ABC):
    """A network that denoises N modalities together; the first is RGB."""

    architecture: ClassVar[str]
    """Its name among `ARCHITECTURES`."""

    @property
    @abstractmethod
    def names(self) -> list[str]:
        """The modalities in the order of the branch axis."""

    @property
    @abstractmethod
    def channels(self) -> int:
        """Channels of one modality's latents."""

    @property
    def has_masked_input(self) -> bool:
        """Whether the network reads known regions as further input."""
        return False

    @classmethod
    @abstractmethod
    def extend(cls, unet: UNet2DConditionModel, modalities: Sequence[str], *, rank: int = RANK) -> JointDenoiser:
        """Extend a base UNet to further modalities, at the start of their training.

        Args:
            unet: the base. `jointnet` and `lora` take it as their RGB branch, the others copy it.
            modalities: what is denoised beside RGB.
            rank: of the adapters, for `lora`.
        """

    @classmethod
    @abstractmethod
    def assemble(cls, folder: ModelFolder, unets: dict[str, UNet2DConditionModel]) -> JointDenoiser:
        """Build the network of a model folder around its UNets; the other weights are not loaded yet."""

    @abstractmethod
    def backbone(self, name: str) -> UNet2DConditionModel:
        """Return the UNet that denoises a modality; several modalities may have the same."""

    @property
    @abstractmethod
    def backbones(self) -> dict[str, UNet2DConditionModel]:
        """The UNets that a model folder holds whole, by their branch."""

    @abstractmethod
    def extra_weights(self) -> dict[str, dict[str, Tensor]]:
        """Return what a model folder holds beside these UNets: file to the network's own tensors, not copies."""

    @abstractmethod
    def set_trainable(self, train_rgb: bool) -> None:
        """Set which parameters train; `train_rgb` adds those of the base that the architecture can lock."""

    def add_masked_input(self) -> None:
        """Give every branch a zero-initialised input for the masks and known latents of all branches (paper 4.1).

        Raises:
            UserError: the architecture has none.
        """
        raise UserError(f"a {self.architecture} network has no masked input", hint="train it with masked_input = false")

    @abstractmethod
    def forward(
        self, latents: Tensor, timestep: Tensor | int, conditioning: Conditioning, known: Tensor | None = None
    ) -> Tensor:
        """Predict noise (or velocity) for all modalities.

        Args:
            latents: (B, N, C, h, w), noisy latents of the N modalities.
            timestep: scalar or (B,), shared by the modalities.
            conditioning: text and further conditions, shared by the modalities.
            known: (B, N, 1 + C, h, w), for models with masked input: a mask (1 = unknown) and the latents of the masked
                image, per modality. `None` leaves the masked input out.

        Returns:
            (B, N, C_out, h, w) predictions.
        """


def zero_conv(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    """Return a convolution that gives exactly zero until it is trained."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


class Exchange(nn.Module):
    """What one branch sends to one other: its input, its skip tensors and its middle output."""

    def __init__(self, sender: UNet2DConditionModel) -> None:
        super().__init__()
        widths = skip_widths(sender)
        self.input = zero_conv(sender.config.in_channels, widths[0], sender.config.conv_in_kernel)
        self.skips = nn.ModuleList(zero_conv(width, width, 1) for width in widths)
        self.middle = zero_conv(widths[-1], widths[-1], 1)


class JointNet(JointDenoiser):
    """N branches that denoise N modalities together.

    Each branch is a whole `UNet2DConditionModel` of the same shape; the first is RGB. `forward` takes and returns one
    tensor with an axis for the branches. Until the exchange is trained every branch computes what its own UNet computes.

    Args:
        unets: branch name to UNet, in order; at least one.
        masked_input: whether known regions enter as further input (paper 4.1).

    Raises:
        ValueError: no branch, or branches of different widths.
    """

    architecture = JOINTNET

    @classmethod
    def extend(
        cls, unet: UNet2DConditionModel, modalities: Sequence[str], *, rank: int = RANK, masked_input: bool = False
    ) -> JointNet:
        """Start every branch as a copy of a base UNet (paper 3.1). The RGB branch is `unet` itself."""
        return JointNet({RGB: unet, **{name: deepcopy(unet) for name in modalities}}, masked_input=masked_input)

    @classmethod
    def assemble(cls, folder: ModelFolder, unets: dict[str, UNet2DConditionModel]) -> JointNet:
        return JointNet(unets, masked_input=folder.masked_input)

    def __init__(self, unets: Mapping[str, UNet2DConditionModel], *, masked_input: bool = False) -> None:
        super().__init__()
        if not unets:
            raise ValueError("a joint network needs at least one branch")
        if len({tuple(skip_widths(unet)) for unet in unets.values()}) > 1:
            raise ValueError("all branches of a joint network must have the same widths")
        self.branches = nn.ModuleDict(unets)
        self.exchange = nn.ModuleDict(
            {exchange_name(sender, receiver): Exchange(unets[sender]) for sender, receiver in permutations(unets, 2)}
        )
        self.masked = nn.ModuleDict()
        if masked_input:
            self.add_masked_input()

    @property
    def names(self) -> list[str]:
        return list(self.branches)

    @property
    def channels(self) -> int:
        return int(self.backbone(self.names[0]).config.in_channels)

    @property
    def has_masked_input(self) -> bool:
        return len(self.masked) > 0

    def backbone(self, name: str) -> UNet2DConditionModel:
        return self.branches[name]

    @property
    def backbones(self) -> dict[str, UNet2DConditionModel]:
        return dict(self.branches.items())

    def extra_weights(self) -> dict[str, dict[str, Tensor]]:
        tensors = {key: x for key, x in self.state_dict().items() if key.startswith(("exchange.", "masked."))}
        return {EXCHANGE: tensors} if len(self.names) > 1 else {}

    def set_trainable(self, train_rgb: bool) -> None:
        """Train the exchange, the masked input and the further branches; with `train_rgb` also the RGB branch."""
        self.requires_grad_(True)
        self.backbone(RGB).requires_grad_(train_rgb)

    def add_masked_input(self) -> None:
        for name in self.names:
            config = self.backbone(name).config
            inputs = len(self.names) * (1 + config.in_channels)
            self.masked[name] = zero_conv(inputs, config.block_out_channels[0], config.conv_in_kernel)

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor | int,
        conditioning: Conditioning,
        known: Tensor | None = None,
    ) -> Tensor:
        inputs = dict(zip(self.names, latents.unbind(1), strict=True))
        conditions = {name: embed(self.backbone(name), x, timestep, conditioning) for name, x in inputs.items()}
        features = {
            name: encode(self.backbone(name), self._enter(name, inputs, known), conditions[name]) for name in inputs
        }
        outputs = [decode(self.backbone(name), self._receive(name, features), conditions[name]) for name in inputs]
        return torch.stack(outputs, dim=1)

    def _enter(self, receiver: str, inputs: Mapping[str, Tensor], known: Tensor | None) -> Tensor:
        """Return the first hidden tensor: own input, other branches' inputs, and known regions, own modality first."""
        hidden: Tensor = self.backbone(receiver).conv_in(inputs[receiver])
        for sender in self._others(receiver):
            hidden = hidden + self._sent(sender, receiver).input(inputs[sender])
        if known is not None and self.has_masked_input:
            order = [receiver, *self._others(receiver)]
            regions = torch.cat([known[:, self.names.index(name)] for name in order], dim=1)
            hidden = hidden + self.masked[receiver](regions)
        return hidden

    def _receive(self, receiver: str, features: Mapping[str, Features]) -> Features:
        """Return the receiver's own features plus what every other branch sends."""
        own = features[receiver]
        for sender in self._others(receiver):
            own = receive(own, self._sent(sender, receiver), features[sender])
        return own

    def _others(self, receiver: str) -> Sequence[str]:
        return [name for name in self.names if name != receiver]

    def _sent(self, sender: str, receiver: str) -> Exchange:
        return self.exchange[exchange_name(sender, receiver)]  # type: ignore[return-value]


class Sending(Protocol):
    """Convolutions that features go through on their way: one a skip tensor, and one for the middle."""

    skips: nn.ModuleList
    middle: nn.Conv2d


def receive(own: Features, sent: Sending, features: Features) -> Features:
    """Return own features plus another half's, through its convolutions."""
    skips = [x + conv(other) for x, conv, other in zip(own.skips, sent.skips, features.skips, strict=True)]
    return Features(skips, own.middle + sent.middle(features.middle))


def exchange_name(sender: str, receiver: str) -> str:
    """Return the name of the exchange module from one branch to another."""
    return f"{sender}_to_{receiver}"
