"""The format of an image by its first bytes."""

from __future__ import annotations

from contextlib import suppress

from jointnet_cli.files.tiff import is_tiff

SNIFFED_BYTES = 1024
"""From so many bytes on, `image_format` has seen enough."""

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"\x00\x00\x01\x00", "ICO"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "JXL"),
    (b"\xff\x0a", "JXL"),
    (b"8BPS", "PSD"),
)
"""The bytes that a format begins with, and Pillow's name of it."""

_BITMAP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
"""Sizes of the header that follows a BMP's first 14 bytes."""

HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
"""Brands of HEIF files, most of them HEIC."""

_EXPORT = "export it as PNG, TIFF or JPEG"
_OTHER_FORMATS = (
    (b"\xff\x0a", "JPEG XL", _EXPORT),
    (b"JXL \r\n", "JPEG XL", _EXPORT),
    (b"8BPS", "a Photoshop document", _EXPORT),
    (b"%PDF", "a PDF document", _EXPORT),
    (b"<svg", "an SVG drawing", _EXPORT),
    (b"<?xml", "an XML document", _EXPORT),
    (b"#?RADIANCE", "a Radiance HDR image", "convert it to OpenEXR or PNG"),
    (b"#?RGBE", "a Radiance HDR image", "convert it to OpenEXR or PNG"),
    (b"v/1\x01", "an OpenEXR file", "convert it first: jointnet convert FILE --to png"),
    (b"\x93NUMPY", "a NumPy array", "convert it first: jointnet convert FILE --to png"),
    (b"PK\3\4", "a zip or npz archive", "unpack a zip; convert an npz first: jointnet convert FILE --to png"),
    (b"glTF", "a mesh", "name the image it was made from"),
    (b"FUJIFILMCCD-RAW", "a camera's raw file", _EXPORT),
)
"""The bytes by which a format is known, its name and a remedy."""


def image_format(data: bytes | bytearray) -> str | None:
    """Return Pillow's name of the format that an image's first bytes show; `None` if they show none."""
    head = bytes(data[:SNIFFED_BYTES])
    if is_tiff(head):
        return "TIFF"
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BITMAP_HEADERS:
        return "BMP"
    if head[4:8] == b"ftyp":
        brands = {head[at : at + 4] for at in range(8, min(int.from_bytes(head[:4], "big"), 64), 4)}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        if brands & HEIF_BRANDS:
            return "HEIF"
    text = _text(head)
    return "SVG" if text.startswith((b"<svg", b"<?xml", b"<!--", b"<!doctype svg")) and b"<svg" in text else None


def is_page(data: bytes | bytearray) -> bool:
    """Return whether the first bytes are those of an HTML page."""
    return _text(bytes(data[:SNIFFED_BYTES])).startswith((b"<!doctype html", b"<html", b"<head", b"<body"))


def _text(head: bytes) -> bytes:
    return head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()


def format_not_read(data: bytes) -> tuple[str, str] | None:
    """Return the name of a format that is not read, with a remedy; `None` if it is unknown."""
    start, brand = data[:16], data[8:12] if data[4:8] == b"ftyp" else b""
    if brand in HEIF_BRANDS:
        return "HEIC", "pip install 'jointnet-cli[heif]', or convert it to PNG or JPEG"
    if brand:
        known = "AVIF, for which this Pillow has no decoder" if brand[:3] == b"avi" else "a video"
        return known, "convert it to PNG or JPEG" if brand[:3] == b"avi" else "save one of its frames as PNG"
    return next((known for magic, *known in _OTHER_FORMATS if magic in start), None)  # type: ignore[return-value]


def register_heif() -> None:
    """Let Pillow read HEIC, if the extra `heif` is installed."""
    with suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()
