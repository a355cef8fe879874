"""Pictures of any mode and colour profile as 8-bit sRGB."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

OTHER_COLOURS = frozenset({"CMYK", "YCbCr", "LAB", "HSV"})
"""Pillow's modes whose channels are not red, green and blue."""
_PRIMARIES = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
"""XYZ of sRGB's red, green and blue in a profile, that is adapted to D50 (ICC's sRGB profile)."""
_TOLERANCE = 0.002


def to_srgb(picture: Image.Image) -> Image.Image:
    """A decoded picture in mode `RGB`: its colour profile converted to sRGB, transparent parts laid over white.

    Of 16 bits the higher 8 are kept. A damaged profile, or one for other channels than the picture's, is ignored.
    """
    if picture.mode.startswith("I;16"):
        # Pillow's own conversion cuts off at 255 instead.
        grey = np.rint(np.asarray(picture, np.uint16) / 257).astype(np.uint8)
        profile = picture.info.get("icc_profile")
        picture = Image.fromarray(grey)
        picture.info["icc_profile"] = profile
    if picture.has_transparency_data:
        profile = picture.info.get("icc_profile")
        rgba = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
        picture.info["icc_profile"] = profile
    if not is_srgb(picture):
        try:
            source = picture if picture.mode in ("L", "RGB", "CMYK") else picture.convert("RGB")
            converted = ImageCms.profileToProfile(
                source,
                ImageCms.ImageCmsProfile(BytesIO(picture.info["icc_profile"])),
                ImageCms.createProfile("sRGB"),
                outputMode="RGB",
            )
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError):
            pass
    return picture.convert("RGB")


def is_srgb(picture: Image.Image) -> bool:
    """Whether a picture carries no colour profile, or one of sRGB by name and by its primaries."""
    data = picture.info.get("icc_profile")
    if not data:
        return True
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(data)).profile
    except OSError:
        return False
    colorants = (profile.red_colorant, profile.green_colorant, profile.blue_colorant)
    return "srgb" in (profile.profile_description or "").lower() and all(
        colorant is not None and np.allclose(colorant[0], primary, atol=_TOLERANCE)
        for colorant, primary in zip(colorants, _PRIMARIES, strict=True)
    )
