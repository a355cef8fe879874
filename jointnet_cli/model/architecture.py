"""The architectures of a network: the paper's, its rivals, and a light one. Names are read without torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

    from jointnet_cli.model.network import JointNetwork

JOINTNET = "jointnet"
LIGHT = "light"
DIRECT_EXTEND = "direct-extend"
CONTROLNET_DIRECT_EXTEND = "controlnet-direct-extend"
ARCHITECTURES = {
    JOINTNET: "a UNet a modality, exchanging features (paper 3.1)",
    LIGHT: "the same, with the RGB branch's weights and low-rank adapters in place of further UNets",
    DIRECT_EXTEND: "one UNet with more channels in and out (paper Fig. 2a)",
    CONTROLNET_DIRECT_EXTEND: "a ControlNet for the input, more channels out (paper A.1)",
}
"""Name to what it is."""
RANK = 16
"""Rank of a light branch's adapters."""


def build(
    architecture: str, unet: UNet2DConditionModel, modalities: Sequence[str], *, rank: int = RANK
) -> JointNetwork:
    """A network that extends a base UNet to further modalities, at the start of its training.

    Args:
        architecture: one of `ARCHITECTURES`.
        unet: the base; `jointnet` and `light` take it as their RGB branch, the others copy it.
        modalities: what is denoised beside RGB.
        rank: of the adapters, for `light`.

    Raises:
        ValueError: no such architecture.
        UserError: `light` without peft.
    """
    from jointnet_cli.model.baselines import ControlNetDirectExtend, DirectExtend
    from jointnet_cli.model.joint import extend
    from jointnet_cli.model.light import LightJointUNet

    network: JointNetwork
    if architecture == JOINTNET:
        network = extend(unet, modalities)
    elif architecture == LIGHT:
        network = LightJointUNet.extend(unet, modalities, rank=rank)
    elif architecture == DIRECT_EXTEND:
        network = DirectExtend.extend(unet, modalities)
    elif architecture == CONTROLNET_DIRECT_EXTEND:
        network = ControlNetDirectExtend.extend(unet, modalities)
    else:
        raise ValueError(f"no architecture {architecture}")
    return network.to(device=unet.device, dtype=unet.dtype)


def checkpoint_gradients(network: JointNetwork) -> None:
    """Let all UNets of a network recompute their blocks in the backward pass: less memory, the same gradients."""
    from diffusers import UNet2DConditionModel

    for module in network.modules():
        if isinstance(module, UNet2DConditionModel):
            module.enable_gradient_checkpointing()
