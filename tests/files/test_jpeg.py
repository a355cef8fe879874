from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from jointnet_cli.files.jpeg import strip

PIXELS = np.random.default_rng(0).integers(0, 255, (24, 40, 3), np.uint8)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def encoded(mode: str = "RGB", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def exif() -> Image.Exif:
    tags = Image.Exif()
    tags[0x013B] = "Jane Doe"
    tags.get_ifd(0x8825)[1] = "N"
    return tags


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"icc_profile": SRGB}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_what_is_not_the_image_goes_and_the_pixels_keep_their_bits(mode: str, options: dict[str, Any]) -> None:
    plain = encoded(mode, **options)
    assert strip(plain) == plain
    told = encoded(mode, **options, exif=exif(), xmp=b"<x>Jane Doe</x>", comment="Jane Doe")
    segment = b"\xff\xed" + struct.pack(">H", 65_535) + b"Jane Doe".ljust(65_533, b"\0")
    told = told[:2] + 30 * segment + told[2:] + b"PK\3\4 Jane Doe" + plain
    made = strip(told)
    assert made == plain and b"Jane Doe" not in made


def test_a_thumbnail_of_jfif_goes() -> None:
    plain = encoded()
    header = plain.index(b"JFIF\0")
    told = (
        plain[: header - 2]
        + struct.pack(">H", 16 + 27)
        + plain[header : header + 12]
        + b"\3\3"
        + 27 * b"t"
        + plain[header + 14 :]
    )
    assert strip(told) == plain


def test_a_profile_that_is_too_large_goes() -> None:
    made = strip(encoded(icc_profile=SRGB + bytes(200_000)))
    assert len(made) < 80_000
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(made))), np.asarray(Image.open(io.BytesIO(encoded()))))


@pytest.mark.parametrize("data", [b"", b"GIF89a", encoded()[:40], b"\xff\xd8\xff\xe0\0\1" + encoded()[2:]])
def test_segments_that_are_cut_off_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"no JPEG|cut off"):
        strip(data)


def test_a_jpeg_without_an_end_stays_one() -> None:
    assert strip(encoded()[:-2]) == encoded()[:-2]
