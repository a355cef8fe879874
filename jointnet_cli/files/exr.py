"""Write and read OpenEXR: image and maps at full precision in one file."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.errors import UserError, reading
from jointnet_cli.files.atomic import atomic_file
from jointnet_cli.files.budget import check_pixels
from jointnet_cli.files.color import by_bands, srgb_to_linear
from jointnet_cli.files.exr_channels import Exr
from jointnet_cli.modality import MODALITIES
from jointnet_cli.projection import Projection

_MAGIC = b"\x76\x2f\x31\x01"

_COLOURS = {"r": 0.0, "g": 0.0, "b": 0.0, "a": 1.0}
"""What channels of these names hold outside of the data window: opaque black. Others hold NaN, which means unknown."""

_IMAGE_PARTS = ("rgba", "rgb", "beauty", "combined", "main", "color", "c", "")
"""Names of parts that hold the image, where several parts have `R`, `G`, `B`."""


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
