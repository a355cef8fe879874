"""Perceptual distances, LPIPS (Zhang et al., 2018) and its kin: how differently two pictures look to a classifier.

Features of five layers, of unit length over their channels; the squared difference, weighted per channel by a learned head,
averaged over the picture and summed over the layers. ST-LPIPS (Ghildyal and Liu, 2022) has trunks that move less when a
picture is shifted: they blur before they leave pixels out, and were trained anew together with their heads. Of
EfficientNet-Lite0 all channels count alike. The three are different scales.

Weights are read from files, without the packages' own code, which needs more than they do: those of ST-LPIPS come with
`stlpips-pytorch`, the heads of LPIPS with torchmetrics, whose values ours are; its trunks are torchvision's classifiers, from a
file or downloaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jointnet_cli.errors import UserError, reading
from jointnet_cli.files.text import open_regular
from jointnet_cli.model.efflite import EFFLITE, MEAN, STD, efflite_layers

DEFAULT = "st-lpips-alex"

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""What LPIPS takes from and divides the channels of a picture in [-1, 1] by."""

EXTRA = "pip install 'jointnet-cli[eval]'"

CLASSIFIERS = {"alex": "AlexNet_Weights.IMAGENET1K_V1", "vgg": "VGG16_Weights.IMAGENET1K_V1"}
"""torchvision's names of the trunks' weights."""


@dataclass(frozen=True)
class PerceptualSpace:
    """A trunk with its heads."""

    name: str
    """As tables state it."""
    trunk: str
    """`alex`, `vgg` or `efflite`."""
    shift_tolerant: bool = False
    shift: tuple[float, ...] = SHIFT
    scale: tuple[float, ...] = SCALE


SPACES = {
    "st-lpips-alex": PerceptualSpace("ST-LPIPS (AlexNet)", "alex", True),
    "st-lpips-vgg": PerceptualSpace("ST-LPIPS (VGG-16)", "vgg", True),
    "lpips-alex": PerceptualSpace("LPIPS (AlexNet)", "alex"),
    "lpips-vgg": PerceptualSpace("LPIPS (VGG-16)", "vgg"),
    EFFLITE: PerceptualSpace("EffLite0", EFFLITE, shift=(2 * MEAN - 1,) * 3, scale=(2 * STD,) * 3),
}


class Blur(nn.Module):
    """A binomial filter of three taps in both directions, and every second pixel of the result."""

    filt: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("filt", torch.empty(channels, 1, 3, 3))

    def forward(self, features: Tensor) -> Tensor:
        """Convert (B, C, H, W) to about half the height and width, mirrored at the sides."""
        padded = F.pad(features, (2, 2, 2, 2), mode="reflect")
        return F.conv2d(padded, self.filt, stride=2, groups=features.shape[1])


def trunk(name: str, shift_tolerant: bool) -> tuple[nn.Sequential, tuple[int, ...]]:
    """Return the layers of AlexNet or VGG-16 up to the last one compared, and the indices of the five that are."""
    layers = _alexnet(shift_tolerant) if name == "alex" else _vgg16(shift_tolerant)
    taps = [place for place, layer in enumerate(layers) if isinstance(layer, nn.ReLU)]
    if name == "vgg":  # the last of every stage
        taps = [taps[number] for number in (1, 3, 6, 9, 12)]
    return nn.Sequential(*layers), tuple(taps)


