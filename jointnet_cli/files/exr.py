"""OpenEXR: image and maps at full precision in one file."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.errors import UserError, did_you_mean, reading
from jointnet_cli.files.atomic import atomic_file
from jointnet_cli.files.budget import check_pixels
from jointnet_cli.files.color import by_bands, srgb_to_linear
from jointnet_cli.modality import MODALITIES
from jointnet_cli.projection import Projection

IMAGE_LAYERS = ("", "combined")
"""Names of layers that hold the image, in lower case; "" has none."""

_MAGIC = b"\x76\x2f\x31\x01"

_DEPTHS = ("disparity", "z", "depth")
"""What a channel of depth, or its layer, is called, best first."""

_COLOURS = {"r": 0.0, "g": 0.0, "b": 0.0, "a": 1.0}
"""What channels of these names hold outside of the data window: opaque black. Others hold NaN, which means unknown."""

_IMAGE_PARTS = ("rgba", "rgb", "beauty", "combined", "main", "color", "c", "")
"""Names of parts that hold the image, where several parts have `R`, `G`, `B`."""


class Exr(NamedTuple):
    """What a file holds: arrays by channel name, and the headers' other attributes."""

    path: Path
    channels: dict[str, NDArray[Any]]
    """(H, W) of the display window. Outside of its data window a channel of colour is black, any other NaN."""
    attributes: dict[str, Any]
    views: tuple[str, ...] = ()
    """The names of the eyes of a stereo file; the first is the one that is read."""
    notes: tuple[str, ...] = ()
    """For the user: what had to be decided to make one image of the file."""

    def depths(self) -> list[str]:
        """Return the channels whose name means depth, best first.

        In this order: `disparity` (alone, or with `.Y`, `.V`, `.Z`), `Z`, and `depth` (the same). Of equals the one with the
        fewest layers in its name comes first, then the alphabet decides. A layer with all of `X`, `Y`, `Z`
        is a vector (a normal, a position, a motion), and no depth. The only channel of a file counts under any
        name without a layer but `A` and `X`.
        """
        ranked = sorted((rank, name) for name in self.channels if (rank := self._depth_rank(name)) is not None)
        if not ranked and len(self.channels) == 1:
            (name,) = self.channels
            return [] if "." in name or name in ("A", "X") else [name]
        return [name for _, name in ranked]

    def layers(self, axes: str, *names: str) -> list[tuple[str, ...]]:
        """Return the channels, in the order of `axes`, of each layer called one of `names`, best first, in lower case.

        `ViewLayer.Normal.X` is the channel `X` of the layer `Normal` of `ViewLayer`. Case is ignored; the layer without a name
        is called "". Layers with the fewest dots come first, then the order of `names`, then the alphabet.
        """
        found = []
        for prefix, channels in self._prefixes(axes).items():
            words = self._words(prefix.removesuffix("."))
            if words is not None and (name := "".join(words[-1:])) in names:
                found.append((len(words), names.index(name), channels))
        return [channels for *_, channels in sorted(found)]

    def require_channel(self, name: str) -> None:
        """Raise `UserError` with the nearest name if there is no such channel."""
        if name not in self.channels:
            raise UserError(f"{self.path} has no channel {name}", _nearest(name, self.channels))

    def vector_layer(self, name: str) -> tuple[str, ...]:
        """Return the channels `X`, `Y`, `Z` of a layer. Raises `UserError` with the nearest name if there is no such layer."""
        vectors = {prefix.removesuffix("."): channels for prefix, channels in self._prefixes("xyz").items()}
        if name not in vectors:
            message = f"{self.path} has no layer {name} with channels X, Y and Z"
            raise UserError(message, _nearest(name, vectors or self.channels))
        return vectors[name]

    def stack(self, channels: Iterable[str]) -> NDArray[np.float32]:
        """Return these channels as (H, W, C)."""
        planes = [self.channels[name] for name in channels]
        return np.stack(planes, axis=-1, dtype=np.float32, casting="unsafe")

    def _prefixes(self, axes: str) -> dict[str, tuple[str, ...]]:
        """By prefix, with its dot, the channels of every layer that has all of `axes` (lower case), in any case."""
        by_prefix: dict[str, dict[str, str]] = {}
        for name in self.channels:
            layer, dot, axis = name.rpartition(".")
            by_prefix.setdefault(layer + dot, {})[axis.lower()] = name
        return {
            prefix: tuple(there[axis] for axis in axes)
            for prefix, there in by_prefix.items()
            if set(axes) <= there.keys()
        }

    def _words(self, name: str) -> list[str] | None:
        """Return the parts of a name in lower case without the view that is read; `None` for a name of another view."""
        words = name.split(".")
        if any(word in self.views[1:] for word in words):
            return None
        return [word.lower() for word in words if word not in self.views]

    def _depth_rank(self, name: str) -> tuple[int, int] | None:
        """Return a sort key, the best name first; `None` if the name does not mean depth."""
        words = self._words(name)
        if not words or any(name in vector for vector in self._prefixes("xyz").values()):
            return None
        alone = len(words) == 1
        quantity = words[-1] if alone else words[-2] if words[-1] in ("z", "v", "y") else None
        if quantity not in _DEPTHS or (quantity == "z" and not alone):
            return None
        return _DEPTHS.index(quantity), len(words)


