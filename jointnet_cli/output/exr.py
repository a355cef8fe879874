"""OpenEXR: picture and maps at full precision in one file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.errors import UserError
from jointnet_cli.output.atomic import atomic_path
from jointnet_cli.output.color import srgb_to_linear
from jointnet_cli.tasks import Projection

_MAGIC = b"\x76\x2f\x31\x01"


class Exr(NamedTuple):
    """What a file holds: (H, W) arrays by channel name, and the header's other attributes."""

    channels: dict[str, NDArray[Any]]
    attributes: dict[str, Any]

    def layer(self, axes: str, *names: str) -> str | None:
        """The prefix of the first layer that is called one of `names` and has a channel for each of `axes`.

        `ViewLayer.Normal.X` is the channel `X` of the layer `Normal` of `ViewLayer`; its prefix is `ViewLayer.Normal.`.
        Case is ignored; the layer without a name is called "".
        """
        prefixes = sorted(name[:-1] for name in self.channels if name.endswith(axes[0]))
        for prefix in prefixes:
            name = prefix.removesuffix(".").rpartition(".")[-1].lower()
            if name in names and all(prefix + axis in self.channels for axis in axes):
                return prefix
        return None

    def stack(self, prefix: str, axes: str) -> NDArray[np.float32]:
        """The channels of a layer as (H, W, len(axes))."""
        return np.stack([self.channels[prefix + axis] for axis in axes], axis=-1).astype(np.float32)


def write_exr(
    path: Path,
    image: NDArray[np.float32],
    maps: Mapping[str, NDArray[np.float32]],
    attributes: Mapping[str, str],
    projection: Projection,
    uncertainty: Mapping[str, NDArray[np.float32]] | None = None,
) -> None:
    """Write one ZIP-compressed part: linear-light half `R`, `G`, `B`, and the maps in float32 bit for bit.

    `image` is (H, W, 3) sRGB in [0, 1]. The map `depth`, (H, W) relative disparity, becomes `disparity.Y`: the name `Z`
    is kept for distances. The map `normal`, (H, W, 3), becomes `normal.X`, `.Y`, `.Z`. What is uncertain about them,
    (H, W) by map, becomes `uncertainty.disparity` and `uncertainty.normal`. `attributes` become string attributes; a
    panorama that closes says so with `wrapmodes`. Raises ValueError for a map of another name or size.
    """
    linear = srgb_to_linear(np.clip(image, 0, 1)).astype(np.float16)
    planes: dict[str, NDArray[Any]] = {name: linear[..., channel] for channel, name in enumerate("RGB")}
    for name, values in maps.items():
        if values.shape[:2] != image.shape[:2]:
            raise ValueError(f"the map {name} is {values.shape[:2]} and the image {image.shape[:2]}")
        planes |= _planes(name, values)
    for name, values in (uncertainty or {}).items():
        planes["uncertainty.disparity" if name == "depth" else f"uncertainty.{name}"] = np.asarray(values, np.float32)
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

    `wrap` says that the right edge continues at the left one, `sphere` that the picture is a whole sphere: OpenEXR's
    `envmap`, latitude and longitude. Raises ValueError for a `sphere` that is not exactly twice as wide as high.
    """
    import OpenEXR

    height, width = next(iter(channels.values())).shape
    if sphere and width != 2 * height:
        raise ValueError(f"a sphere is twice as wide as high, not {width} x {height}")
    header: dict[str, Any] = {
        **attributes,
        "compression": OpenEXR.ZIP_COMPRESSION,
        "type": OpenEXR.scanlineimage,
    }
    if wrap:
        header["wrapmodes"] = "periodic,clamp"
    if sphere:
        header["envmap"] = OpenEXR.ENVMAP_LATLONG
    # OpenEXR reads the buffer as it lies in memory and ignores strides.
    contiguous = {name: np.ascontiguousarray(plane) for name, plane in channels.items()}
    with atomic_path(path) as temporary, OpenEXR.File(header, contiguous) as file:
        file.write(str(temporary))


def is_exr(path: Path) -> bool:
    """Whether a file is there and begins as OpenEXR does."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(_MAGIC)) == _MAGIC


def read_exr(path: Path) -> Exr:
    """Read the channels of the first part, one array each, and the attributes. Raises `UserError` if it is not EXR."""
    import OpenEXR

    try:
        if not is_exr(path):  # asked here, because the library prints its own complaint to stderr
            raise UserError(f"{path} is not an OpenEXR file")
        with OpenEXR.File(str(path), separate_channels=True) as file:
            channels = {name: channel.pixels for name, channel in file.channels().items()}
            attributes = {name: value for name, value in file.header().items() if name != "channels"}
    except (OSError, RuntimeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    return Exr(channels, attributes)


def _planes(name: str, values: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    values = np.asarray(values, np.float32)
    if name == "depth":
        return {"disparity.Y": values}
    if name == "normal":
        return {f"normal.{axis}": values[..., channel] for channel, axis in enumerate("XYZ")}
    raise ValueError(f"no EXR channels are defined for a map named {name}")
