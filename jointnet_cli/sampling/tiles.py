"""Predictions of many tiles merged into one of the canvas (paper 4.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from jointnet_cli.sampling.layout import Layout, Tile

Predict = Callable[[Tensor], Tensor]


def merge(canvas: Tensor, tiles: Sequence[Tile], layout: Layout, predict: Predict, batch: int | None = None) -> Tensor:
    """The weighted mean of the tiles' predictions on the canvas.

    Args:
        canvas: (N, K, H, W) what the network sees of the N branches.
        tiles: from `Layout.at`; they cover the canvas.
        layout: says how weights fall off and whether columns wrap.
        predict: from stacked tiles (T, N, K, h, w) to their predictions (T, N, C, h, w).
        batch: tiles of one size that go through `predict` at once; `None` takes all.

    Returns:
        (N, C, H, W).
    """
    if layout.single:
        return predict(canvas[None])[0]
    total: Tensor | None = None
    weights = torch.zeros(canvas.shape[-2:], dtype=canvas.dtype, device=canvas.device)
    for group in _batches(tiles, batch):
        predicted = predict(torch.stack([crop(canvas, tile) for tile in group]))
        if total is None:
            total = canvas.new_zeros(*predicted.shape[1:3], *canvas.shape[-2:])
        for tile, prediction in zip(group, predicted, strict=True):
            weight = tile_weights(tile, layout.taper).to(canvas)
            rows, columns = _place(tile, canvas.shape[-1], canvas.device)
            total[..., rows[:, None], columns] += weight * prediction
            weights[rows[:, None], columns] += weight
    if total is None:
        raise ValueError("no tiles")
    return total / weights


def crop(canvas: Tensor, tile: Tile) -> Tensor:
    """What a tile sees, (..., h, w)."""
    rows, columns = _place(tile, canvas.shape[-1], canvas.device)
    return canvas[..., rows[:, None], columns]


def tile_weights(tile: Tile, taper: int) -> Tensor:
    """(h, w) weights: linear decay over `taper` columns towards the left and right sides, never quite zero."""
    columns = torch.arange(tile.width, dtype=torch.float32) + 1
    side = torch.minimum(columns, columns.flip(0))
    ramp = (side / (taper + 1)).clamp(max=1) if tile.taper and taper else torch.ones(tile.width)
    return (tile.weight * ramp).expand(tile.height, -1)


def _place(tile: Tile, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    rows = torch.arange(tile.top, tile.top + tile.height, device=device)
    columns = torch.arange(tile.left, tile.left + tile.width, device=device) % width
    return rows, columns


def _batches(tiles: Sequence[Tile], batch: int | None) -> Iterator[Sequence[Tile]]:
    """Tiles of equal size, at most `batch` at once."""
    sizes = dict.fromkeys((tile.height, tile.width) for tile in tiles)
    for size in sizes:
        same = [tile for tile in tiles if (tile.height, tile.width) == size]
        for start in range(0, len(same), batch or len(same)):
            yield same[start : start + (batch or len(same))]