def write_exr(
    path: Path,
    image: NDArray[np.float32],
    maps: Mapping[str, NDArray[np.float32]],
    attributes: Mapping[str, str],
    projection: Projection,
    uncertainty: Mapping[str, NDArray[np.float32]] | None = None,
) -> None:
    """Write one ZIP-compressed part: linear-light half `R`, `G`, `B`, and the maps in float32 bit for bit.

    `image` is (H, W, 3) sRGB in [0, 1]. Maps, by modality, go into the channels that `MODALITIES` names: (H, W) relative
    disparity into `disparity.Y` (the name `Z` is kept for distances), (H, W, 3) normals into `normal.X`, `.Y`, `.Z`. Their
    uncertainty, (H, W), goes into `uncertainty.disparity` and `uncertainty.normal`. `attributes` become string attributes; a
    panorama that closes says so with `wrapmodes`. Raises ValueError for a map of another name or size.
    """
    linear = by_bands(lambda band: srgb_to_linear(np.clip(band, 0, 1)), image, np.float16)
    planes: dict[str, NDArray[Any]] = {name: linear[..., channel] for channel, name in enumerate("RGB")}
    for name, values in maps.items():
        if values.shape[:2] != image.shape[:2]:
            raise ValueError(f"the map {name} is {values.shape[:2]} and the image {image.shape[:2]}")
        values = np.asarray(values, np.float32)
        if name not in MODALITIES:
            raise ValueError(f"no EXR channels are defined for a map named {name}")
        channels = MODALITIES[name].channels
        planes |= {channel: values.reshape(*values.shape[:2], -1)[..., i] for i, channel in enumerate(channels)}
    for name, values in (uncertainty or {}).items():
        planes[f"uncertainty.{MODALITIES[name].layer}"] = np.asarray(values, np.float32)
    write_channels(path, planes, attributes, wrap=projection.wrap)


def write_channels(
    path: Path,
    channels: Mapping[str, NDArray[Any]],
    attributes: Mapping[str, str],
    *,
    wrap: bool = False,
    sphere: bool = False,
) -> None:
    """Write (H, W) arrays, half or float32 as they are, by channel name as one ZIP-compressed part.

    `wrap` says that the right edge continues at the left one, `sphere` that the image is a whole sphere: OpenEXR's
    `envmap`, latitude and longitude. Raises ValueError for a `sphere` that is not exactly twice as wide as high.
    """
    import OpenEXR

    height, width = next(iter(channels.values())).shape
    if sphere and width != 2 * height:
        raise ValueError(f"a sphere is twice as wide as high, not {width} x {height}")
    header: dict[str, Any] = {**attributes, "compression": OpenEXR.ZIP_COMPRESSION}
    if wrap:
        header["wrapmodes"] = "periodic,clamp"
    if sphere:
        header["envmap"] = OpenEXR.ENVMAP_LATLONG
    # OpenEXR reads the buffer as it lies in memory and ignores strides.
    contiguous = {name: np.ascontiguousarray(plane) for name, plane in channels.items()}
    with atomic_file(path) as temporary, OpenEXR.File(header, contiguous) as file:
        try:
            file.write(str(temporary))
        except RuntimeError as error:  # the library states the reason only in words
            code = next((code for code in errno.errorcode if os.strerror(code) in str(error)), errno.EIO)
            raise OSError(code, os.strerror(code), str(path)) from error


