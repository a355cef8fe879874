"""Does a panorama look like one place? Intra-LPIPS (Lee et al., 2023), as in the paper's Table 3."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.features.perceptual import Perceptual


def square_crops(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """The squares (P, H, H, 3) of the picture's height that fit side by side: four of a picture 4:1.

    They do not overlap; what the width leaves over lies in even gaps between them.

    Raises:
        UserError: fewer than two squares fit.
    """
    height, width = picture.shape[:2]
    last = count_crops(height, width) - 1
    lefts = [number * (width - height) // last for number in range(last + 1)]
    return np.stack([picture[:, left : left + height] for left in lefts])


def count_crops(height: int, width: int) -> int:
    """How many squares fit side by side.

    Raises:
        UserError: fewer than two.
    """
    if (count := width // height) < 2:
        raise UserError(f"a picture of {width}x{height} holds no two squares side by side", hint="the paper's are 4:1")
    return count


def intra_distance(perceptual: Perceptual, picture: NDArray[np.float32]) -> float:
    """The mean perceptual distance over all pairs of a panorama's square crops: 6 pairs of 4. Less is more coherent.

    `picture` is (H, W, 3) sRGB in [0, 1]; its crops are compared at their own size.
    """
    crops = torch.from_numpy(square_crops(picture)).permute(0, 3, 1, 2).to(perceptual.shift.device)
    return perceptual.pairs(crops).mean().item()
