"""The file that keeps the second layer of a result's scene, so that `view` needs no model to show it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from jointnet_cli.errors import UserError
from jointnet_cli.files.color import linear_to_srgb, srgb_to_linear
from jointnet_cli.files.exr import read_exr, write_channels
from jointnet_cli.files.paths import LAYER
from jointnet_cli.scene.scene import SKY, Layer, Scene

_CHANNELS = ("R", "G", "B", "A", "disparity.Y", "shown.Y")


def layer_path(depth: Path) -> Path | None:
    """Return where the second layer of a result lies, beside its depth map or EXR; `None` for a file of another name."""
    name = re.fullmatch(r"(.+)\.(?:depth\.png|rgb[a-z]+\.exr)", depth.name)
    return depth.with_name(name[1] + LAYER) if name else None


def write_layer(path: Path, scene: Scene, attributes: Mapping[str, str]) -> None:
    """Write the second layer of a scene as an EXR; without a layer nothing is marked as painted.

    `R`, `G`, `B` (half, linear light) and `disparity.Y` (float32) hold what was painted and 0 elsewhere; `A` is 1 where
    something was painted, and `shown.Y` where the layer is shown. Outside of `A` the layer is the front.
    """
    front, behind = scene.front, scene.behind or replace(scene.front, shown=np.zeros(scene.front.distance.shape, bool))
    shown = np.ones(front.distance.shape, bool) if behind.shown is None else behind.shown
    painted = shown | (behind.image != front.image).any(-1) | (behind.distance != front.distance)
    colours = np.where(painted[..., None], srgb_to_linear(np.clip(behind.image, 0, 1)), 0).astype(np.float16)
    # A rounded disparity must not turn what is hardly nearer than the sky into sky.
    disparity = np.maximum(scene.scale.disparity(behind.distance), np.nextafter(np.float32(SKY), np.float32(1)))
    planes = [
        *(colours[..., channel] for channel in range(3)),
        painted.astype(np.float16),
        np.where(painted & np.isfinite(behind.distance), disparity, np.float32(0)),
        shown.astype(np.float16),
    ]
    write_channels(path, dict(zip(_CHANNELS, planes, strict=True)), attributes, wrap=scene.projection.wrap)


def read_layer(path: Path, scene: Scene) -> Scene:
    """Return a scene of one layer, whose scale is that of relative disparity, with the second layer from a file.

    Raises:
        UserError: the file is damaged, holds no second layer, or is of another size.
    """
    hint = "--no-layers leaves the second layer out"
    try:
        exr = read_exr(path)
    except UserError as fault:
        raise UserError(str(fault), hint) from fault
    channels = exr.channels
    if missing := [name for name in _CHANNELS if name not in channels]:
        raise UserError(f"{path} is not a second layer: it has no channel {missing[0]}", hint)
    front = scene.front
    if channels["A"].shape != front.distance.shape:
        (height, width), (rows, columns) = channels["A"].shape, front.distance.shape
        raise UserError(f"{path} is {width} x {height} pixels, and the image {columns} x {rows}", hint)
    painted, shown = (channels[name] > 0.5 for name in ("A", "shown.Y"))
    if not shown.any():
        return scene
    image = np.where(painted[..., None], linear_to_srgb(np.clip(np.nan_to_num(exr.stack("RGB")), 0, 1)), front.image)
    disparity = np.clip(np.nan_to_num(channels["disparity.Y"]), 0, 1)
    distance = np.maximum(scene.scale.distance(disparity), front.distance)
    distance = np.where(disparity > SKY, distance, np.float32(np.inf))
    return replace(scene, behind=Layer(image, np.where(painted, distance, front.distance), shown))
