"""Periodic noise textures, made once from fixed seeds, and how they are read."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 512


def smoothstep(x: Tensor, low: float, high: float) -> Tensor:
    """Return 0 below `low`, 1 above `high`, a smooth cubic between."""
    x = ((x - low) / (high - low)).clamp(0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)


def mix(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """Blend two colours (n, 3) or (3,) by a weight (n,) of the second."""
    return a + (b - a) * weight[:, None]


def _frequencies() -> Tensor:
    k = torch.fft.fftfreq(SIDE) * SIDE
    cycles: Tensor = (k[:, None] ** 2 + k[None] ** 2).sqrt()
    return cycles  # (SIDE, SIDE), per period


def _shaped(spectrum: Tensor, generator: torch.Generator) -> Tensor:
    white = torch.randn(SIDE, SIDE, generator=generator)
    wave = torch.fft.ifft2(torch.fft.fft2(white) * spectrum).real
    normalized: Tensor = wave / wave.std()
    return normalized


@cache
def texture(name: str, device: str = "cpu") -> Tensor:
    """Return a periodic texture (1, 1, SIDE + 1, SIDE + 1), its first row and column repeated last, unit variance unless told.

    `smooth`: rolling fBm; `rough`: fBm with stronger fine octaves; `detail`: fine grain; `white`: uniform in [0, 1);
    `ridged`: sharp crests, about [-1, 1.5].
    """
    generator = torch.Generator().manual_seed(2024 + len(name))
    r = _frequencies()
    if name == "white":
        field = torch.rand(SIDE, SIDE, generator=generator)
    elif name == "ridged":
        field = torch.zeros(SIDE, SIDE)
        for octave in range(5):
            low = 3 * 2**octave
            band = ((r >= low) & (r < 2 * low)) / r.clamp(min=1)
            field += 0.42**octave * (0.8 - 0.85 * _shaped(band, generator).abs())
    else:
        power, low, high = {"smooth": (2.4, 4, 120), "rough": (1.7, 5, 200), "detail": (1.5, 4, 180)}[name]
        field = _shaped(((r >= low) & (r < high)) * r.clamp(min=1) ** -power, generator)
    return F.pad(field[None, None], (0, 1, 0, 1), mode="circular").to(device)


def read(field: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Return bilinear values of a texture at points (n,) measured in periods; wraps around."""
    where = torch.stack([u - u.floor(), v - v.floor()], 1) * 2 - 1
    return F.grid_sample(field, where[None, None], align_corners=True)[0, 0, 0]
