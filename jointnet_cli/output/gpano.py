"""Photo Sphere XMP (GPano): what part of the surroundings a panorama shows, for viewers of other programs.

ProjectionType is an open choice of text. The description of the fields shows two kinds of panoramas, spherical
(`equirectangular`, the only one that its authors' own programs show) and cylindrical, where rows count from the horizon.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from jointnet_cli.errors import UserError
from jointnet_cli.tasks import Projection

PNG_KEY = "XML:com.adobe.xmp"
"""The keyword of the iTXt chunk in which a PNG holds XMP."""

_NAMESPACE = "http://ns.google.com/photos/1.0/panorama/"
_PIXELS = re.compile(r"-?\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Equirectangular:
    """A picture of a sphere, or a part of one: columns are even in longitude and rows in latitude.

    Column x of the whole looks at longitude `((x + 0.5) / full_width - 0.5) * 360` degrees, row y at latitude
    `(0.5 - (y + 0.5) / full_height) * 180`. The picture's first pixel is column `left`, row `top` of the whole.
    """

    full_width: int
    """Pixels around; the whole sphere is half as high."""
    left: int = 0
    top: int = 0

    @property
    def full_height(self) -> int:
        """Pixels from pole to pole."""
        return self.full_width // 2

    def is_whole(self, height: int, width: int) -> bool:
        """Whether a picture of that size shows all of the sphere."""
        return (self.left, self.top, width, height) == (0, 0, self.full_width, self.full_height)


def gpano_xmp(view: Projection | Equirectangular, width: int, height: int, *, heading: float = 0.0) -> str:
    """The XMP packet of a panorama of that size in pixels: its projection, and where it lies in the full one.

    A cylinder's rows count from the horizon, downwards. `heading` is the compass direction of the picture's centre in
    degrees, which nothing that we make knows: 0 is an assumption, written because maps ask for one. Raises ValueError for
    a perspective picture, of which GPano has no kind.
    """
    if isinstance(view, Projection) and view.kind == "perspective":
        raise ValueError("GPano describes panoramas, not perspective pictures")
    if isinstance(view, Equirectangular):
        kind, full, left, top = "equirectangular", (view.full_width, view.full_height), view.left, view.top
    else:
        around = round(width * 360 / view.span)
        kind, full, left, top = "cylindrical", (around, height), (around - width) // 2, -(height // 2)
    fields = {
        "UsePanoramaViewer": "True",
        "ProjectionType": kind,
        "PoseHeadingDegrees": f"{heading:.1f}",
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


def read_gpano(path: Path) -> Projection | Equirectangular | None:
    """The panorama that a PNG or JPEG says it is; `None` for any other file, and for one that says nothing we can use."""
    from jointnet_cli.output.pixels import open_picture

    try:
        picture = open_picture(path)
    except UserError:
        return None
    packet = picture.info.get("xmp") or picture.info.get(PNG_KEY) or ""
    return parse_gpano(packet.decode("utf-8", "replace") if isinstance(packet, bytes) else packet, *picture.size)


def parse_gpano(packet: str, width: int, height: int) -> Projection | Equirectangular | None:
    """The same of an XMP packet and the picture's size in pixels.

    A picture that was made smaller since its fields were written is taken for the same view.
    """
    fields = _fields(packet)
    full, cropped = (_number(fields, name) for name in ("FullPanoWidthPixels", "CroppedAreaImageWidthPixels"))
    kind = fields.get("ProjectionType", "").lower()
    if not full or not cropped:
        return None
    shrink = width / cropped
    if kind == "cylindrical":
        span = min(360.0, 360 * cropped / full)
        return Projection("cylindrical", span, span == 360)
    if kind != "equirectangular":
        return None
    left, top = (_number(fields, name) or 0 for name in ("CroppedAreaLeftPixels", "CroppedAreaTopPixels"))
    return Equirectangular(round(full * shrink), round(left * shrink), round(top * shrink))


def _fields(packet: str) -> dict[str, str]:
    """The GPano fields of a packet, written as attributes or as elements; none if it is damaged."""
    try:
        # The packet's own wrapper may state an encoding that the text no longer has.
        root = ElementTree.fromstring(re.sub(r"<\?.*?\?>", "", packet, flags=re.DOTALL).strip().strip("\0"))
    except ElementTree.ParseError:
        return {}
    prefix = f"{{{_NAMESPACE}}}"
    stated: dict[str, str] = {}
    for element in root.iter():
        named = {**element.attrib, element.tag: element.text or ""}
        stated |= {key.removeprefix(prefix): value.strip() for key, value in named.items() if key.startswith(prefix)}
    return stated


def _number(fields: dict[str, str], name: str) -> float | None:
    text = fields.get(name, "")
    return float(text) if _PIXELS.fullmatch(text) else None
