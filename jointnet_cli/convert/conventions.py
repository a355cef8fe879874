"""Read and state the conventions of images and maps in records."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

from jointnet_cli.convert.content import PARTS, Axis, Code, Coverage, DepthMap, Part, Quantity, View, kind_of
from jointnet_cli.errors import UserError
from jointnet_cli.files.arrays import is_array
from jointnet_cli.files.exr import is_exr, read_attributes
from jointnet_cli.files.metadata import CAMERA_SPACE, DISPARITY_QUANTITY, DISTANCE_WORDS, read_gpano, read_record
from jointnet_cli.files.text import from_json, load_object
from jointnet_cli.projection import FULL_CIRCLE, Projection, Sphere
from jointnet_cli.scene.scene import DepthScale

AXES: dict[tuple[str, Axis], str] = {
    ("perspective", "planar"): DISTANCE_WORDS["perspective"],
    ("cylindrical", "planar"): DISTANCE_WORDS["cylindrical"],
    ("equirectangular", "planar"): DISTANCE_WORDS["cylindrical"],
    ("perspective", "radial"): "distance from the viewer",
    ("cylindrical", "radial"): "distance from the viewer",
    ("equirectangular", "radial"): "distance from the viewer",
}

PLANAR_OR_RADIAL: dict[Axis, str] = {"planar": "planar", "radial": "distance from the viewer"}

SPACE = {
    "opengl": CAMERA_SPACE,
    "directx": "camera: x right, y down, z towards the viewer",
}

_LARGEST = 1e9
"""Largest number in a record: pixels, metres, degrees."""

_PART_IN_NAME = re.compile(r"\.(image|depth|normal)(?:\.|$)")


@dataclass(frozen=True)
class Conventions:
    """Conventions that a record states; `None` where it states nothing."""

    part: Part | None = None
    quantity: Quantity | None = None
    axis: Axis | None = None
    scale: DepthScale | None = None
    code: Code | None = None
    down: bool = False
    """Whether the green axis of normals points down."""
    view: View | None = None
    coverage: Coverage | None = None


def record_of(path: Path) -> dict[str, Any]:
    """Return the record in a PNG, EXR, TIFF or JPEG, else of the sidecar beside a file; empty if there is none."""
    if is_array(path):
        return load_object(path.with_name(path.name + ".json")) or _sidecar(path)
    return read_record(path) or _json(_comment(path)) or _sidecar(path)


def read_stated(path: Path, record: Mapping[str, Any]) -> Conventions:
    """Return the conventions that a record and the file's name state. Forms that JointNet does not write are ignored."""
    maps = _mapping(record.get("maps"))
    depth, normal = _mapping(maps.get("depth")), _mapping(maps.get("normal"))
    named = _PART_IN_NAME.search(path.name.removesuffix(path.suffix))
    quantity = str(depth.get("quantity", ""))
    spoken = [*PLANAR_OR_RADIAL.items(), *((axis, words) for (_, axis), words in AXES.items())]
    axis = next((axis for axis, words in spoken if words == depth.get("distance")), None)
    scale, shift = _number(depth, "scale") or 0.0, _number(depth, "shift")
    black, white = _number(depth, "black"), _number(depth, "white")
    covered = _mapping(_mapping(record.get("projection")).get("covered"))
    across, upright = _number(covered, "horizontal"), _number(covered, "vertical")
    word = record.get("part") or (named and named.group(1))
    part: Part | None = next((part for part in PARTS if part == word), None)
    return Conventions(
        part=part,
        quantity="disparity" if "disparity" in quantity else "distance" if "distance" in quantity else None,
        axis=axis,
        scale=DepthScale(scale, shift, str(depth.get("origin", "given")))
        if scale > 0 and shift is not None and shift >= 0
        else None,
        code=Code(black, white) if black is not None and white is not None and black != white else None,
        down=normal.get("space") == SPACE["directx"],
        view=stated_view(record),
        coverage=Coverage(across, upright) if across and upright else None,
    )


def view_of(path: Path) -> View | None:
    """Return the view that a file states: its record, GPano, or OpenEXR's `envmap`; `None` if none does."""
    return read_stated(path, record_of(path)).view or unstated_view(path)


