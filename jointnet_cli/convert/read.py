"""Read files: their images and maps, and the meaning of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.convert.content import PARTS, Code, Content, DepthMap, Part, Quantity, SourceOptions, View, kind_of
from jointnet_cli.convert.conventions import Conventions, axis_words, read_stated, record_of, unstated_view
from jointnet_cli.errors import UserError
from jointnet_cli.files.arrays import ARRAY_NAMES, array_names, is_array, read_array, refuse_channel
from jointnet_cli.files.color import srgb_to_linear
from jointnet_cli.files.decode import read_raster
from jointnet_cli.files.exr import is_exr, read_exr
from jointnet_cli.files.exr_channels import IMAGE_LAYERS, Exr
from jointnet_cli.files.images import read_image, read_text
from jointnet_cli.files.maps import (
    NORMAL_LAYERS,
    DepthNumbers,
    bounded_disparity,
    depth_numbers,
    kind_of_channel,
    read_normals,
)
from jointnet_cli.projection import FULL_CIRCLE, Projection, Sphere
from jointnet_cli.scene.scene import DepthScale


def read_content(path: Path, source: SourceOptions) -> Content:
    """Return the image and maps of a file.

    Raises:
        UserError: a file that cannot be read or holds neither; a required convention that is unknown.
    """
    if "-uncertainty." in path.name and source.part is None:
        raise UserError(f"{path} holds the uncertainty of a map, which has a single convention")
    record = record_of(path)
    stated = read_stated(path, record)
    exr = read_exr(path) if is_exr(path) else None
    content = Content(None, record=record, notes=exr.notes if exr else ())
    for part in _parts(path, source, stated, exr):
        _READERS[part](path, content, source, stated, exr)
    sizes = {part: values.shape[:2] for part, values in content.parts.items()}
    if len(set(sizes.values())) > 1:
        words = ", ".join(f"{part} {width} x {height}" for part, (height, width) in sizes.items())
        raise UserError(f"{path} holds parts of several sizes: {words}", "convert them one by one with --content")
    if exr is None and not is_array(path):
        refuse_channel(path, source.channel)
        refuse_channel(path, source.normal_layer)
    elif exr is not None:
        content.left_out = tuple(name for name in exr.channels if name not in content.used)
    if exr is None and path.suffix.lower() == ".png":
        content.texts = {key: text for key, text in read_text(path).items() if key == "parameters"}
    elif exr is not None and isinstance(comments := exr.attributes.get("comments"), str):
        content.texts = {"parameters": comments}
    content.view = _view(path, content.size, source, stated, exr)
    content.coverage = stated.coverage
    if content.depth is not None:
        sphere = isinstance(content.view, Sphere) and content.depth.quantity == "distance"
        axis = source.axis or stated.axis or ("radial" if sphere else "planar")
        content.depth = replace(content.depth, axis=axis)
        content.taken_for["depth"] += f", {axis_words(axis, content.view)}"
    return content


def _parts(path: Path, source: SourceOptions, stated: Conventions, exr: Exr | None) -> list[Part]:
    """Return which parts a file holds: all of an EXR's and those that arrays are named after, and one of any other file."""
    wanted = source.part
    if exr is None:
        if (known := wanted or stated.part) is not None:
            return [known]
        names = [name.lower() for name in array_names(path)] if is_array(path) else []
        asked = {"depth": source.channel, "normal": source.normal_layer}
        parts = [part for part in PARTS if asked.get(part) or (len(names) > 1 and set(names) & set(ARRAY_NAMES[part]))]
        return parts or [_guess(path)]
    there: dict[Part, bool] = {
        "image": bool(exr.layers("rgb", *IMAGE_LAYERS)),
        "depth": source.channel is not None or bool(exr.depths()),
        "normal": source.normal_layer is not None or bool(exr.layers("xyz", *NORMAL_LAYERS)),
    }
    parts = [part for part, found in there.items() if found and wanted in (None, part)]
    if not parts:
        remedies = {"image": "", "normal": "; --normal-layer NAME takes the X, Y, Z of one"}
        remedy = remedies.get(wanted or "", "; --channel NAME takes one as depth")
        message = f"{path} holds no {wanted or 'image or map'}"
        raise UserError(message, f"its channels are {', '.join(exr.channels)}{remedy}")
    return parts


