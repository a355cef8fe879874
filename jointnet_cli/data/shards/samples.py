"""A sample at training size."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from jointnet_cli.data.shards.format import PLAN, Sample, unpack
from jointnet_cli.data.shards.index import Raw
from jointnet_cli.errors import UserError, reading
from jointnet_cli.files.text import load_object
from jointnet_cli.modality import MODALITIES, RGB
from jointnet_cli.tensors import Size, relative_disparity, resize, to_map


def sample_map(sample: Sample, modality: str) -> Tensor:
    """Return one modality of a sample as its map (3, H, W) in [-1, 1].

    Raises:
        UserError: the sample has no such map.
    """
    picture = sample.image if modality == RGB else sample.colors.get(modality)
    if picture is not None:
        values = torch.from_numpy(picture.astype(np.float32) / 255).permute(2, 0, 1)[None]
    elif modality == "depth" and sample.inverse_depth is not None:
        values = relative_disparity(torch.from_numpy(sample.inverse_depth)[None])
    elif modality == "normal" and sample.normal is not None:
        values = torch.from_numpy(sample.normal).permute(2, 0, 1)[None]
    else:
        raise UserError(f"sample {sample.key} has no {modality} map", hint="prepare shards that carry it")
    return to_map(values, modality)[0]


def stored_channels(values: Tensor, modality: str) -> Tensor:
    """Return the channels (C, H, W) of a map (3, H, W) that differ: disparity has one."""
    return values[:1] if MODALITIES[modality].values == "disparity" else values


DAMAGED = "an image, a map or a record that cannot be decoded"


class UnusableSample(Exception):
    """A sample that cannot be trained on; the message is the cause, the same for all samples of its kind."""


@dataclass(frozen=True)
class Crop:
    """A sample at the training size S."""

    image: NDArray[np.uint8]
    """(3, S, S) sRGB."""
    maps: dict[str, NDArray[np.float16]]
    """Depth (1, S, S) and normals (3, S, S) as maps in [-1, 1]."""
    caption: str
    crop_conditioning: tuple[int, int, int, int]
    """Height and width of the original, and the top and left of the crop in the resized original, in pixels."""


def decode_sample(raw: Raw, modalities: Collection[str]) -> tuple[str, dict[str, Tensor]]:
    """Return the caption of a sample, and its modalities (C, H, W) as float16 maps in [-1, 1] at their stored size.

    Raises:
        UnusableSample: the image or a map is missing or damaged.
    """
    with _decoding():
        sample = unpack(raw, modalities)
    return sample.caption, {
        name: stored_channels(values, name).half() for name, values in _maps(sample, modalities).items()
    }


def crop_sample(raw: Raw, maps: Collection[str], size: int) -> Crop:
    """Decode a sample, resize its shorter side to `size` and take the middle.

    Args:
        raw: as `read_samples` gives it.
        maps: dense modalities of the sample.
        size: S.

    Raises:
        UnusableSample: the image or a map is missing or damaged.
    """
    with _decoding():
        sample = unpack(raw, maps)
        stored = sample.image.shape[:2]
        resized = _resized_size(stored, size)
        corner = (resized[0] - size) // 2, (resized[1] - size) // 2
        cropped = _cropped(sample, resized, corner, size)
        padded = _is_padded(Path(raw.get("__url__", "")).parent)
        crop_conditioning = _crop_conditioning(sample.record, stored, size / min(stored), corner, padded=padded)
    return Crop(
        np.ascontiguousarray(cropped.image.transpose(2, 0, 1)),
        {name: stored_channels(values, name).half().numpy() for name, values in _maps(cropped, maps).items()},
        sample.caption,
        crop_conditioning,
    )


@contextmanager
def _decoding() -> Iterator[None]:
    """Turn whatever a damaged sample raises into an `UnusableSample`."""
    try:
        with reading("a sample"):
            yield
    except UserError as error:
        raise UnusableSample(DAMAGED) from error


def _maps(sample: Sample, names: Collection[str]) -> dict[str, Tensor]:
    made = {}
    for name in names:
        try:
            made[name] = sample_map(sample, name)
        except UserError as error:
            raise UnusableSample(f"no {name} map") from error
    return made


def _resized_size(stored: Size, size: int) -> Size:
    height, width = stored
    scale = size / min(stored)
    return max(round(height * scale), size), max(round(width * scale), size)


def _cropped(sample: Sample, resized: Size, corner: Size, size: int) -> Sample:
    top, left = corner
    window = (slice(top, top + size), slice(left, left + size))
    depth, normal = sample.inverse_depth, sample.normal
    image, *colors = (_enlarged(picture, resized)[window] for picture in (sample.image, *sample.colors.values()))
    if depth is not None:
        depth = _resized(depth[None], resized, "depth")[0][window]
    if normal is not None:
        normal = _resized(normal.transpose(2, 0, 1)[None], resized, "normal")[0].transpose(1, 2, 0)[window]
    named = dict(zip(sample.colors, colors, strict=True))
    return replace(sample, image=image, inverse_depth=depth, normal=normal, colors=named)


def _enlarged(picture: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    if picture.shape[:2] == size:
        return picture
    return np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.LANCZOS))


def _resized(values: NDArray[np.float32], size: Size, modality: str) -> NDArray[np.float32]:
    array: NDArray[np.float32] = resize(torch.from_numpy(np.ascontiguousarray(values)), size, modality).numpy()
    return array


@cache
def _is_padded(folder: Path) -> bool:
    """Return whether the plan of a local set states `resize = "border"`."""
    facts = load_object(folder / PLAN / "plan.json").get("facts", {})
    return bool(facts.get("image", {}).get("resize") == "border")


def _crop_conditioning(
    record: dict[str, Any], stored: Size, scale: float, corner: Size, *, padded: bool
) -> tuple[int, int, int, int]:
    """Return the size of the original as recorded, and the corner of the crop.

    A smaller stored image is the middle of the original unless the original was `padded` to a square.
    """
    found = record.get("original_height"), record.get("original_width")
    original = (int(found[0]), int(found[1])) if found[0] and found[1] else stored
    if padded:
        return *original, *corner
    # The original at the scale at which it covers what was stored, and then at the training size.
    whole = scale * max(kept / side for kept, side in zip(stored, original, strict=True))
    earlier = [max(round((side * whole - kept * scale) / 2), 0) for side, kept in zip(original, stored, strict=True)]
    return original[0], original[1], earlier[0] + corner[0], earlier[1] + corner[1]