def _alexnet(shift_tolerant: bool) -> list[nn.Module]:
    pools = [_pool(3, channels, shift_tolerant) for channels in (64, 192)]
    first = nn.Conv2d(3, 64, 11, stride=1 if shift_tolerant else 4, padding=2)
    return [
        *(first, *([Blur(64)] if shift_tolerant else []), nn.ReLU()),
        *(*pools[0], nn.Conv2d(64, 192, 5, padding=2), nn.ReLU()),
        *(*pools[1], nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
    ]


def _vgg16(shift_tolerant: bool) -> list[nn.Module]:
    layers: list[nn.Module] = []
    channels = 3
    for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        if layers:
            layers += _pool(2, channels, shift_tolerant)
        for _ in range(depth):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
    return layers


def _pool(side: int, channels: int, shift_tolerant: bool) -> list[nn.Module]:
    """Return maxima over squares of a side, at every second pixel."""
    return [nn.MaxPool2d(side, stride=1), Blur(channels)] if shift_tolerant else [nn.MaxPool2d(side, stride=2)]


class Perceptual(nn.Module):
    """The distance of pictures in one of `SPACES`, 0 of equal ones.

    Args:
        space: which one.
        layers: of the trunk.
        taps: the indices of the layers that are compared.
        heads: weights of their channels, each (1, C, 1, 1).
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self, space: PerceptualSpace, layers: nn.Sequential, taps: Sequence[int], heads: Sequence[Tensor]
    ) -> None:
        super().__init__()
        self.space, self.layers, self._taps = space, layers, frozenset(taps)
        self.heads = nn.ParameterList(heads)
        self.register_buffer("shift", torch.tensor(space.shift)[:, None, None])
        self.register_buffer("scale", torch.tensor(space.scale)[:, None, None])
        self.requires_grad_(False).eval()

    @property
    def name(self) -> str:
        """The name of the space, which is part of the name of every metric in it."""
        return self.space.name

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Distances (B,) of pictures (B, 3, H, W) sRGB in [0, 1]; gradients reach the pictures that want them."""
        return self.distance(self.levels(first), self.levels(second))

    @property
    def channels(self) -> tuple[int, ...]:
        """Of every level."""
        return tuple(head.shape[1] for head in self.heads)

    def distance(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
        """Distances (B,) of pictures from their `levels`."""
        levels = zip(first, second, strict=True)
        return self._weighted([(left - right).square() for left, right in levels])

    @torch.inference_mode()
    def pairs(self, pictures: Tensor) -> Tensor:
        """Distances (P,) of all pairs among pictures (B, 3, H, W) sRGB in [0, 1], in the order of `combinations`."""
        left, right = zip(*combinations(range(len(pictures)), 2), strict=True)
        levels = self.levels(pictures)
        return self._weighted([(level[list(left)] - level[list(right)]).square() for level in levels])

    def _weighted(self, differences: list[Tensor]) -> Tensor:
        """From the squared differences (B, C, h, w) of every level."""
        levels = zip(differences, self.heads, strict=True)
        return torch.stack([F.conv2d(level, head).mean(dim=(1, 2, 3)) for level, head in levels]).sum(dim=0)

    def levels(self, pictures: Tensor) -> list[Tensor]:
        """Return the compared features of pictures (B, 3, H, W) sRGB in [0, 1]: (B, C, h, w) of unit length over the channels.

        They are computed in float32, inside of `torch.autocast` too.
        """
        levels = []
        with torch.autocast(pictures.device.type, enabled=False):
            values = (pictures.to(self.shift) * 2 - 1 - self.shift) / self.scale
            for place, layer in enumerate(self.layers):
                values = layer(values)
                if place in self._taps:
                    levels.append(values / (values.norm(dim=1, keepdim=True) + 1e-10))
        return levels


def find_space(spec: str) -> tuple[PerceptualSpace, Path | None]:
    """From `NAME` or `NAME:FILE` to the space and the file of its weights. Reads nothing.

    Raises:
        UserError: no such name or file.
    """
    name, _, file = spec.partition(":")
    if name not in SPACES:
        raise UserError(f"no perceptual distance {name!r}", hint=f"there are {', '.join(SPACES)}, or NAME:FILE")
    if file and name == EFFLITE:
        raise UserError(f"{EFFLITE} takes no file", hint="its weights come with the extra eval")
    if file and not Path(file).is_file():
        raise UserError(f"no file {file}", hint="weights of a perceptual distance are one .pth file")
    return SPACES[name], Path(file) if file else None


def open_perceptual(spec: str = DEFAULT, device: torch.device | str = "cpu") -> Perceptual:
    """Load one of `SPACES`.

    Args:
        spec: `NAME` or `NAME:FILE`. The file holds for ST-LPIPS what its package ships, and for LPIPS the state of
            torchvision's classifier, which is downloaded where no file is named.
        device: where it computes, in float32.

    Raises:
        UserError: an unknown name, no weights, or those of another network.
    """
    space, file = find_space(spec)
    if space.trunk == EFFLITE:
        return _efflite(space, device)
    if space.shift_tolerant:
        file = file or _packaged("stlpips_pytorch", f"weights/vST0.0/{space.trunk}_shift_tolerant.pth")
        state = _load(file)
        weights = {name.split(".", 2)[2]: value for name, value in state.items() if name.startswith("net.slice")}
        heads = state
    else:
        heads = _load(_packaged("torchmetrics", f"functional/image/lpips_models/{space.trunk}.pth"))
        state = _load(file) if file else _download(space.trunk)
        weights = {name.removeprefix("features."): value for name, value in state.items()}
    layers, taps = trunk(space.trunk, space.shift_tolerant)
    with reading(file or "the download", cause=f"it does not hold the weights of {space.name}"):
        layers.load_state_dict({name: weights[name] for name in layers.state_dict()})
        kept = [heads[f"lin{level}.model.1.weight"] for level in range(len(taps))]
        return Perceptual(space, layers, taps, kept).to(device)


def _efflite(space: PerceptualSpace, device: torch.device | str) -> Perceptual:
    """Return the distance whose channels count alike; it is the mean over the levels, so between 0 and 4."""
    layers, taps, channels = efflite_layers()
    heads = [torch.full((1, count, 1, 1), 1 / len(taps)) for count in channels]
    return Perceptual(space, layers, taps, heads).to(device)


def _packaged(package: str, path: str) -> Path:
    """Return a file of an installed package, which is not imported: it may need more than the file does."""
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise UserError(f"the weights come with {package.replace('_', '-')}, which is not installed", hint=EXTRA)
    return Path(found.submodule_search_locations[0], path)


def _load(file: Path) -> dict[str, Any]:
    with reading(file, cause="it is no file of weights"), open_regular(file) as content:
        weights: dict[str, Any] = torch.load(content, map_location="cpu", weights_only=True)
        return weights


def _download(name: str) -> dict[str, Any]:
    """Return the state of torchvision's classifier, kept in torch's cache."""
    remedy = f"name a file, as in lpips-{name}:FILE, or use {DEFAULT}, which needs no download"
    try:
        from torchvision.models import get_weight

        weights: dict[str, Any] = get_weight(CLASSIFIERS[name]).get_state_dict(check_hash=True)
        return weights
    except (ImportError, RuntimeError) as error:
        raise UserError(f"torchvision cannot be used: {error}", hint=remedy) from error
    except OSError as error:
        raise UserError(f"the weights of {name} cannot be downloaded: {error}", hint=remedy) from error
