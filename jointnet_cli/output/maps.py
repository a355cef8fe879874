"""Depth maps, normal maps and masks in: files of other programs and our own, brought to one convention."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.errors import UserError
from jointnet_cli.output.exr import is_exr, read_exr
from jointnet_cli.output.pixels import read_samples

DepthKind = Literal["auto", "disparity", "distance"]
DEPTH_KINDS: tuple[str, ...] = get_args(DepthKind)

NEAR_QUANTILE = 0.985
"""As in `jointnet_cli.modality`: pixels nearer than this quantile share disparity 1."""
NO_HIT = 1e9
"""A distance from here on says that nothing was hit; Blender writes 1e10."""
UNIT_TOLERANCE = 0.01
"""Normals whose length differs by less from 1 are kept as they are: 8 bits round a length by up to 0.007."""
NO_NORMAL = 0.3
"""As in `jointnet_cli.modality`: a vector shorter than this says that there is no surface."""

_DISTANCE_CHANNEL = re.compile(r"(?:.*\.)?(?:Depth\.[ZV]|Z)", re.IGNORECASE)


class MapFile(NamedTuple):
    """A map that was read, and what its file was taken for."""

    values: NDArray[np.float32]
    """`depth` (H, W) relative disparity in [0, 1], near = 1; `normal` (H, W, 3) unit vectors, zero where there is none."""
    meaning: str
    """For the user, such as `distance (channel Z), turned into disparity`."""


def read_map(path: Path, modality: str, kind: DepthKind = "auto") -> MapFile:
    """Read a map of the modality `depth` or `normal`.

    Depth: grey PNG and TIFF of 8 and 16 bits (or grey stored as colour), 32-bit TIFF, `.npy`, and EXR with the channel
    `disparity.Y`, `Z`, `<layer>.Depth.Z`, or a single one. `kind` says whether the numbers are disparity (near is large)
    or distance (near is small); `auto` goes by the channel's name, takes integers for disparity, and floating-point
    numbers without a name for disparity within [0, 1] and for distance beyond. Normals: RGB of 8 and 16 bits,
    `(n + 1) / 2`, and EXR with `normal.X`, `.Y`, `.Z` of any layer, in camera space.

    Raises:
        UserError: a file that cannot be read, or that holds no such map.
    """
    return _read_normal(path) if modality == "normal" else _read_depth(path, kind)


def read_mask(path: Path) -> NDArray[np.float32]:
    """Read a mask: (H, W) in [0, 1], white = 1.

    Any picture of 8 or 16 bits: the brightness of its colours, and none where it is transparent. In a drawing of one
    colour on a transparent ground, the drawing is white whatever its colour. Raises `UserError` for a file that cannot be
    read and for a picture with both colours and transparency, which may be meant either way.
    """
    samples = read_samples(path)
    channels = samples.shape[-1]
    if samples.max() > 1:
        raise UserError(f"{path} has 32 bits a pixel, of no known range", hint="convert it to 8 or 16 bits")
    colour = samples[..., :3].mean(axis=-1) if channels > 2 else samples[..., 0]
    if channels in (1, 3) or (samples[..., -1] == 1).all():
        return colour
    alpha = samples[..., -1]
    drawn = samples[alpha > 0][:, :-1]
    if np.ptp(drawn, axis=0).max(initial=0) > 0:
        raise UserError(
            f"{path} is a picture with transparency, not a mask", hint="a mask is black and white: white is repainted"
        )
    return alpha


def relative_disparity(inverse_depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Inverse depth in any unit, (H, W), sky = 0, to relative disparity in [0, 1], as training data has it."""
    low = inverse_depth.min()
    span = max(float(np.quantile(inverse_depth, NEAR_QUANTILE) - low), 1e-6)
    return np.clip((inverse_depth - low) / span, 0, 1).astype(np.float32)


