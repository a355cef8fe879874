"""Metadata inside image files: records, GPano, conventions of maps."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from jointnet_cli.errors import UserError
from jointnet_cli.files.text import PNG_KEY, from_json
from jointnet_cli.modality import MODALITIES
from jointnet_cli.projection import Projection, Sphere

_NAMESPACE = "http://ns.google.com/photos/1.0/panorama/"

_PIXELS = re.compile(r"-?\d+(?:\.\d+)?")

_MOST_PIXELS = 10_000_000
"""Pixels of a side; a field beyond is damaged."""


def gpano_xmp(view: Projection | Sphere, width: int, height: int) -> str:
    """Return the XMP packet of a panorama of that size in pixels: its projection, and where it lies in the full one.

    A cylinder's rows count from the horizon, downwards. The compass direction of the image's centre is unknown: 0 is an
    assumption, written because maps ask for one. Raises ValueError for a perspective image, which GPano cannot describe.
    """
    if isinstance(view, Projection) and view.kind == "perspective":
        raise ValueError("GPano describes panoramas, not perspective images")
    if isinstance(view, Sphere):
        kind, full, left, top = "equirectangular", (view.full_width, view.full_height), view.left, view.top
    else:
        around = round(width * 360 / view.span)
        kind, full, left, top = "cylindrical", (around, height), (around - width) // 2, -(height // 2)
    fields = {
        "UsePanoramaViewer": "True",
        "ProjectionType": kind,
        "PoseHeadingDegrees": "0.0",
        "CroppedAreaImageWidthPixels": width,
        "CroppedAreaImageHeightPixels": height,
        "FullPanoWidthPixels": full[0],
        "FullPanoHeightPixels": full[1],
        "CroppedAreaLeftPixels": left,
        "CroppedAreaTopPixels": top,
    }
    stated = "".join(f'\n   GPano:{name}="{value}"' for name, value in fields.items())
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
        ' <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n'
        f'  <rdf:Description rdf:about="" xmlns:GPano="{_NAMESPACE}"{stated}/>\n'
        " </rdf:RDF>\n"
        "</x:xmpmeta>\n"
        '<?xpacket end="w"?>'
    )


def read_gpano(path: Path) -> Projection | Sphere | None:
    """Return the panorama that a PNG or JPEG states; `None` for any other file and for what cannot be used."""
    from jointnet_cli.files.decode import raster_size, read_info

    try:
        info = read_info(path)
        packet = info.get("xmp") or info.get(PNG_KEY) or b""
        if not packet:
            return None
        height, width = raster_size(path)
    except UserError:
        return None
    return parse_gpano(packet.decode("utf-8", "replace") if isinstance(packet, bytes) else packet, width, height)


def parse_gpano(packet: str, width: int, height: int) -> Projection | Sphere | None:
    """Return the same of an XMP packet and the image's size in pixels.

    An image that was made smaller since its fields were written is taken for the same view.
    """
    fields = _fields(packet)
    full, cropped = (_number(fields, name) for name in ("FullPanoWidthPixels", "CroppedAreaImageWidthPixels"))
    kind = fields.get("ProjectionType", "").lower()
    if not full or not cropped or min(full, cropped) < 1:
        return None
    shrink = width / cropped
    if kind == "cylindrical":
        span = min(360.0, 360 * cropped / full)
        return Projection("cylindrical", span, span == 360)
    if kind != "equirectangular":
        return None
    left, top = (_number(fields, name) or 0 for name in ("CroppedAreaLeftPixels", "CroppedAreaTopPixels"))
    return Sphere(round(full * shrink), round(left * shrink), round(top * shrink))


def _fields(packet: str) -> dict[str, str]:
    """Return the GPano fields of a packet, written as attributes or as elements; none if it is damaged."""
    try:
        # The packet's own wrapper may state an encoding that the text no longer has.
        root = ElementTree.fromstring(re.sub(r"<\?.*?\?>", "", packet, flags=re.DOTALL).strip().strip("\0"))
    except Exception:  # a parser raises exceptions of many types for damage
        return {}
    prefix = f"{{{_NAMESPACE}}}"
    stated: dict[str, str] = {}
    for element in root.iter():
        named = {**element.attrib, element.tag: element.text or ""}
        stated |= {key.removeprefix(prefix): value.strip() for key, value in named.items() if key.startswith(prefix)}
    return stated


def _number(fields: dict[str, str], name: str) -> float | None:
    text = fields.get(name, "")
    number = float(text) if _PIXELS.fullmatch(text) else None
    return number if number is not None and abs(number) <= _MOST_PIXELS else None


DISTANCE_WORDS = {"perspective": "planar Z", "cylindrical": "distance from the vertical axis"}


DISPARITY_QUANTITY, NORMAL_QUANTITY = "relative disparity (inverse depth)", "unit surface normal"
CAMERA_SPACE = "camera: x right, y up, z towards the viewer"
"""What records say of maps, and by which `convert` knows them again."""


def read_record(path: Path) -> dict[str, Any]:
    """Return the record in a PNG or EXR of this program; empty for any other file and for one that cannot be read."""
    from jointnet_cli.files.exr import is_exr, read_attributes
    from jointnet_cli.files.images import read_text

    try:
        with path.open("rb") as stream:
            is_png = stream.read(4) == b"\x89PNG"
        if not is_png and not is_exr(path):
            return {}
        text = read_text(path) if is_png else read_attributes(path)
        stated = from_json(text.get("jointnet", "{}"))
    except Exception:  # what cannot be used counts as not stated
        return {}
    return stated if isinstance(stated, dict) else {}


def convention(name: str, projection: Projection) -> dict[str, Any]:
    """Return what the values of a map mean, in memory and in each file."""
    if name not in MODALITIES:
        raise ValueError(f"no convention is known for a map named {name}")
    modality = MODALITIES[name]
    if modality.values == "disparity":
        return {
            "quantity": DISPARITY_QUANTITY,
            "near": 1.0,
            "far": 0.0,
            "scale": "unknown",
            "shift": "unknown",
            "distance": DISTANCE_WORDS[projection.kind],
            "png": "16-bit grey, 65535 * disparity",
            "exr": f"{', '.join(modality.channels)}, float32",
        }
    if modality.values == "direction":
        return {
            "quantity": NORMAL_QUANTITY,
            "space": CAMERA_SPACE,
            "png": "8-bit RGB, (n + 1) / 2",
            "exr": f"{', '.join(modality.channels)}, float32",
        }
    return {"quantity": "color, sRGB", "png": "8-bit RGB", "exr": f"{', '.join(modality.channels)}, float32"}
