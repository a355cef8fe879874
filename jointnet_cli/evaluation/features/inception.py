"""Inception v3 as TensorFlow's 2015 release has it: the network of FID and IS, through torch-fidelity."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor

from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.features.space import INCEPTION, FeatureSpace

LAYERS = ["2048", "logits_unbiased"]
"""Of torch-fidelity: FID's features, and the logits that IS is taken of."""
RELEASE = "weights-inception-2015-12-05-6726825d.pth"
"""What torch-fidelity fetches."""


def open_inception(device: torch.device, weights: Path | None = None) -> FeatureSpace:
    """The 2,048 features of FID and the 1,008 logits of IS, resized as TensorFlow resized.

    Args:
        device: where it computes.
        weights: the file that torch-fidelity releases; without one it is fetched once.

    Raises:
        UserError: torch-fidelity is not installed or does not fit torchvision, or the weights cannot be had.
    """
    if weights is not None:
        _require_tensors(weights)
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except (ImportError, RuntimeError) as error:  # a torchvision of another torch raises RuntimeError
        reason = str(error).splitlines()[0]
        raise UserError(
            f"FID needs torch-fidelity: {reason}", hint="pip install torch-fidelity, or --features efflite"
        ) from error
    try:
        place = None if weights is None else str(weights)
        network = FeatureExtractorInceptionV3("inception-v3-compat", LAYERS, feature_extractor_weights_path=place)
    except (URLError, OSError) as error:
        hint = f"give a copy of {RELEASE}: --features inception:FILE; or --features efflite"
        raise UserError("the weights of Inception v3 cannot be fetched", hint=hint) from error
    except (RuntimeError, AttributeError) as error:
        raise UserError(f"{weights} are not the weights of FID's Inception v3", hint=f"it takes {RELEASE}") from error
    network.to(device)

    @torch.inference_mode()
    def run(pictures: Tensor) -> tuple[Tensor, Tensor]:
        features, logits = network((pictures.to(device) * 255).round().byte())
        return features.float().cpu(), logits.float().cpu()

    return FeatureSpace(INCEPTION, RELEASE if weights is None else _digest(weights), run)


def _require_tensors(weights: Path) -> None:
    """torch-fidelity unpickles a file whatever it holds: it gets none that holds more than tensors."""
    try:
        torch.load(weights, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"no file {weights}", hint=f"it takes {RELEASE}") from error
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(f"{weights} is no file of weights", hint=f"it takes {RELEASE}") from error


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]
