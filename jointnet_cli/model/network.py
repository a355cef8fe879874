"""What every architecture offers to sampling, training and the model folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from jointnet_cli.errors import UserError
from jointnet_cli.model.branch import Conditioning


class JointNetwork(nn.Module, ABC):
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

    @abstractmethod
    def unet(self, name: str) -> UNet2DConditionModel:
        """The UNet that denoises a modality; several modalities may have the same."""

    @property
    @abstractmethod
    def unets(self) -> dict[str, UNet2DConditionModel]:
        """The UNets that a model folder holds whole, by their branch."""

    @abstractmethod
    def beside(self) -> dict[str, dict[str, Tensor]]:
        """What a model folder holds beside these UNets: file to the network's own tensors, not copies."""

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
        self, latents: Tensor, timestep: Tensor | int, given: Conditioning, known: Tensor | None = None
    ) -> Tensor:
        """Predict noise (or velocity) for all modalities.

        Args:
            latents: (B, N, C, h, w), noisy latents of the N modalities.
            timestep: scalar or (B,), shared by the modalities.
            given: text and further conditions, shared by the modalities.
            known: (B, N, 1 + C, h, w), for models with masked input: a mask (1 = unknown) and the latents of the masked
                picture, per modality. `None` leaves the masked input out.

        Returns:
            (B, N, C_out, h, w) predictions.
        """