def _guess(path: Path) -> Part:
    """Guess the part: grey is depth, colour an image; arrays of three channels with negative values are normals."""
    if is_array(path):
        values = read_array(path, "depth")
        if values.ndim == 3 and values.shape[-1] == 3:
            return "normal" if values.min(initial=0) < 0 else "image"
        return "depth"
    samples = read_raster(path).samples
    if samples.dtype.kind == "f" and samples.shape[-1] == 3 and samples.min() < 0:
        return "normal"
    return "depth" if samples.shape[-1] == 1 else "image"


def _read_image(path: Path, content: Content, source: SourceOptions, stated: Conventions, exr: Exr | None) -> None:
    if exr is not None:
        channels = exr.layers("rgb", *IMAGE_LAYERS)[0]
        content.used |= set(channels)
        _take_linear(content, exr.light(channels), "image in linear light")
        return
    if (colours := _float_colours(path)) is not None:
        _take_linear(content, colours[..., :3], "image in floating point, taken for linear light")
        return
    content.image = srgb_to_linear(_fractions(path) if is_array(path) else read_image(path))
    content.taken_for["image"] = "image in sRGB"


def _take_linear(content: Content, linear: NDArray[np.float32], words: str) -> None:
    """Take colours (H, W, 3) in linear light as the image; negative and NaN values become 0."""
    content.image = np.maximum(np.nan_to_num(linear), 0)
    content.taken_for["image"] = words
    if lost := np.count_nonzero(~(linear >= 0).all(axis=-1)):
        content.notes += (f"{lost} pixels have negative or NaN colours, which become 0",)


def _read_depth(path: Path, content: Content, source: SourceOptions, stated: Conventions, exr: Exr | None) -> None:
    numbers = depth_numbers(path, source.channel)
    stored, channel = numbers.values, numbers.channel
    if channel:
        content.used.add(channel)
    content.notes = tuple(dict.fromkeys([*content.notes, *numbers.notes]))
    of_channel = kind_of_channel(channel)
    given = None if source.depth_kind == "auto" else source.depth_kind
    told = given or (None if of_channel else stated.quantity) or of_channel or numbers.kind
    quantity: Quantity = "distance" if told == "distance" else "disparity"
    code = _code(path, quantity, numbers, source, stated, content.used)
    values, scale = code.decode(stored), source.metres.scale or stated.scale
    note = f"{quantity}{numbers.origin}"
    if quantity == "disparity":
        note += ", white is near" if code.white > code.black else ", white is far"
        values, scale, moved = scaled_disparity(path, values, scale, source.metres.fitted)
        note += moved
        content.used |= {"--from-white", "scale"}
    elif numbers.whole == 1:
        note += f", steps of {code.white - code.black:g} m"
    elif numbers.whole:
        note += f", black is {code.black:g} m and white {code.white:g} m"
    else:
        note += " in metres"
    content.depth = DepthMap(values, quantity, "planar", scale)
    content.taken_for["depth"] = note


def _code(
    path: Path, quantity: Quantity, numbers: DepthNumbers, source: SourceOptions, stated: Conventions, used: set[str]
) -> Code:
    """Return the depths of 0 and 1: by `--from-white`, else by the record, else by the other flags.

    The flags that decided are added to `used`.
    """
    if stated.code is not None and source.white is None and stated.quantity == quantity:
        return stated.code
    if quantity == "disparity":
        return Code(1, 0) if source.white == "far" else Code()
    if numbers.whole is None:
        return Code()
    if source.metres.step is not None:
        used.add("--step")
        return Code(0, source.metres.step * numbers.whole)
    if numbers.whole == 1:
        raise UserError(
            f"{path} holds distance in whole numbers of an unknown unit",
            "pass --step in metres: 0.001 for millimetres, 1 for metres",
        )
    if source.metres.scale is None:
        raise UserError(
            f"{path} holds distance as grey of an unknown range",
            "pass --step (0.001 for millimetres), or the metres of black and white with --near and --far",
        )
    used |= {"--from-white", "scale"}
    near, far = source.metres.scale.near, source.metres.scale.far
    return Code(far, near) if source.white == "near" else Code(near, far)


