"""Tiles over a canvas: where they lie at every step and how their predictions are merged (paper 4.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

Predict = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Tile:
    """A window on the canvas, in latent pixels; with wrap it may reach over the right edge."""

    top: int
    left: int
    height: int
    width: int
    weight: float = 1.0
    taper: bool = True


@dataclass(frozen=True)
class Layout:
    """How a canvas is cut into tiles.

    All sizes are latent pixels. A canvas no larger than one window is one tile, untouched by weights or offsets.
    """

    height: int
    width: int
    window: tuple[int, int]
    """Height and width of a tile."""
    stride: int
    """Distance between tiles, in both directions."""
    wrap: bool = False
    """Whether the canvas closes left to right."""
    random_offset: bool = True
    whole_image_until: float = 0.0
    """Fraction of the steps in which the whole canvas is one more tile."""
    whole_image_weight: float = 5.0
    taper: int = 0
    """Width of the linear decay of weights towards a tile's sides, along x."""

    @property
    def single(self) -> bool:
        """Whether one tile covers the canvas."""
        return self.height <= self.window[0] and self.width <= self.window[1] and not self.wrap

    def at(self, step: int, steps: int, generator: Generator) -> list[Tile]:
        """The tiles of one step. Offsets come from the generator, one draw a step, whatever the layout needs."""
        high, wide = min(self.window[0], self.height), min(self.window[1], self.width)
        draw = torch.randint(1 << 30, (2,), generator=generator).tolist()
        if self.single:
            return [Tile(0, 0, self.height, self.width, taper=False)]
        offsets = [value % self.stride if self.random_offset else 0 for value in draw]
        tops = _starts(self.height, high, self.stride, offsets[0])
        lefts = (
            [(offsets[1] + left) % self.width for left in range(0, self.width, self.stride)]
            if self.wrap
            else _starts(self.width, wide, self.stride, offsets[1])
        )
        tiles = [Tile(top, left, high, wide) for top in tops for left in lefts]
        if step <= int(self.whole_image_until * steps) and self.whole_image_until > 0:
            # A closed canvas has no edge of its own: the whole image is cut open somewhere else at every step.
            left = draw[1] % self.width if self.wrap and self.random_offset else 0
            tiles.append(Tile(0, left, self.height, self.width, self.whole_image_weight))
        return tiles


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


def _starts(length: int, window: int, stride: int, offset: int) -> list[int]:
    """Where windows start on an open side: at both ends and, in between, every stride from the offset on."""
    last = length - window
    return sorted({0, last, *range(offset, last, stride)}) if last > 0 else [0]


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
