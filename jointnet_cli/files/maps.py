"""Depth maps, normal maps and masks in: files of other programs and our own, brought to one convention."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.errors import UserError
from jointnet_cli.files.arrays import array_names, array_of, array_size, is_array, read_array, refuse_channel
from jointnet_cli.files.decode import raster_size, read_raster, read_samples
from jointnet_cli.files.exr import exr_size, is_exr, read_exr
from jointnet_cli.files.exr_channels import Exr
from jointnet_cli.files.raster import turned_components
from jointnet_cli.modality import NEAR_QUANTILE, SKY_LENGTH, DepthKind

NO_HIT = 1e9
"""A distance from here on says that nothing was hit; Blender writes 1e10."""

UNIT_TOLERANCE = 0.01
"""Normals whose length differs by less from 1 are kept as they are: 8 bits round a length by up to 0.007."""

NORMAL_LAYERS = ("normal", "n")
"""Names of an EXR's layers of normals, in lower case."""


class MapFile(NamedTuple):
    """A map that was read, and what its file was taken for."""

    values: NDArray[np.float32]
    """`depth` (H, W) relative disparity in [0, 1], near = 1; `normal` (H, W, 3) unit vectors, zero where there is none."""
    meaning: str
    """For the user, such as `distance (channel Z), turned into disparity`."""


class DepthNumbers(NamedTuple):
    """The numbers of a depth file as they are stored."""

    values: NDArray[np.float32]
    """(H, W): of grey images of 8 and 16 bits in [0, 1], full scale = 1; of any other file its own numbers."""
    whole: int | None
    """Of whole numbers, what 1 in `values` is in the file: full scale of a grey image, such as 255, 4095 or 65535, and 1
    of any other file. `None` of floating-point numbers, whose distances are metres."""
    channel: str | None = None
    """Of an EXR."""
    notes: tuple[str, ...] = ()
    """What had to be decided to read it."""

    @property
    def kind(self) -> DepthKind:
        """Disparity or distance: by the channel's name; without one disparity if nothing exceeds 1."""
        if named := kind_of_channel(self.channel):
            return named
        return "distance" if np.nan_to_num(self.values, nan=0.0).max(initial=0) > 1 else "disparity"

    def are_distances(self, kind: DepthKind) -> bool:
        """Return whether they are distances, as `kind` says or, if it is `auto`, they themselves."""
        return (self.kind if kind == "auto" else kind) == "distance"

    @property
    def origin(self) -> str:
        """The channel in words, such as ` (channel Z)`; empty if there is none."""
        return f" (channel {self.channel})" if self.channel else ""

    def meaning(self, words: str) -> str:
        """Return what they are taken for, in words and with the notes."""
        return "; ".join([words, *self.notes])


def read_map(path: Path, modality: str, kind: DepthKind = "auto", channel: str | None = None) -> MapFile:
    """Read a map of the modality `depth` or `normal`.

    Depth: grey images of 8 and 16 bits (or grey stored as colour), TIFF of other numbers, `.npy`, `.npz`, and EXR
    (`Exr.depths` says which channel). `kind` says whether the numbers are disparity (near is large) or distance (near is
    small); `auto` goes by the channel's name, takes grey of 8 and 16 bits for disparity, and all other numbers for
    disparity within [0, 1] and for distance beyond. Normals (`read_normals`) are in camera space. `channel` names another
    channel of an EXR or array of an `.npz`, of normals the layer.

    Raises:
        UserError: a file that cannot be read, or that holds no such map; a `channel` that it does not have.
    """
    if modality == "normal":
        return _read_normal(path, channel)
    return disparity_of_numbers(path, depth_numbers(path, channel), kind)


def header_size(path: Path, part: str = "depth", name: str | None = None) -> tuple[int, int]:
    """Read height and width of an image or a map without its pixels, as far as its format allows.

    Args:
        path: the file.
        part, name: of a NumPy file, as for `read_array`.

    Raises:
        UserError: the file is missing, or its header is damaged.
    """
    if is_exr(path):
        return exr_size(path)
    return array_size(path, part, name) if is_array(path) else raster_size(path)


def read_mask(path: Path) -> NDArray[np.float32]:
    """Read a mask: (H, W) in [0, 1], white = 1.

    Any image of 8 or 16 bits: the brightness of its colours, and none where it is transparent. In a drawing of one
    colour on a transparent ground, the drawing is white whatever its colour. Raises `UserError` for a file that cannot be
    read and for an image with both colours and transparency, which may be meant either way.
    """
    samples = read_samples(path)
    channels = samples.shape[-1]
    if not ((samples >= 0) & (samples <= 1)).all():
        hint = "a mask is an image of 8 or 16 bits, or holds numbers from 0 to 1"
        raise UserError(f"{path} holds numbers that are not from 0 to 1, and they have no known range", hint)
    colour = samples[..., :3].mean(axis=-1) if channels > 2 else samples[..., 0]
    if channels in (1, 3) or (samples[..., -1] == 1).all():
        return colour
    alpha = samples[..., -1]
    drawn = samples[alpha > 0][:, :-1]
    if np.ptp(drawn, axis=0).max(initial=0) > 0:
        raise UserError(
            f"{path} is an image with transparency, not a mask", hint="a mask is black and white: white is repainted"
        )
    return alpha


