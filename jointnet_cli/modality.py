"""What depth and normals mean: physical array <-> the model's three-channel map in [-1, 1].

Depth is learned as relative inverse depth (disparity): near = 1, far and sky = 0, per image up to scale and shift.
Normals are unit vectors in camera space, x right, y up, z towards the viewer; a zero vector marks the sky.
"""

from __future__ import annotations

from typing import Literal, get_args

Modality = Literal["rgb", "depth", "normal"]

MODALITIES: tuple[str, ...] = get_args(Modality)

NEAR_QUANTILE = 0.985
"""Pixels nearer than this quantile share disparity 1, so that one close leaf does not flatten the rest."""

SKY_LENGTH = 0.3
"""A decoded normal shorter than this is sky, which has none."""
