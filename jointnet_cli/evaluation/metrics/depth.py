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
from torch.nn import functional as F

from jointnet_cli.errors import UserError
from jointnet_cli.modality import NEAR_QUANTILE
from jointnet_cli.tensors import fit_scale_shift

FITS = 9
"""Least-squares solutions that the median is taken of."""

FIT_PIXELS = 2048
"""Pixels in each of them."""


@dataclass(frozen=True)
class DepthErrors:
    """The errors of one prediction, or their means over several."""

    abs_rel: float
    """Mean of |depth - truth| / truth."""
    delta1: float
    """Share of pixels with max(depth / truth, truth / depth) < 1.25."""
    rmse: float
    """Root mean squared error of disparity, as a fraction of the image's own range of disparity."""


def align(predicted: Tensor, truth: Tensor, generator: Generator) -> tuple[float, float]:
    """Scale and shift that take predicted disparity to the true one, both (P,): the median of `FITS` random fits."""
    count = min(FIT_PIXELS, len(truth))
    draws = [torch.randperm(len(truth), generator=generator)[:count] for _ in range(FITS)]
    fits = torch.stack([torch.stack(fit_scale_shift(predicted[draw], truth[draw])) for draw in draws])
    scale, shift = fits.median(dim=0).values.tolist()
    return scale, shift


def depth_errors(
    predicted: Tensor, truth: Tensor, *, depth_cap: float | None = None, seed: int = 0
) -> tuple[DepthErrors, float]:
    """Compare predicted disparity with the truth where both are above 0 (paper 5.2): the one depth protocol.

    No aligned disparity is taken for less than that of the cap, or without one of the image's farthest true pixel.

    Args:
        predicted: (H, W) disparity up to scale and shift, 0 where there is none.
        truth: (H, W) inverse depth, 0 where it is unknown or endless.
        depth_cap: depth beyond which the truth does not count, in its unit.
        seed: decides which pixels are sampled for the fits.

    Returns:
        The errors, and the share of the pixels with a true depth that count: a prediction may leave out none unseen.

    Raises:
        UserError: no pixel has both depths, or a predicted value is not finite.
    """
    _require_finite(predicted)
    known = known_pixels(truth, depth_cap)
    valid = known & (predicted > 0)
    if not valid.any():
        raise UserError("prediction and truth have no valid pixel in common")
    floor = truth[known].min().item() if depth_cap is None else 1 / depth_cap
    span = _near_end(truth[known]) - truth[known].min().item()
    errors = _compare(predicted[valid], truth[valid], floor=floor, span=span, seed=seed)
    return errors, (valid.sum() / known.sum()).item()


def known_pixels(truth: Tensor, depth_cap: float | None) -> Tensor:
    """Return where inverse depth (H, W) is known and not beyond the cap."""
    return truth > 0 if depth_cap is None else truth >= 1 / depth_cap


def _require_finite(predicted: Tensor) -> None:
    if not predicted.isfinite().all():
        raise UserError("the predicted disparity has values that are not finite")


def _near_end(disparity: Tensor) -> float:
    """Return the `NEAR_QUANTILE` of any number of values (P,)."""
    return float(np.quantile(disparity.numpy(), NEAR_QUANTILE))


def _compare(predicted: Tensor, truth: Tensor, *, floor: float, span: float, seed: int) -> DepthErrors:
    """Errors of valid pixels (P,) after alignment, clamped to the disparity `floor`; `span` is the truth's range."""
    estimate, target = predicted.double(), truth.double()
    scale, shift = align(estimate, target, torch.Generator().manual_seed(seed))
    aligned = (estimate * scale + shift).clamp(min=floor)
    ratio = target / aligned  # depth / true depth
    return DepthErrors(
        abs_rel=(ratio - 1).abs().mean().item(),
        delta1=(torch.maximum(ratio, 1 / ratio) < 1.25).double().mean().item(),
        rmse=((aligned - target).square().mean().sqrt() / max(span, 1e-9)).item(),
    )


def resized(values: Tensor, size: torch.Size) -> Tensor:
    """Return a map (h, w) at another size (H, W)."""
    if values.shape == size:
        return values
    return F.interpolate(values[None, None], size, mode="bilinear", antialias=True)[0, 0]


def aligned_error(predicted: Tensor, given: Tensor, seed: int = 0) -> float:
    """Return the root mean squared difference of disparity (H, W) up to scale and shift from a given one in [0, 1]."""
    estimate, target = predicted.flatten().double(), given.flatten().double()
    scale, shift = align(estimate, target, torch.Generator().manual_seed(seed))
    return (estimate * scale + shift - target).square().mean().sqrt().item()


def at_size(disparity: Tensor, height: int, width: int) -> Tensor:
    """Return disparity at the size of the truth; a pixel that would be mixed from missing values is missing."""
    size = torch.Size((height, width))
    if disparity.shape == size:
        return disparity
    there = resized((disparity > 0).float(), size)
    return torch.where(there > 0.999, resized(disparity, size), 0.0)
