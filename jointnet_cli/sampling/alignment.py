"""Several predictions of one photo made comparable: scale, shift and the median."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from jointnet_cli.modality import unit_normals


def fit_scale_shift(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Least-squares scale and shift that take source to target, both flat (P,); a flat source has scale 0.

    In float64, whose rounding no file shows: the same members give the same bytes however sums are split among threads.
    """
    source, target = source.double(), target.double()
    centred = source - source.mean()
    scale = (centred * target).sum() / centred.square().sum().clamp(min=1e-12)
    return scale, target.mean() - scale * source.mean()


def align_members(members: Sequence[Tensor], modality: str) -> tuple[Tensor, Tensor]:
    """The ensemble's answer and how far its members are from it.

    Args:
        members: maps of one photo, each (1, H, W) disparity in [0, 1] or (1, 3, H, W) normals.
        modality: `depth` members are brought to the first one's scale and shift before the median is taken; normals are
            averaged and made unit vectors.

    Returns:
        A map as the members are, and its uncertainty (1, H, W): the standard deviation of the aligned disparities, or the
        root mean square of the angles to the mean normal in radians. A member that sees no surface where the others do is
        a right angle off.
    """
    if modality != "depth":
        normals = torch.stack(list(members))
        mean = unit_normals(normals.mean(dim=0))
        angles = (normals * mean).sum(dim=2).clamp(-1, 1).acos()
        there = mean.norm(dim=1) > 0
        return mean, torch.where(there, angles.square().mean(dim=0).sqrt(), 0.0)
    aligned = [members[0]]
    for member in members[1:]:
        scale, shift = fit_scale_shift(member.flatten(), members[0].flatten())
        aligned.append(member * scale + shift)
    # Of an even number `Tensor.median` takes the lower middle one, which would make everything farther.
    ordered = torch.stack(aligned).sort(dim=0).values
    median = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    return median.clamp(0, 1), ordered.std(dim=0, correction=0)
