"""Predictions of many tiles merged into one of the canvas (paper 4.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from jointnet_cli.devices import TILE_AREA, TILE_AREA_ELSEWHERE
from jointnet_cli.sampling.layout import Layout, Tile

Predict = Callable[[Tensor, Sequence[int]], Tensor]
"""From stacked tiles (T, N, K, h, w) and the numbers of their texts to predictions (T, N, C, h, w)."""


@dataclass
class TileBatch:
    """How many tiles go through the network at once; what turns out too much is halved for the rest of the run."""

    size: int | None = None
    """`None` decides by the device and the tile."""

    def of(self, tiles: Sequence[Tile], device: torch.device) -> int:
        """Return how many tiles, all of one size, go through the network at once."""
        if self.size is not None:
            return self.size
        return max(1, TILE_AREA.get(device.type, TILE_AREA_ELSEWHERE) // (tiles[0].height * tiles[0].width))

    def halve(self, tried: int) -> None:
        """After `tried` tiles at once did not fit into memory.

        Raises:
            torch.OutOfMemoryError: there is nothing to halve; called while it is handled.
        """
        if tried == 1:
            raise
        self.size = tried // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def merge(
    canvas: Tensor, tiles: Sequence[Tile], layout: Layout, predict: Predict, batch: TileBatch | None = None
) -> Tensor:
    """Return the weighted mean of the tiles' predictions on the canvas.

    Args:
        canvas: (N, K, H, W) what the network sees of the N branches.
        tiles: from `Layout.at`. The result is 0 outside of all tiles.
        layout: says how weights fall off and whether columns wrap.
        predict: predicts some of the tiles.
        batch: how many tiles of one size go through `predict` at once.

    Returns:
        (N, C, H, W).
    """
    if layout.single:
        return predict(canvas[None], [0])[0]
    total: Tensor | None = None
    weights = torch.zeros(canvas.shape[-2:], dtype=canvas.dtype, device=canvas.device)
    for tile, predicted in _predictions(canvas, tiles, predict, batch or TileBatch()):
        if total is None:
            total = canvas.new_zeros(*predicted.shape[:2], *canvas.shape[-2:])
        weight = tile_weights(tile, layout.taper).to(canvas)
        rows, columns = _place(tile, canvas.shape[-1], canvas.device)
        total[..., rows[:, None], columns] += weight * predicted
        weights[rows[:, None], columns] += weight
    if total is None:
        raise ValueError("no tiles")
    return total / weights.clamp(min=torch.finfo(weights.dtype).tiny)


def crop(canvas: Tensor, tile: Tile) -> Tensor:
    """Return what a tile sees, (..., h, w)."""
    rows, columns = _place(tile, canvas.shape[-1], canvas.device)
    return canvas[..., rows[:, None], columns]


def tile_weights(tile: Tile, taper: int) -> Tensor:
    """(h, w) weights: a linear ramp over `taper` columns from the left and right sides, as in the published code.

    The column k from a side weighs (k + 1/2) / taper, at most 1, times the tile's own weight: the ramp taken at the centres of
    the latent pixels. In a tile narrower than two tapers the nearer side decides.
    """
    columns = torch.arange(tile.width, dtype=torch.float32) + 0.5
    side = torch.minimum(columns, columns.flip(0))
    ramp = (side / taper).clamp(max=1) if tile.taper and taper else torch.ones(tile.width)
    return (tile.weight * ramp).expand(tile.height, -1)


def _predictions(
    canvas: Tensor, tiles: Sequence[Tile], predict: Predict, batch: TileBatch
) -> Iterator[tuple[Tile, Tensor]]:
    """Yield every tile with its prediction (N, C, h, w), tiles of one size together."""
    for size in dict.fromkeys((tile.height, tile.width) for tile in tiles):
        waiting = [tile for tile in tiles if (tile.height, tile.width) == size]
        while waiting:
            group = waiting[: batch.of(waiting, canvas.device)]
            try:
                predicted = predict(torch.stack([crop(canvas, tile) for tile in group]), [tile.text for tile in group])
            except torch.OutOfMemoryError:
                batch.halve(len(group))
                continue
            yield from zip(group, predicted, strict=True)
            waiting = waiting[len(group) :]


def _place(tile: Tile, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    rows = torch.arange(tile.top, tile.top + tile.height, device=device)
    columns = torch.arange(tile.left, tile.left + tile.width, device=device) % width
    return rows, columns