def is_exr(path: Path) -> bool:
    """Return whether a file is there and begins as OpenEXR does."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(_MAGIC)) == _MAGIC


def read_exr(path: Path) -> Exr:
    """Read all parts of a file as channels of one size, the display window's.

    The names are those of the file. Of several parts, a channel without a layer gets its part's name as its layer, and so
    does one whose name is taken. `R`, `G`, `B`, `A` of the image's part stay as they are (one called `rgba`, `beauty` or
    the like, else the first with them), and so do a `Z` that belongs to no vector and a channel that is called as its part.
    Of a stereo file the first view is
    read under these names, and the others have the view's name before them. Values of a channel that has fewer samples
    than pixels are repeated.

    Raises:
        UserError: a file that is not OpenEXR, is damaged, holds deep data only, or shows nothing of its display window.
    """
    with _opened(path, header_only=True) as file:
        _check_size(path, file)
    with _opened(path) as file:
        flat, deep = _flat_and_deep(file)
        if not flat:
            names = ", ".join(part.name() or "1" for part in deep)
            raise UserError(f"{path} holds deep data only (part {names})", "flatten it to one sample a pixel")
        views = _views(flat)
        channels = {
            name: _placed(path, part, name, channel)
            for part, own in _named_channels(flat, views)
            for name, channel in own.items()
        }
        return Exr(path, channels, _attributes(file), views, _notes(file))


def exr_notes(path: Path) -> tuple[str, ...]:
    """Return what `read_exr` decides to make one image of a file, in words; empty for a file that is not OpenEXR.

    Reads the headers alone. Raises `UserError` for a damaged file.
    """
    if not is_exr(path):
        return ()
    with _opened(path, header_only=True) as file:
        return _notes(file)


def read_attributes(path: Path) -> dict[str, Any]:
    """Read the attributes in the headers of a file, of the first part that has each. Raises `UserError` as `read_exr` does."""
    with _opened(path, header_only=True) as file:
        return _attributes(file)


def exr_size(path: Path) -> tuple[int, int]:
    """Read height and width of the display window from the header. Raises `UserError` as `read_exr` does."""
    with _opened(path, header_only=True) as file:
        _check_size(path, file)
        first, last = _window(file.parts[0], "displayWindow")
        height, width = last - first + 1
        return int(height), int(width)


@contextmanager
def _opened(path: Path, *, header_only: bool = False) -> Iterator[Any]:
    import OpenEXR

    with reading(path):
        if not is_exr(path):  # asked here, because the library prints its own complaint to stderr
            raise UserError(f"{path} is not an OpenEXR file")
        with redirect_stdout(StringIO()) as said:  # the library drops a damaged part, and says so on stdout
            opened = OpenEXR.File(str(path), separate_channels=True, header_only=header_only)
        if words := said.getvalue().strip():
            raise UserError(f"{path} cannot be read: {words}")
        with opened as file:
            yield file


def _check_size(path: Path, file: Any) -> None:
    """Refuse windows and channels that decode to too much, by the headers, which do not tell half from float32."""
    windows = [_window(part, name) for part in file.parts for name in ("dataWindow", "displayWindow")]
    height, width = (max(int(last[axis]) - int(first[axis]) + 1 for first, last in windows) for axis in (0, 1))
    if min(height, width) < 1:
        raise UserError(f"{path} has a window without pixels")
    channels = [channel for part in file.parts for channel in part.header["channels"]]
    check_pixels(path, height, width, 4 * len(channels))


def _attributes(file: Any) -> dict[str, Any]:
    stated = [(name, value) for part in reversed(file.parts) for name, value in part.header.items()]
    return {name: value for name, value in stated if name != "channels"}


def _flat_and_deep(file: Any) -> tuple[list[Any], list[Any]]:
    import OpenEXR

    flat = [part for part in file.parts if part.type() in (OpenEXR.scanlineimage, OpenEXR.tiledimage)]
    return flat, [part for part in file.parts if part not in flat]


def _notes(file: Any) -> tuple[str, ...]:
    flat, deep = _flat_and_deep(file)
    notes = [f"part {part.name()} holds deep data and is left out" for part in deep]
    if len(views := _views(flat) if flat else ()) > 1:
        notes.append(f"of the views {', '.join(views)}, {views[0]} is read")
    for part in flat:
        if note := _window_note(part):
            notes.append(note)
        for channel in part.header["channels"]:
            if (channel.xSampling, channel.ySampling) != (1, 1):
                pixels = f"{channel.xSampling} x {channel.ySampling}"
                notes.append(f"channel {channel.name} has one sample for {pixels} pixels, which is repeated")
    return tuple(dict.fromkeys(notes))


def _views(parts: list[Any]) -> tuple[str, ...]:
    """Return the views of a stereo file, the default one first.

    They are those of the attribute `multiView`, or of the parts' `view`.
    """
    stated = parts[0].header.get("multiView") or [part.header["view"] for part in parts if part.header.get("view")]
    return tuple(dict.fromkeys(map(str, stated)))


def _named_channels(parts: list[Any], views: tuple[str, ...]) -> list[tuple[Any, dict[str, Any]]]:
    """Return the channels of each part by the names that `read_exr` gives them, each once."""
    if len(parts) == 1:
        return [(parts[0], dict(parts[0].channels))]
    seen = [part for part in parts if part.header.get("view") in (None, *views[:1])]
    pictures = [part for part in seen if {"R", "G", "B"} <= part.channels.keys()]
    pictures.sort(key=lambda part: part.name().rpartition(".")[-1].lower() not in _IMAGE_PARTS)
    picture = pictures[0] if pictures else None
    taken: set[str] = set()
    named = []
    for part in sorted(parts, key=lambda part: part is not picture):
        own = {}
        for channel_name, channel in part.channels.items():
            name = channel_name
            vector = {"X", "Y", "Z"} <= part.channels.keys()
            colour = part is picture and name in ("R", "G", "B", "A")
            if not (colour or "." in name or name == part.name() or (name == "Z" and not vector)):
                name = f"{part.name()}.{name}"
            if (view := part.header.get("view")) in views[1:]:
                name = f"{view}.{name}"
            while name in taken:
                name = f"{part.name()}.{name}"
            taken.add(name)
            own[name] = channel
        named.append((part, own))
    return named


def _placed(path: Path, part: Any, name: str, channel: Any) -> NDArray[Any]:
    """Return a channel's values in the display window."""
    data, display = _window(part, "dataWindow"), _window(part, "displayWindow")
    pixels = np.asarray(channel.pixels)
    if (channel.xSampling, channel.ySampling) != (1, 1):
        pixels = pixels.repeat(channel.ySampling, axis=0).repeat(channel.xSampling, axis=1)
    if np.array_equal(data, display):
        return pixels
    first, last = np.maximum(data[0], display[0]), np.minimum(data[1], display[1])
    if (first > last).any():
        raise UserError(f"{path} shows nothing: the data window of {name} lies outside of the display window")
    outside = _COLOURS.get(name.rpartition(".")[-1].lower(), np.nan if pixels.dtype.kind == "f" else 0)
    placed = np.full(display[1] - display[0] + 1, outside, pixels.dtype)
    placed[_between(first - display[0], last - display[0])] = pixels[_between(first - data[0], last - data[0])]
    return placed


def _between(first: NDArray[np.int_], last: NDArray[np.int_]) -> tuple[slice, ...]:
    return tuple(slice(low, high + 1) for low, high in zip(first, last, strict=True))


def _window_note(part: Any) -> str | None:
    data, display = _window(part, "dataWindow"), _window(part, "displayWindow")
    if np.array_equal(data, display):
        return None
    (height, width), (rows, columns) = (window[1] - window[0] + 1 for window in (data, display))
    top, left = data[0] - display[0]
    unknown = (data[0] > display[0]).any() or (data[1] < display[1]).any()
    where = f"{width} x {height} pixels at {left}, {top} in the display window of {columns} x {rows}"
    return f"data window of {where}: {'unknown outside of it' if unknown else 'cut to it'}"


def _window(part: Any, name: str) -> NDArray[np.int_]:
    """Return (2, 2): the first and the last pixel, each as row and column."""
    return np.array(part.header[name], int)[:, ::-1]


def _nearest(name: str, known: Collection[str]) -> str:
    """Return a hint: the nearest of the known names, and all of them."""
    return " ".join(filter(None, [did_you_mean(name, known), f"it has {', '.join(known)}"]))
