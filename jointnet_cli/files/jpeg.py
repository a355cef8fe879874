"""JPEG files without what is not the image: EXIF, XMP, comments, previews, other segments, and bytes behind the end."""

from __future__ import annotations

import re

_MARKER = re.compile(rb"\xff+([^\x00\xff])")
"""Between segments: fill bytes and a marker."""

_AFTER_SCAN = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
"""Behind compressed data, which holds stuffed zeros and restart markers."""

_START, _END, _SCAN, _JFIF, _ICC, _ADOBE = 0xD8, 0xD9, 0xDA, 0xE0, 0xE2, 0xEE

_DECODED = frozenset({*range(0xC0, 0xD0), 0xDB, 0xDC, 0xDD, _SCAN})
"""Markers of segments that decoding needs: frames, tables of codes and quantization, lines, restarts, scans."""

_LONELY = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a segment."""


def strip(data: bytes) -> bytes:
    """Return a JPEG with the same pixels and without metadata.

    Kept are the segments that decoding needs, JFIF's and Adobe's heads, which state how colours are coded, and an ICC
    profile that fits into one segment. Nothing is decoded or encoded; a JPEG without an end stays one.

    Raises:
        ValueError: no segments of a JPEG.
    """
    if data[:2] != bytes((0xFF, _START)):
        raise ValueError("no JPEG")
    parts, at, marker, seen = [data[:2]], 2, _MARKER, set[int]()
    while (found := marker.search(data, at)) is not None:
        if marker is _AFTER_SCAN:
            parts.append(data[at : found.start()])
        marker, code, at = _MARKER, found[1][0], found.end()
        if code == _END:
            parts.append(bytes((0xFF, _END)))
            break
        if code in _LONELY:
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        if length < 2 or at + length > len(data):
            raise ValueError("a segment is cut off")
        body = data[at + 2 : at + length]
        at += length
        if code not in _DECODED:
            body = b"" if code in seen else _kept(code, body)
            if not body:
                continue
            seen.add(code)
        parts.append(bytes((0xFF, code)) + (len(body) + 2).to_bytes(2, "big") + body)
        marker = _AFTER_SCAN if code == _SCAN else _MARKER
    else:
        if marker is _AFTER_SCAN:
            parts.append(data[at:])
    return b"".join(parts)


def _kept(code: int, body: bytes) -> bytes:
    """Return what stays of a segment that is not needed for decoding; nothing of most."""
    if code == _JFIF and body.startswith(b"JFIF\0") and len(body) >= 14:
        return body[:12] + b"\0\0"  # no preview
    if code == _ADOBE and body.startswith(b"Adobe") and len(body) >= 12:
        return body[:12]
    return body if code == _ICC and body.startswith(b"ICC_PROFILE\0\1\1") else b""
