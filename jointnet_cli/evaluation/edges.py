"""Are the edges of a depth map at edges of its picture?"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

SHARE = 0.05
"""Of a map's pixels, those that count as its edges."""
TOLERANCE = 128
"""An image edge may be a pixel off for so many pixels of the shorter side, and for less at least one."""


def edge_strength(disparity: NDArray[np.floating]) -> NDArray[np.float64]:
    """Absolute second differences along both axes, summed, (H, W).

    The disparity of a plane is linear in the image, whatever its slope: only jumps, creases and curved surfaces have any.
    """
    wide = np.pad(disparity.astype(np.float64), 1, mode="reflect", reflect_type="odd")
    inner = wide[1:-1, 1:-1]
    return np.abs(wide[1:-1, :-2] - 2 * inner + wide[1:-1, 2:]) + np.abs(wide[:-2, 1:-1] - 2 * inner + wide[2:, 1:-1])


def contrast(image: NDArray[np.floating]) -> NDArray[np.float64]:
    """The length of the gradient (central differences) in the colour channel where it is longest, (H, W)."""
    down, right = np.gradient(image.astype(np.float64), axis=(0, 1))
    return np.hypot(down, right).max(axis=-1)


def edge_auc(image: NDArray[np.floating], disparity: NDArray[np.floating]) -> float | None:
    """How likely the picture has more contrast at an edge of the depth than elsewhere: 0.5 is chance, 1 always.

    The area under the ROC curve of image contrast as a detector of depth edges. These are the pixels whose `edge_strength` is
    among the largest `SHARE`, equal ones included, and more than rounding makes. Contrast is the largest within the
    tolerance. Image edges without depth edges, such as texture and shadows, are no fault, but depth edges without image edges
    are; equal contrasts count half.

    Args:
        image: (H, W, 3) sRGB.
        disparity: (H, W), any scale and shift.

    Returns:
        `None` of a map without edges.
    """
    strength = edge_strength(disparity)
    rounding = np.finfo(np.float32).eps * 8 * np.abs(disparity).max()
    edges = (strength >= np.quantile(strength, 1 - SHARE)) & (strength > rounding)
    if not edges.any():
        return None
    reach = max(1, round(min(disparity.shape) / TOLERANCE))
    found = F.max_pool2d(torch.from_numpy(contrast(image))[None], 2 * reach + 1, stride=1, padding=reach)[0].numpy()
    elsewhere = np.sort(found[~edges])
    below = np.searchsorted(elsewhere, found[edges], side="left") + np.searchsorted(
        elsewhere, found[edges], side="right"
    )
    return float(below.mean() / 2 / len(elsewhere))
