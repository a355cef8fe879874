"""The colours that captions name, as linear-ish albedo in [0, 1]."""

from __future__ import annotations

PALETTE = {
    "red": (0.80, 0.07, 0.06),
    "blue": (0.08, 0.22, 0.82),
    "yellow": (0.95, 0.76, 0.05),
    "white": (0.92, 0.92, 0.90),
    "orange": (0.96, 0.42, 0.04),
    "purple": (0.47, 0.12, 0.68),
    "pink": (0.95, 0.40, 0.58),
    "green": (0.10, 0.52, 0.14),
    "brown": (0.40, 0.24, 0.12),
}
