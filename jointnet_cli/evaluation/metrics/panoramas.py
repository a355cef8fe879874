"""Seams of tiles in a panorama, and coherence of its parts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.metrics.metric import PerCase, Predictions
from jointnet_cli.evaluation.report import Column
from jointnet_cli.evaluation.runner import Record
from jointnet_cli.model.perceptual import Perceptual
from jointnet_cli.results import Result

if TYPE_CHECKING:
    from jointnet_cli.engine import Engine

_LEAST_STEP = 1e-6  # far below what any file can hold; makes the ratios of a flat image 1


def column_steps(image: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean absolute difference of every column from the one to its left, (W,); entry 0 is the step across the wrap.

    `image` is (H, W) or (H, W, C).
    """
    steps = np.abs(image.astype(np.float64) - np.roll(image, 1, axis=1))
    means: NDArray[np.float64] = steps.mean(axis=tuple(axis for axis in range(image.ndim) if axis != 1))
    return means


def seam_ratios(
    steps: NDArray[np.float64], borders: Iterable[int], *, grid: int = 1, wrap: bool = True
) -> dict[str, float]:
    """Return the mean step at borders against all other columns of a grid: by their mean, and by their 95th percentile.

    About 1 for `to_mean` is no seam; above 1 for `to_p95` is one that stands out among the image's own edges. The grid's
    columns are the multiples of `grid`, the pixels of a latent pixel. Without `wrap`, column 0 is neither a border nor
    elsewhere.

    Raises:
        ValueError: no border is left.
    """
    at_border = np.zeros(len(steps), dtype=bool)
    at_border[[border % len(steps) for border in borders]] = True
    elsewhere = ~at_border & (np.arange(len(steps)) % grid == 0)
    if not wrap:
        at_border[0] = elsewhere[0] = False
    if not at_border.any() or not elsewhere.any():
        raise ValueError("borders must be some of the columns, and not all")
    border = steps[at_border].mean() + _LEAST_STEP
    others = steps[elsewhere] + _LEAST_STEP
    return {"to_mean": float(border / others.mean()), "to_p95": float(border / np.percentile(others, 95))}


def last_tile_borders(engine: Engine, result: Result) -> list[int]:
    """Return the pixel columns where tiles of the last denoising step began or ended."""
    sides = {side for tile in result.tiles[-1] for side in (tile.left, tile.left + tile.width)}
    columns = {side * engine.model.factor % result.image.shape[1] for side in sides}
    return sorted(columns - {0})  # the wrap is measured by itself


def panorama_seams(engine: Engine, result: Result) -> dict[str, dict[str, dict[str, float]]]:
    """Return seam ratios of one panorama, by map (`image`, `depth`) and by where they were looked for.

    `wrap` is the column where the ends meet (absent without wrap), `last_tiles` the borders of the last step's tiles,
    `stride_grid` the multiples of the stride, where borders would lie without random offsets. Empty for a canvas where no
    column is left beside the borders.
    """
    wrap = result.projection.wrap
    stride = result.settings["layout"]["stride"] * engine.model.factor
    places = {
        "last_tiles": last_tile_borders(engine, result),
        "stride_grid": list(range(stride, result.image.shape[1], stride)),
    }
    if wrap:
        places["wrap"] = [0]
    maps = {"image": result.image, **{name: values for name, values in result.maps.items() if name == "depth"}}
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, values in maps.items():
        steps = column_steps(values)
        try:
            found[name] = {
                place: seam_ratios(steps, borders, grid=engine.model.factor, wrap=wrap)
                for place, borders in places.items()
                if borders
            }
        except ValueError:
            return {}
    return found


def square_crops(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the squares (P, H, H, 3) of the image's height that fit side by side: four of an image 4:1.

    They do not overlap; what the width leaves over lies in even gaps between them.

    Raises:
        UserError: fewer than two squares fit.
    """
    height, width = image.shape[:2]
    last = count_crops(height, width) - 1
    lefts = [number * (width - height) // last for number in range(last + 1)]
    return np.stack([image[:, left : left + height] for left in lefts])


def count_crops(height: int, width: int) -> int:
    """Return how many squares fit side by side.

    Raises:
        UserError: fewer than two.
    """
    if (count := width // height) < 2:
        raise UserError(
            f"the image is {width}x{height}; a panorama must be at least twice as wide as high",
            hint="panoramas of the paper are 4:1",
        )
    return count


def intra_distance(perceptual: Perceptual, image: NDArray[np.float32]) -> float:
    """Return the mean perceptual distance of all pairs of square crops of a panorama: 6 pairs of 4. Less is more coherent.

    `image` is (H, W, 3) sRGB in [0, 1]; crops are compared at their own size.
    """
    crops = torch.from_numpy(square_crops(image)).permute(0, 3, 1, 2).to(perceptual.shift.device)
    return perceptual.pairs(crops).mean().item()


def intra_lpips(perceptual: Perceptual, key: str, resamples: int) -> PerCase:
    """Return the metric of coherence. `key` is what the network was opened by."""

    def measure(predictions: Predictions, number: int) -> Record:
        return {"number": number, "intra": intra_distance(perceptual, predictions.image(number))}

    columns = {"intra": Column(f"intra {perceptual.name}", "lower")}
    return PerCase(columns, resamples, measure, key=key, title=perceptual.name)
