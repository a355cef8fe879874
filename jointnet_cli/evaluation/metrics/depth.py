"""The one depth protocol, as in section 5.2 of the paper.

A prediction is disparity up to scale and shift. Both are fitted by least squares in disparity space, several times on
random samples of pixels, and their medians taken; the aligned disparity is then compared with the truth.

Depth counts up to a cap, as in MiDaS's protocol: what is farther, like the sky, is left out of the fit and of every
metric, and no aligned disparity is less than that of the cap. Without a cap a few pixels at the horizon, where a small
error of disparity is an unbounded error of depth, outweigh all the rest. The cap holds for baselines, too. As in the
paper, pixels count where both disparities are above 0; their share is reported beside the errors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from jointnet_cli.errors import UserError
from jointnet_cli.modality import NEAR_QUANTILE
from jointnet_cli.tensors import fit_scale_shift, resize

FITS = 9
"""Least-squares solutions that the median is taken of."""

FIT_PIXELS = 2048
"""Pixels in each of them."""


@dataclass(frozen=True)
class DepthErrors:
    """The errors of one prediction."""

    abs_rel: float
    """Mean of |depth - truth| / truth."""
    delta1: float
    """Share of pixels with max(depth / truth, truth / depth) < 1.25."""
    rmse: float
    """Root mean squared error of disparity, as a fraction of the image's own range of disparity."""


def align(predicted: Tensor, truth: Tensor, generator: Generator) -> tuple[float, float]:
    """Return the scale and shift from predicted to true disparity, both (P,): the medians of `FITS` random fits."""
    count = min(FIT_PIXELS, len(truth))
    draws = [torch.randperm(len(truth), generator=generator)[:count] for _ in range(FITS)]
    fits = torch.stack([torch.stack(fit_scale_shift(predicted[draw], truth[draw])) for draw in draws])
    scale, shift = fits.median(dim=0).values.tolist()
    return scale, shift


def depth_errors(
    predicted: Tensor, truth: Tensor, *, depth_cap: float | None = None, seed: int = 0
) -> tuple[DepthErrors, float]:
    """Compare predicted disparity with the truth where both are above 0 (paper 5.2): the one depth protocol.

    No aligned disparity is less than that of the cap, or without a cap than that of the image's farthest true pixel.

    Args:
        predicted: (H, W) disparity up to scale and shift, 0 where there is none.
        truth: (H, W) inverse depth, 0 where it is unknown or endless.
        depth_cap: depth beyond which the truth does not count, in its unit.
        seed: decides which pixels are sampled for the fits.

    Returns:
        The errors, and the share of the pixels with a true depth that were compared.

    Raises:
        UserError: no pixel has both depths, or a predicted value is not finite.
    """
    if not predicted.isfinite().all():
        raise UserError("the predicted disparity has values that are not finite")
    known = known_pixels(truth, depth_cap)
    valid = known & (predicted > 0)
    if not valid.any():
        raise UserError("prediction and truth have no valid pixel in common")
    farthest = truth[known].min().item()
    span = float(np.quantile(truth[known].numpy(), NEAR_QUANTILE)) - farthest
    estimate, target = predicted[valid].double(), truth[valid].double()
    scale, shift = align(estimate, target, torch.Generator().manual_seed(seed))
    aligned = (estimate * scale + shift).clamp(min=farthest if depth_cap is None else 1 / depth_cap)
    ratio = target / aligned  # depth / true depth
    errors = DepthErrors(
        abs_rel=(ratio - 1).abs().mean().item(),
        delta1=(torch.maximum(ratio, 1 / ratio) < 1.25).double().mean().item(),
        rmse=((aligned - target).square().mean().sqrt() / max(span, 1e-9)).item(),
    )
    return errors, (valid.sum() / known.sum()).item()


def known_pixels(truth: Tensor, depth_cap: float | None) -> Tensor:
    """Return where inverse depth (H, W) is known and not beyond the cap."""
    return truth > 0 if depth_cap is None else truth >= 1 / depth_cap


def aligned_error(predicted: Tensor, given: Tensor, seed: int = 0) -> float:
    """Return the root mean squared difference of disparity (H, W) up to scale and shift from a given one in [0, 1]."""
    estimate, target = predicted.flatten().double(), given.flatten().double()
    scale, shift = align(estimate, target, torch.Generator().manual_seed(seed))
    return (estimate * scale + shift - target).square().mean().sqrt().item()


def at_size(disparity: Tensor, height: int, width: int) -> Tensor:
    """Return disparity (h, w) at the size of the truth; a pixel that would be mixed from missing values is missing."""
    size = (height, width)
    if disparity.shape == size:
        return disparity
    there = resize((disparity > 0).float()[None], size, "depth")[0]
    return torch.where(there > 0.999, resize(disparity[None], size, "depth")[0], 0.0)