def is_hit(distance: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which of a file's distances (H, W) are of something: finite, positive and less than `NO_HIT`."""
    return np.isfinite(distance) & (distance > 0) & (distance < NO_HIT)


def with_endless_sky(distance: NDArray[np.floating]) -> NDArray[np.float32]:
    """A file's distances (H, W), infinite where they are of nothing."""
    return np.where(is_hit(distance), distance, np.inf).astype(np.float32)


def disparity_of_distance(distance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Distances in any unit, (H, W), to relative disparity; what is not finite, not positive or huge is sky."""
    hit = is_hit(distance)
    distance = np.where(hit, distance, 1).astype(np.float64)
    nearest = distance[hit].min(initial=np.inf)
    # Relative to the nearest: the span of inverse depths is never too small for any unit.
    return relative_disparity(np.where(hit, nearest / distance, 0).astype(np.float32))


def unit_normals(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors (H, W, 3) at unit length, zero where they are shorter than `NO_NORMAL`."""
    vectors = np.nan_to_num(vectors)
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled = np.where(np.abs(length - 1) < UNIT_TOLERANCE, vectors, vectors / np.maximum(length, NO_NORMAL))
    return np.where(length > NO_NORMAL, scaled, 0).astype(np.float32)


def _read_depth(path: Path, kind: DepthKind) -> MapFile:
    values, channel = depth_numbers(path)
    origin = f" (channel {channel})" if channel else ""
    if kind == "auto":
        kind = kind_of_channel(channel) or kind_of_range(values)
    if kind == "distance":
        return MapFile(disparity_of_distance(values), f"distance{origin}, turned into disparity")
    if np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1:
        return MapFile(values, f"disparity{origin}, near is bright")
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise UserError(f"{path} holds no finite numbers")
    bounded = np.nan_to_num(np.clip(values, finite.min(), finite.max()), nan=finite.min())
    return MapFile(relative_disparity(bounded), f"disparity{origin}, brought to the range 0 to 1")


def kind_of_channel(channel: str | None) -> DepthKind | None:
    if channel is None:
        return None
    if _DISTANCE_CHANNEL.fullmatch(channel):
        return "distance"
    return "disparity" if channel.startswith("disparity.") else None


def kind_of_range(values: NDArray[np.float32]) -> DepthKind:
    return "distance" if np.nan_to_num(values, nan=0.0).max() > 1 else "disparity"


def depth_numbers(path: Path) -> tuple[NDArray[np.float32], str | None]:
    """The numbers of a file, (H, W), those of 8 and 16 bits in [0, 1]; and their channel's name, if they have one."""
    if path.suffix.lower() == ".npy":
        return _npy_numbers(path), None
    if is_exr(path):
        channels = read_exr(path).channels
        # Disparity before distance: where a file has both, nothing need be assumed.
        named = sorted(filter(kind_of_channel, channels), key=lambda name: (kind_of_channel(name) == "distance", name))
        if not named and len(channels) != 1:
            raise UserError(f"{path} holds no depth", hint=f"its channels are {', '.join(channels)}")
        name = next(iter(named or channels))
        return channels[name].astype(np.float32), name
    samples = read_samples(path)
    if samples.shape[-1] > 2 and np.ptp(samples[..., :3], axis=-1).max() > 0:
        raise UserError(f"{path} is a colour picture, not a depth map", hint="depth is read from grey PNG, TIFF or EXR")
    return np.ascontiguousarray(samples[..., 0]), None


def _npy_numbers(path: Path) -> NDArray[np.float32]:
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if values.ndim == 3:  # with an axis for the batch or the channel, of length one
        values = values.squeeze(tuple(axis for axis in (0, 2) if values.shape[axis] == 1)[:1])
    if values.ndim != 2 or values.dtype.kind not in "fui":
        raise UserError(f"{path} holds no depth: its array is {values.dtype} of shape {values.shape}")
    scale = np.iinfo(values.dtype).max if values.dtype in (np.uint8, np.uint16) else 1
    return (values / scale).astype(np.float32)


def _read_normal(path: Path) -> MapFile:
    if is_exr(path):
        exr = read_exr(path)
        layer = exr.layer("XYZ", "normal", "n")
        if layer is None:
            raise UserError(f"{path} holds no normals", hint=f"its channels are {', '.join(exr.channels)}")
        channels = ", ".join(layer + axis for axis in "XYZ")
        return MapFile(unit_normals(exr.stack(layer, "XYZ")), f"normals (channels {channels}), taken as camera space")
    samples = read_samples(path)
    if samples.shape[-1] < 3:
        raise UserError(f"{path} is grey, not a normal map", hint="normals are red, green and blue: (n + 1) / 2")
    vectors = samples[..., :3] * 2 - 1
    if samples.shape[-1] == 4:
        vectors[samples[..., 3] < 0.5] = 0
    return MapFile(unit_normals(vectors), "normals, taken as camera space")