def scaled_disparity(
    path: Path, values: NDArray[np.float32], scale: DepthScale | None, raw: bool
) -> tuple[NDArray[np.float32], DepthScale | None, str]:
    """Return disparity (H, W) in [0, 1], its scale, and a note on how it was rescaled.

    Args:
        path: the file, for messages.
        values: (H, W), as the file has them.
        scale: what disparity means in metres, if that is known.
        raw: whether that is said of the file's own numbers, rather than of their range.
    """
    values, moved = bounded_disparity(path, values)
    if moved is None:
        return values, scale, ""
    low, high = moved
    extent = max(high - low, 1e-12)
    if scale is not None and raw:
        scale = DepthScale.from_scale(scale.scale * extent, scale.scale * low + scale.shift)
    relative = ((values.astype(np.float64) - low) / extent).astype(np.float32)
    return relative, scale, f", {low:g} to {high:g} brought to 0 to 1"


def _read_normal(path: Path, content: Content, source: SourceOptions, stated: Conventions, exr: Exr | None) -> None:
    normal, channels, notes = read_normals(path, source.normal_layer, exr)
    content.used |= set(channels)
    content.notes = tuple(dict.fromkeys([*content.notes, *notes]))
    down = stated.down if source.normals is None else source.normals == "directx"
    content.normal = normal * np.array([1, -1 if down else 1, 1], np.float32)
    content.taken_for["normal"] = "normals, green is down (DirectX)" if down else "normals, green is up (OpenGL)"


_READERS: dict[Part, Callable[[Path, Content, SourceOptions, Conventions, Exr | None], None]] = {
    "image": _read_image,
    "depth": _read_depth,
    "normal": _read_normal,
}


def _view(
    path: Path, size: tuple[int, int], source: SourceOptions, stated: Conventions, exr: Exr | None
) -> View | None:
    """Return the view by flags, the record, XMP or the OpenEXR attribute `envmap`."""
    height, width = size
    known = stated.view or unstated_view(path)
    kind = source.projection or kind_of(known) or ("perspective" if source.span is not None else None)
    if kind == "equirectangular":
        if kind_of(known) != kind or source.span is not None:
            known = _centred(FULL_CIRCLE if source.span is None else source.span, size)
    elif kind is not None:
        span = known.span if isinstance(known, Projection) and known.kind == kind else None
        span = span if source.span is None else source.span
        if span is None and kind == "perspective":
            raise UserError(f"{path} does not state its field of view", "pass --from-span in degrees")
        span = FULL_CIRCLE if span is None else span
        known = Projection(kind, span, kind == "cylindrical" and span == FULL_CIRCLE)
    if isinstance(known, Sphere) and not (
        0 <= known.left <= known.full_width - width and 0 <= known.top <= known.full_height - height
    ):
        raise UserError(
            f"{path} is {width} x {height} pixels, which does not fit into a sphere of "
            f"{known.full_width} x {known.full_height}",
            "give --from-span with its horizontal field of view in degrees",
        )
    return known


def _centred(span: float, size: tuple[int, int]) -> Sphere:
    """Return the part of a sphere, around its centre, that an image shows."""
    height, width = size
    around = 2 * round(width * 180 / span)
    return Sphere(around, (around - width) // 2, (around // 2 - height) // 2)


def _fractions(path: Path) -> NDArray[np.float32]:
    """Return an array (H, W, 3) in [0, 1], full scale = 1."""
    values = read_array(path, "image")
    if values.ndim != 3 or values.shape[-1] != 3 or values.dtype.kind not in "fu":
        raise UserError(f"{path} holds no image: its array is {values.dtype} of shape {values.shape}")
    scale = np.iinfo(values.dtype).max if values.dtype.kind == "u" else 1
    fractions: NDArray[np.float32] = (values / scale).astype(np.float32)
    if not ((fractions >= 0) & (fractions <= 1)).all():
        message = f"{path} holds values outside of 0 to 1, the range of floating-point images"
        raise UserError(message, "divide it by its full scale, or pass --content normal for vectors")
    return fractions


def _float_colours(path: Path) -> NDArray[np.float32] | None:
    """Return the samples (H, W, 3) of a TIFF of floating-point colours; `None` for any other file."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        return None
    samples = read_raster(path).samples
    return samples if samples.dtype.kind == "f" and samples.shape[-1] >= 3 else None