def relative_disparity(inverse_depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convert inverse depth in any unit, (H, W), sky = 0, to relative disparity in [0, 1], as training data has it."""
    low = inverse_depth.min()
    span = max(float(np.quantile(inverse_depth, NEAR_QUANTILE) - low), 1e-6)
    disparity: NDArray[np.float32] = np.clip((inverse_depth - low) / span, 0, 1).astype(np.float32)
    return disparity


def is_hit(distance: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return which of a file's distances (H, W) are of something: finite, positive and less than `NO_HIT`."""
    hit: NDArray[np.bool_] = np.isfinite(distance) & (distance > 0) & (distance < NO_HIT)
    return hit


def with_endless_sky(distance: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return a file's distances (H, W), infinite where they are of nothing."""
    return np.where(is_hit(distance), distance, np.inf).astype(np.float32)


def disparity_of_distance(distance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convert distances in any unit, (H, W), to relative disparity; what is not finite, not positive or huge is sky."""
    hit = is_hit(distance)
    distance = np.where(hit, distance, 1).astype(np.float64)
    nearest = distance[hit].min(initial=np.inf)
    # Relative to the nearest: the span of inverse depths is never too small for any unit.
    return relative_disparity(np.where(hit, nearest / distance, 0).astype(np.float32))


def unit_normals(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return vectors (H, W, 3) at unit length, zero where they are shorter than `SKY_LENGTH`."""
    vectors = np.nan_to_num(vectors)
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled = np.where(np.abs(length - 1) < UNIT_TOLERANCE, vectors, vectors / np.maximum(length, SKY_LENGTH))
    return np.where(length >= SKY_LENGTH, scaled, 0).astype(np.float32)


def bounded_disparity(
    path: Path, values: NDArray[np.float32]
) -> tuple[NDArray[np.float32], tuple[float, float] | None]:
    """Return disparity (H, W) that is finite everywhere, and its lowest and highest number if they are not in [0, 1].

    Not a number means unknown and becomes the lowest number, which is 0 in [0, 1]; infinite is the end of the range.
    Raises `UserError` if no number is finite.
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise UserError(f"{path} holds no finite numbers")
    low, high = float(finite.min()), float(finite.max())
    if low >= 0 and high <= 1:
        return np.nan_to_num(values, nan=0, posinf=high, neginf=low), None
    return np.nan_to_num(values, nan=low, posinf=high, neginf=low), (low, high)


def disparity_of_numbers(path: Path, numbers: DepthNumbers, kind: DepthKind) -> MapFile:
    """Return relative disparity (H, W) of the numbers of a depth file, and what they were taken for.

    Raises `UserError` if no number is finite.
    """
    if numbers.are_distances(kind):
        words = f"distance{numbers.origin}, turned into disparity"
        return MapFile(disparity_of_distance(numbers.values), numbers.meaning(words))
    values, moved = bounded_disparity(path, numbers.values)
    if moved is None:
        return MapFile(values, numbers.meaning(f"disparity{numbers.origin}, near is bright"))
    words = f"disparity{numbers.origin}, brought to the range 0 to 1"
    return MapFile(relative_disparity(values), numbers.meaning(words))


def kind_of_channel(channel: str | None) -> DepthKind | None:
    """Return what a channel's name says of its numbers; `None` is nothing."""
    words = (channel or "").lower().split(".")
    if "disparity" in words:
        return "disparity"
    return "distance" if words[-1] == "z" or "depth" in words else None


def depth_numbers(path: Path, channel: str | None = None) -> DepthNumbers:
    """Return the numbers of a depth file; `channel` names the channel of an EXR.

    Raises:
        UserError: a file that cannot be read or holds no depth; a `channel` that it does not have.
    """
    if is_exr(path):
        return _exr_numbers(path, channel)
    if is_array(path):
        return _array_numbers(path, channel)
    refuse_channel(path, channel)
    raster = read_raster(path)
    samples = raster.fractions()
    if samples.shape[-1] > 2 and np.ptp(samples[..., :3], axis=-1).max() > 0:
        raise UserError(f"{path} is a colour image, not a depth map", hint="depth is read from grey PNG, TIFF or EXR")
    transparent = samples.shape[-1] in (2, 4) and samples[..., -1].min() < 1
    notes = ("its transparency is ignored",) if transparent else ()
    values = np.ascontiguousarray(samples[..., 0])
    if raster.has_scale:
        full = raster.full_scale
        return DepthNumbers((np.rint(values * full) / full).astype(np.float32), full, notes=notes)
    return DepthNumbers(values, None if raster.samples.dtype.kind == "f" else 1, notes=notes)


def _exr_numbers(path: Path, channel: str | None) -> DepthNumbers:
    exr = read_exr(path)
    found = exr.depths()
    if channel is not None:
        exr.require_channel(channel)
    elif not found:
        raise UserError(
            f"{path} holds no depth", f"its channels are {', '.join(exr.channels)}; --channel NAME takes one as depth"
        )
    name = found[0] if channel is None else channel
    stored = exr.channels[name]
    whole = 1 if stored.dtype.kind in "ui" else None
    notes = exr.notes if channel is not None else exr.notes + _other_choices("--channel", found[1:])
    return DepthNumbers(stored.astype(np.float32), whole, name, notes)


def _other_choices(flag: str, others: Sequence[str]) -> tuple[str, ...]:
    return (f"{flag} takes {' or '.join(others)} instead",) if others else ()


def _array_numbers(path: Path, name: str | None) -> DepthNumbers:
    values = read_array(path, "depth", name)
    if values.ndim != 2 or values.dtype.kind not in "fui":
        raise UserError(
            f"{path} holds no depth: its array is {values.dtype} of shape {values.shape}",
            "depth is an array of real numbers of shape (H, W)",
        )
    named = name or array_of("depth", array_names(path))
    with np.errstate(over="ignore"):  # beyond float32 lies infinity
        numbers = values.astype(np.float32)
    return DepthNumbers(numbers, None if values.dtype.kind == "f" else 1, named if kind_of_channel(named) else None)


def normal_channels(exr: Exr, layer: str | None = None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the channels x, y, z of an EXR's normals and what had to be decided; `layer` overrides the best layer.

    Raises:
        UserError: there are none, or no such layer.
    """
    if layer is not None:
        return exr.vector_layer(layer), exr.notes
    found = exr.layers("xyz", *NORMAL_LAYERS)
    if not found:
        raise UserError(
            f"{exr.path} holds no normals",
            f"its channels are {', '.join(exr.channels)}; --normal-layer NAME takes the X, Y, Z of one",
        )
    others = [channels[0].rpartition(".")[0] for channels in found[1:]]
    return found[0], exr.notes + _other_choices("--normal-layer", others)


def read_normals(
    path: Path, layer: str | None = None, exr: Exr | None = None
) -> tuple[NDArray[np.float32], tuple[str, ...], tuple[str, ...]]:
    """Read unit normals (H, W, 3), zero where there is none; also return the channels of an EXR, and notes.

    Args:
        path: an EXR, an array or TIFF of vectors in floating point, or an image of (n + 1) / 2. Vectors turn with an image
            that states an orientation.
        layer: another layer of an EXR, or array of an `.npz` file, than the one named after normals.
        exr: the content of the file, if it has been read.

    Raises:
        UserError: a file that cannot be read or holds no normals.
    """
    if exr is not None or is_exr(path):
        exr = exr or read_exr(path)
        channels, notes = normal_channels(exr, layer)
        return unit_normals(exr.stack(channels)), channels, notes
    orientation = 1
    if is_array(path):
        samples = read_array(path, "normal", layer)
        if samples.ndim != 3 or samples.shape[-1] != 3 or samples.dtype.kind not in "fu":
            raise UserError(
                f"{path} holds no normals: its array is {samples.dtype} of shape {samples.shape}",
                "normals have the shape (H, W, 3)",
            )
        full = np.iinfo(samples.dtype).max if samples.dtype.kind == "u" else None
    else:
        refuse_channel(path, layer)
        raster = read_raster(path)
        samples, orientation = raster.samples, raster.orientation
        if samples.shape[-1] < 3:
            raise UserError(f"{path} is grey, not a normal map", hint="normals are red, green and blue: (n + 1) / 2")
        if not raster.has_scale and samples.dtype.kind != "f":
            raise UserError(f"{path} has colours of no known range", "convert it to 8 or 16 bits, or to OpenEXR")
        full = np.iinfo(samples.dtype).max if raster.has_scale else None
    vectors = samples[..., :3].astype(np.float32)
    if full is not None:
        vectors = vectors / np.float32(full) * 2 - 1
    if full is not None and samples.shape[-1] == 4:
        vectors[samples[..., 3] < full / 2] = 0
    return unit_normals(turned_components(vectors, orientation)), (), ()


def _read_normal(path: Path, layer: str | None) -> MapFile:
    values, channels, notes = read_normals(path, layer)
    origin = f" (channels {', '.join(channels)})" if channels else ""
    return MapFile(values, f"normals{origin}, taken as camera space" + "".join(f"; {note}" for note in notes))
