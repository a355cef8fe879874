"""Teachers predict maps in our conventions, for shards (`labelling.py`) and for training on images without maps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from jointnet_cli.data.labels.networks import MapNetwork, open_onnx, open_transformers
from jointnet_cli.data.labels.omnidata import open_omnidata
from jointnet_cli.data.labels.specs import DIRECTIONS, KINDS, OUR_AXES, TeacherSettings, TeacherSpec, parse_spec
from jointnet_cli.devices import choose_device
from jointnet_cli.errors import UserError
from jointnet_cli.files.paths import text_digest
from jointnet_cli.files.text import to_json
from jointnet_cli.tensors import Size, inverse_depth, resize, unit_normals

NETWORK_SIDE = 384
"""Images are resized to this side for the network (paper, section 3.3), unless the network needs another."""

CHANNELS = {"depth": 1, "normal": 3}


class Teacher(Protocol):
    """Predict one dense map of each image."""

    modality: str
    """`depth` or `normal`."""
    name: str
    hash: str
    """Twelve hexadecimal digits that name the weights and how they are used."""

    def __call__(self, images: Tensor) -> Tensor:
        """Convert images (B, 3, H, W), sRGB in [0, 1], on any device, to maps on the same device.

        Depth: (B, H, W) inverse depth, at least 0, in any unit, larger is nearer. Normals: (B, 3, H, W) unit vectors, x
        right, y up, z towards the viewer; zero where there is none. Of an image that fails all values are NaN.
        """


@dataclass
class NetworkTeacher:
    """A teacher that runs a network."""

    modality: str
    name: str
    hash: str
    network: MapNetwork
    size: Size
    """Height and width that images have for the network."""
    settings: TeacherSettings
    """Complete: nothing that concerns the modality is `None`, but for `size`."""

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        raw = self.network.run(self._prepared(images))
        if raw.ndim != 4 or raw.shape[1] != CHANNELS[self.modality]:
            shape = tuple(raw.shape)
            raise UserError(
                f"{self.name} gives {shape}: for {self.modality} it takes {CHANNELS[self.modality]} channels"
            )
        values = self._disparity(raw[:, 0]) if self.modality == "depth" else self._normals(raw)
        values = resize(values, (height, width), self.modality)
        bad = raw.isnan() if self.settings.kind == "distance" else ~raw.isfinite()
        values[bad.flatten(1).any(dim=1)] = torch.nan  # rather than a map that looks sound
        return values.to(images.device)

    def _prepared(self, images: Tensor) -> Tensor:
        sized = resize(images.to(self.network.device), self.size, "rgb")
        mean, std = (sized.new_tensor(values).view(3, 1, 1) for values in (self.settings.mean, self.settings.std))
        return (sized - mean) / std

    def _disparity(self, raw: Tensor) -> Tensor:
        """Return (B, h, w) inverse depth."""
        if self.settings.kind == "distance":
            return inverse_depth(raw)
        # The shift of relative disparity is unknown in any case: one that dips below 0 is lifted.
        return raw - raw.amin(dim=(1, 2), keepdim=True).clamp(max=0)

    def _normals(self, raw: Tensor) -> Tensor:
        """Return (B, 3, h, w) in our camera space."""
        vectors = raw * 2 - 1 if self.settings.encoding == "unsigned" else raw
        turned = torch.empty_like(vectors)
        for channel, letter in enumerate(self.settings.axes or OUR_AXES):
            axis, sign = DIRECTIONS[letter]
            turned[:, axis] = sign * vectors[:, channel]
        return unit_normals(turned)


def open_teacher(spec: TeacherSpec | str, device: str | None = None) -> NetworkTeacher:
    """Open a teacher, also by its words `MAP=TEACHER[?KEY=VALUE&…]` (see `specs.parse_spec`), and try it on one image.

    Raises:
        UserError: a wrong spec, a model that is not there or not loaded, or one that lacks a setting.
    """
    spec, place = parse_spec(spec) if isinstance(spec, str) else spec, choose_device(device)
    network = _open(spec, place)
    settings = _complete(spec, network)
    size = (settings.size, settings.size) if settings.size else network.size or (NETWORK_SIDE, NETWORK_SIDE)
    if network.fixed and network.size and network.size != size:
        raise UserError(f"{spec.name} takes {network.size[0]}x{network.size[1]} pixels only", hint="leave size= out")
    facts = [network.hash, spec.modality, size, *(vars(settings) | {"size": None}).items()]
    digest = text_digest(to_json(facts))
    teacher = NetworkTeacher(spec.modality, spec.name, digest, network, size, settings)
    try:
        sound = teacher(torch.full((1, 3, *size), 0.5)).isfinite().all()
    except UserError:
        raise
    except Exception as error:  # what a network raises for a size that it cannot take is its own
        hint = "another size= may help, such as a multiple of 32"
        raise UserError(f"{spec.name} does not run on {size[0]}x{size[1]} pixels: {error}", hint=hint) from error
    if not sound:
        lacking = f": its files lack {network.missing[0]}" if network.missing else ""
        raise UserError(f"{spec.name} predicts NaN{lacking}", hint="copy or download it again")
    return teacher


def _open(spec: TeacherSpec, device: torch.device) -> MapNetwork:
    if spec.format == "onnx":
        return open_onnx(Path(spec.source), device)
    if spec.format == "omnidata":
        return open_omnidata(Path(spec.source), device)
    return open_transformers(spec.source, spec.modality, device)


def _complete(spec: TeacherSpec, network: MapNetwork) -> TeacherSettings:
    """Return what was asked for, then what the network's files say, then a convention where one is general."""
    asked = spec.settings
    mean, std = asked.mean or network.mean, asked.std or network.std
    if mean is None or std is None:
        raise UserError(
            f"{spec.name} does not say how images are normalised",
            hint="add ?mean=0.485,0.456,0.406&std=0.229,0.224,0.225 (ImageNet's), ?mean=0.5&std=0.5, or ?mean=0&std=1 for none",
        )
    if spec.modality == "normal":
        return TeacherSettings(asked.size, mean, std, axes=asked.axes or OUR_AXES, encoding=asked.encoding or "signed")
    # Relative depth networks (MiDaS, DPT, Depth Anything) predict disparity; an ONNX file rarely says.
    kind = asked.kind or network.kind or ("disparity" if spec.format == "onnx" else None)
    if kind not in KINDS:
        raise UserError(f"{spec.name} does not say what its depth is", hint="add ?kind=disparity or ?kind=distance")
    return TeacherSettings(asked.size, mean, std, kind=kind)
