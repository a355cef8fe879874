from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jointnet_cli.files.images import read_text, write_deep_png, write_jpeg, write_png
from jointnet_cli.files.metadata import gpano_xmp, parse_gpano, read_gpano
from jointnet_cli.files.text import PNG_KEY
from jointnet_cli.projection import Projection, Sphere

RING = Projection("cylindrical", 360.0, wrap=True)
PICTURE = np.full((8, 32, 3), 0.5, np.float32)


@settings(deadline=None)
@given(st.integers(1, 500), st.integers(1, 250), st.integers(0, 100), st.integers(0, 100))
def test_a_part_of_a_sphere_is_read_as_it_was_written(width: int, height: int, left: int, top: int) -> None:
    around = 2 * max(width + left, height + top)
    view = Sphere(around, left, top)
    assert parse_gpano(gpano_xmp(view, width, height), width, height) == view


@pytest.mark.parametrize("view", [RING, Projection("cylindrical", 180.0)])
def test_a_cylinder_counts_its_rows_from_the_horizon(view: Projection) -> None:
    packet = gpano_xmp(view, 32, 8)
    assert 'ProjectionType="cylindrical"' in packet
    assert 'CroppedAreaTopPixels="-4"' in packet
    assert parse_gpano(packet, 32, 8) == view


def fields(packet: str) -> dict[str, str]:
    """The GPano attributes of a packet, by the XML parser alone."""
    namespace = "{http://ns.google.com/photos/1.0/panorama/}"
    root = ElementTree.fromstring(packet.split("?>", 1)[1].rsplit("<?", 1)[0])
    (description,) = root.iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    return {name.removeprefix(namespace): value for name, value in description.attrib.items() if namespace in name}


@pytest.mark.parametrize(
    ("view", "size", "kind", "cropped", "full", "corner"),
    [
        # Of 360 degrees in 4000 columns a quarter and more: the picture starts at column 700 and row 450 of the whole.
        (Sphere(4000, 700, 450), (2000, 1000), "equirectangular", (2000, 1000), (4000, 2000), (700, 450)),
        (Sphere(64), (64, 32), "equirectangular", (64, 32), (64, 32), (0, 0)),
        # 180 of 360 degrees in the middle: a quarter of the circle lies to its left. Rows count from the horizon.
        (Projection("cylindrical", 180.0), (1000, 400), "cylindrical", (1000, 400), (2000, 400), (500, -200)),
        (Projection("cylindrical", 90.0), (300, 101), "cylindrical", (300, 101), (1200, 101), (450, -50)),
        (RING, (32, 8), "cylindrical", (32, 8), (32, 8), (0, -4)),
    ],
)
def test_the_fields_are_those_of_the_specification(view, size, kind, cropped, full, corner) -> None:
    assert fields(gpano_xmp(view, *size)) == {
        "UsePanoramaViewer": "True",
        "ProjectionType": kind,
        "PoseHeadingDegrees": "0.0",
        "CroppedAreaImageWidthPixels": str(cropped[0]),
        "CroppedAreaImageHeightPixels": str(cropped[1]),
        "FullPanoWidthPixels": str(full[0]),
        "FullPanoHeightPixels": str(full[1]),
        "CroppedAreaLeftPixels": str(corner[0]),
        "CroppedAreaTopPixels": str(corner[1]),
    }


def test_a_perspective_picture_is_no_panorama() -> None:
    with pytest.raises(ValueError, match="panoramas"):
        gpano_xmp(Projection("perspective", 60.0), 32, 8)


def test_it_is_in_png_and_jpeg_where_readers_look(tmp_path: Path) -> None:
    packet = gpano_xmp(RING, 32, 8)
    write_png(tmp_path / "a.png", PICTURE, {PNG_KEY: packet})
    write_deep_png(tmp_path / "deep.png", PICTURE, {PNG_KEY: packet})
    write_jpeg(tmp_path / "a.jpg", PICTURE, packet)
    for name in ("a.png", "deep.png", "a.jpg"):
        assert read_gpano(tmp_path / name) == RING
    assert read_text(tmp_path / "a.png")[PNG_KEY] == packet
    assert b"iTXtXML:com.adobe.xmp\0\0\0\0\0" in (tmp_path / "a.png").read_bytes()
    assert b"http://ns.adobe.com/xap/1.0/\0" in (tmp_path / "a.jpg").read_bytes()[:64]


def test_fields_of_other_programs_are_read() -> None:
    packet = """<?xml version="1.0"?><x:xmpmeta xmlns:x="adobe:ns:meta/"
        xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:RDF><rdf:Description
        xmlns:pano="http://ns.google.com/photos/1.0/panorama/"><pano:ProjectionType>equirectangular</pano:ProjectionType>
        <pano:FullPanoWidthPixels>4000</pano:FullPanoWidthPixels><pano:FullPanoHeightPixels>2000</pano:FullPanoHeightPixels>
        <pano:CroppedAreaImageWidthPixels>4000</pano:CroppedAreaImageWidthPixels>
        <pano:CroppedAreaTopPixels>500</pano:CroppedAreaTopPixels></rdf:Description></rdf:RDF></x:xmpmeta>"""
    assert parse_gpano(packet, 4000, 1000) == Sphere(4000, 0, 500)
    assert parse_gpano(packet, 2000, 500) == Sphere(2000, 0, 250)  # made smaller since


@pytest.mark.parametrize("packet", ["", "<x", "<a/>", gpano_xmp(RING, 32, 8).replace("cylindrical", "fisheye")])
def test_what_says_nothing_of_use_is_no_view(packet: str, tmp_path: Path) -> None:
    assert parse_gpano(packet, 32, 8) is None
    Image.new("RGB", (4, 4)).save(tmp_path / "plain.jpg", xmp=packet.encode())
    assert read_gpano(tmp_path / "plain.jpg") is None
    assert read_gpano(tmp_path / "nothing.png") is None