def unstated_view(path: Path) -> View | None:
    """Return the view of a file by GPano, or by the `envmap` of an OpenEXR latitude-longitude map."""
    if not is_exr(path):
        return None if is_array(path) else read_gpano(path)
    try:
        attributes = read_attributes(path)
    except UserError:
        return None
    (left, top), (right, bottom) = attributes["displayWindow"]
    width, height = int(right - left) + 1, int(bottom - top) + 1
    latlong = "LATLONG" in str(attributes.get("envmap")) and width == 2 * height
    return Sphere(width) if latlong else None


def axis_words(axis: Axis, view: View | None) -> str:
    """Return the axis of distance in words; `planar` where the view is unknown."""
    kind = kind_of(view)
    return AXES[kind, axis] if kind else PLANAR_OR_RADIAL[axis]


def depth_convention(depth: DepthMap, view: View | None, stored: str, code: Code | None) -> dict[str, Any]:
    """Return the conventions of a depth map for its record; `stored` is the precision of the format in words."""
    facts: dict[str, Any] = {
        "quantity": "distance" if depth.quantity == "distance" else DISPARITY_QUANTITY,
        "distance": axis_words(depth.axis, view),
        "scale": depth.scale.scale if depth.scale else "unknown",
        "shift": depth.scale.shift if depth.scale else "unknown",
        "stored": stored,
    }
    if depth.scale:
        facts["origin"] = depth.scale.origin
    if depth.quantity == "distance":
        facts |= {"unit": "metres"} | ({"sky": "infinite", "unknown": 0.0} if code is None else {})
    else:
        facts |= {"near": 1.0, "far": 0.0}
    return facts if code is None else facts | {"black": code.black, "white": code.white}


def view_record(view: View, width: int, coverage: Coverage | None) -> dict[str, Any]:
    """Return the projection as records hold it."""
    if isinstance(view, Projection):
        return {"kind": view.kind, "span": view.span, "wrap": view.wrap}
    facts: dict[str, Any] = {
        "kind": "equirectangular",
        "span": 360 * width / view.full_width,
        "wrap": width == view.full_width,
        "full_width": view.full_width,
        "left": view.left,
        "top": view.top,
    }
    if coverage:
        facts["covered"] = {"horizontal": coverage.horizontal, "vertical": coverage.vertical}
    return facts


def stated_view(record: Mapping[str, Any]) -> View | None:
    """Return the projection that a record states; `None` for none, and for one that cannot be."""
    stated = _mapping(record.get("projection"))
    kind, span = stated.get("kind"), _number(stated, "span")
    if kind == "equirectangular":
        pixels = [_number(stated, name) for name in ("full_width", "left", "top")]
        return Sphere(*(int(value or 0) for value in pixels)) if (pixels[0] or 0) >= 2 else None
    if span is not None and kind == "perspective" and 0 < span < 180:
        return Projection("perspective", span, bool(stated.get("wrap")))
    if span is not None and kind == "cylindrical" and 0 < span <= FULL_CIRCLE:
        return Projection("cylindrical", span, bool(stated.get("wrap")))
    return None


def _sidecar(path: Path) -> dict[str, Any]:
    """Return the record of the `.metadata.json` beside a result of ours that names the file."""
    for sidecar in path.parent.glob(f"{escape(path.name.partition('.')[0])}*.metadata.json"):
        record = load_object(sidecar)
        if path.name in _mapping(record.get("files")).values():
            return record
    return {}


def _comment(path: Path) -> str:
    """Return the description of a TIFF, also of one that Pillow does not read, or the comment of a JPEG."""
    from jointnet_cli.files.decode import read_info

    try:
        if path.suffix.lower() in (".tif", ".tiff"):
            import tifffile

            with tifffile.TiffFile(path) as file:
                return str(file.pages.first.description)
        comment = read_info(path).get("comment") or ""
    except Exception:  # what cannot be used counts as not stated
        return ""
    return comment.decode("utf-8", "replace") if isinstance(comment, bytes) else str(comment)


def _json(text: str) -> dict[str, Any]:
    try:
        return _mapping(from_json(text))
    except ValueError:
        return {}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(stated: Mapping[str, Any], name: str) -> float | None:
    """Return a number that is not out of all proportion; `None` for anything else."""
    value = stated.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST:
        return float(value)
    return None
