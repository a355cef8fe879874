"""The modalities that a joint model denoises: RGB and dense maps, one entry each.

Depth is learned as relative inverse depth (disparity): near = 1, far and sky = 0, per image up to scale and shift.
Normals are unit vectors in camera space, x right, y up, z towards the viewer; a zero vector marks the sky.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RGB = "rgb"

DepthKind = Literal["auto", "disparity", "distance"]
"""What the numbers of a depth file are; `auto` finds out."""

NEAR_QUANTILE = 0.985
"""Pixels nearer than this quantile share disparity 1, so that one close leaf does not flatten the rest."""

SKY_LENGTH = 0.3
"""A decoded normal shorter than this is sky, which has none."""


@dataclass(frozen=True)
class Modality:
    """How the values of a modality are stored, resized and shown."""

    values: Literal["color", "disparity", "direction"]
    """`color` (H, W, 3) sRGB in [0, 1]; `disparity` (H, W) in [0, 1], near = 1; `direction` (H, W, 3) unit vectors."""
    channels: tuple[str, ...]
    """Names of the channels of an EXR."""
    file_help: str
    """Help text of the flag that gives a file of it."""

    @property
    def layer(self) -> str:
        """Name of the EXR layer that holds its channels."""
        return self.channels[0].rpartition(".")[0]


MODALITIES: dict[str, Modality] = {
    RGB: Modality("color", ("R", "G", "B"), "Image: PNG, JPEG, TIFF or EXR."),
    "depth": Modality("disparity", ("disparity.Y",), "Depth map: PNG, TIFF, EXR or npy."),
    "normal": Modality("direction", ("normal.X", "normal.Y", "normal.Z"), "Normal map: PNG or EXR."),
}
"""By name, RGB first."""
