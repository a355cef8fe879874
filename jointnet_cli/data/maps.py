"""Dense maps as members of a shard: 16-bit inverse depth with its scale, 8-bit normals."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

UINT16 = 65535
SUFFIXES = {"depth": "depth.png", "normal": "normal.png"}
"""The extension of a map's member."""


def encode_depth(inverse_depth: NDArray[np.float32]) -> tuple[bytes, float]:
    """Inverse depth (H, W), at least 0, as a 16-bit PNG, and the scale that turns its values back."""
    scale = max(float(inverse_depth.max()), 1e-9)
    return png(np.rint(inverse_depth.clip(0) / scale * UINT16).astype(np.uint16)), scale / UINT16


def encode_normal(normal: NDArray[np.float32]) -> bytes:
    """Unit vectors (H, W, 3) as an 8-bit PNG, (n + 1) / 2."""
    return png(np.rint((normal + 1) * 127.5).astype(np.uint8))


def png(array: NDArray[Any]) -> bytes:
    """An array of 8 or 16 bits, grey or RGB, as a PNG file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()
