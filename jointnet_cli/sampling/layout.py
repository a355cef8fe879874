"""Where tiles lie on a canvas at every step (paper 4.2), and the canvas that a task asks for: plain arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from jointnet_cli.errors import UserError
from jointnet_cli.model.folder import ModelFolder
from jointnet_cli.projection import Projection
from jointnet_cli.sampling.presets import BASELINES, Offsets, Tiling

if TYPE_CHECKING:
    from jointnet_cli.tasks import Generate, Panorama


_ACROSS, _DOWN = 0.6180339887498949, 0.7548776662466927
"""How far tiles shift from step to step, of a stride: 1 over the golden ratio and over the plastic number."""


@dataclass(frozen=True)
class Tile:
    """A window on the canvas, in latent pixels; with wrap it may reach over the right edge."""

    top: int
    left: int
    height: int
    width: int
    weight: float = 1.0
    taper: bool = True
    text: int = 0
    """Number of the text that it is denoised with."""


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
    last_stride: int | None = None
    """The same in the last step; `None` changes nothing there."""
    wrap: bool = False
    """Whether the canvas closes left to right."""
    offsets: Offsets = "random"
    """How tiles shift from step to step, see `Tiling`."""
    whole_image_until: float = 0.0
    """Fraction of the steps in which the whole canvas is one more tile."""
    whole_image_weight: float = 5.0
    whole_image_only_until: float = 0.0
    """Fraction of the steps in which it is the only one."""
    taper: int = 0
    """Width of the linear decay of weights towards a tile's sides, along x."""

    @property
    def single(self) -> bool:
        """Whether one tile covers the canvas."""
        return self.height <= self.window[0] and self.width <= self.window[1] and not self.wrap

    def at(self, step: int, steps: int, draw: tuple[int, int]) -> list[Tile]:
        """Return the tiles of one step.

        `draw` are two large random numbers that offsets are made of: of the step, or of the whole run if offsets are golden.
        """
        if self.single:
            return [Tile(0, 0, self.height, self.width, taper=False)]
        tiles = []
        if not self._whole_image_only(step, steps):
            high, wide = min(self.window[0], self.height), min(self.window[1], self.width)
            stride = self.stride_at(step, steps)
            down, left = self._offset(step, draw[0], _DOWN, stride), self._offset(step, draw[1], _ACROSS, stride)
            tops = _starts(self.height, high, stride, down)
            lefts = (
                [(left + start) % self.width for start in range(0, self.width, stride)]
                if self.wrap
                else _starts(self.width, wide, stride, left)
            )
            tiles = [Tile(top, left, high, wide) for top in tops for left in lefts]
        if self.has_whole_image(step, steps):
            # A closed canvas has no edge of its own: the whole image is cut open somewhere else at every step.
            left = self._offset(step, draw[1], _ACROSS, self.width) if self.wrap else 0
            tiles.append(Tile(0, left, self.height, self.width, self.whole_image_weight, taper=False))
        return tiles

    def _offset(self, step: int, draw: int, shift: float, length: int) -> int:
        """Return how far the tiles of a step are shifted along one axis, less than `length`."""
        if self.offsets == "none":
            return 0
        return (draw + (int(step * shift % 1 * length) if self.offsets == "golden" else 0)) % length

    def stride_at(self, step: int, steps: int) -> int:
        """Return the distance between tiles at a step."""
        return self.last_stride if step == steps - 1 and self.last_stride is not None else self.stride

    def has_whole_image(self, step: int, steps: int) -> bool:
        """Whether the whole canvas is a tile at a step."""
        return self.whole_image_until > 0 and step <= int(self.whole_image_until * steps)

    def evaluations(self, tiles: Sequence[Tile]) -> float:
        """Return the area of tiles in windows: what they cost a network."""
        return sum(tile.height * tile.width for tile in tiles) / self._window_area

    def expected_evaluations(self, step: int, steps: int) -> float:
        """Return about what `evaluations` says of a step's tiles, without making them."""
        whole = self.height * self.width / self._window_area
        if self.single or self._whole_image_only(step, steps):
            return whole
        stride = self.stride_at(step, steps)
        rows = 1 if self.height <= self.window[0] else math.ceil(self.height / stride)
        return rows * math.ceil(self.width / stride) + whole * self.has_whole_image(step, steps)

    @property
    def _window_area(self) -> int:
        return min(self.window[0], self.height) * min(self.window[1], self.width)

    def _whole_image_only(self, step: int, steps: int) -> bool:
        return step < int(self.whole_image_only_until * steps) and self.has_whole_image(step, steps)


def single_tile(height: int, width: int) -> Layout:
    """Return a canvas that the network sees whole."""
    return Layout(height, width, (height, width), min(height, width))


def tiled(height: int, width: int, window: int, tiling: Tiling, *, wrap: bool = False) -> Layout:
    """Return a canvas of any size in square tiles of the model's size; one tile where one is enough."""
    last = tiling.last_tiles_per_window
    return Layout(
        height,
        width,
        (window, window),
        max(1, window // tiling.tiles_per_window),
        None if last is None else max(1, window // last),
        wrap=wrap,
        offsets=tiling.offsets,
        whole_image_until=tiling.whole_image_until,
        whole_image_weight=tiling.whole_image_weight,
        whole_image_only_until=tiling.whole_image_only_until,
        taper=int(tiling.taper * window),
    )


def refine_layout(height: int, width: int, window: int, tiling: Tiling, *, wrap: bool = False) -> Layout:
    """Return a canvas whose content is there already: tiles without the whole image (paper 5.2)."""
    return tiled(height, width, window, replace(tiling, whole_image_until=0, whole_image_only_until=0), wrap=wrap)


def generate_layout(task: Generate, folder: ModelFolder) -> Layout:
    """One tile of the size asked for, by default the model's own; for given maps, of about that area and in their shape.

    Raises:
        UserError: a size that is not a multiple of the VAE's factor.
    """
    height, width = task.height, task.width
    if task.maps:
        high, wide = next(iter(task.maps.values())).shape[:2]
        if width is not None:
            height = height or folder.nearest_side(width * high / wide)
        elif height is not None:
            width = folder.nearest_side(height * wide / high)
        else:
            return photo_layout(high, wide, folder, task.resolved(folder).tiles)
    rows = folder.latent_side(height or folder.size, "height")
    return single_tile(rows, folder.latent_side(width or folder.size, "width"))


def nearest_sides(height: float, width: float, folder: ModelFolder) -> tuple[int, int]:
    """Return latent height and width nearest to a size in pixels: even, and what the model can work on."""
    unit = math.lcm(2, folder.multiple)
    rows, columns = (max(unit, unit * round(pixels / folder.factor / unit)) for pixels in (height, width))
    return rows, columns


def photo_layout(height: int, width: int, folder: ModelFolder, tiling: Tiling, max_side: int | None = None) -> Layout:
    """Return the canvas for a photo of a size in pixels, in its shape as nearly as even latent sides allow.

    It has about the model's own area and is one tile. With `max_side` its longer side is that, but never longer than the
    photo's nor shorter than without it; beyond the model's area it is tiled.
    """
    factor, side = folder.factor, folder.window
    scale = side * factor / (height * width) ** 0.5
    if max_side is not None:
        scale = max(scale, min(1.0, max_side / max(height, width)))
    rows, columns = nearest_sides(height * scale, width * scale, folder)
    if rows * columns <= 1.5 * side**2:
        return single_tile(rows, columns)
    return tiled(rows, columns, side, tiling)


def inpaint_layout(
    height: int,
    width: int,
    folder: ModelFolder,
    tiling: Tiling,
    max_side: int | None = None,
    projection: Projection | None = None,
) -> Layout:
    """Return the canvas for a photo, as `photo_layout` does, or a panorama.

    That of a panorama has its own size in tiles, at most `max_side` on the longer side, and is closed if it is.
    """
    if projection is None:
        return photo_layout(height, width, folder, tiling, max_side)
    scale = min(1.0, (max_side or width) / max(height, width))
    return tiled(*nearest_sides(height * scale, width * scale, folder), folder.window, tiling, wrap=projection.wrap)


def panorama_layout(task: Panorama, folder: ModelFolder) -> Layout:
    """Return the canvas of a panorama, tiled as its method and its own wishes say.

    Raises:
        UserError: sizes, a stride, a taper or a span that do not fit, or settings of tiles for the method `direct`.
    """
    if not 0 < task.span <= 360 or (task.wraps and task.span != 360):
        raise UserError("span is at most 360 degrees, and exactly 360 with wrap", hint="--span 360, or --no-wrap")
    window = folder.window
    height = folder.latent_side(task.height or folder.size, "height")
    width = folder.latent_side(task.width, "width")
    if width < window or height < window:
        raise UserError(f"a panorama is at least {folder.size} pixels wide and high", hint="or use: jointnet generate")
    if task.method == "direct":
        for name in ("stride", "taper", "whole_image_until", "whole_image_weight"):
            if getattr(task, name) is not None:
                flag = f"--{name.replace('_', '-')}"
                raise UserError(f"{flag} has no effect: the method direct has no tiles", hint="leave it out")
        return single_tile(height, width)
    layout = tiled(height, width, window, BASELINES.get(task.method) or task.resolved(folder).tiles, wrap=task.wraps)
    if task.stride is not None:
        layout = replace(layout, stride=folder.latent_side(task.stride, "stride"), last_stride=None)
    if layout.stride > window:
        raise UserError(
            f"stride {task.stride} leaves gaps between tiles of {folder.size}", hint=f"--stride {folder.size // 2}"
        )
    if task.taper is not None:
        if task.taper % folder.factor:
            nearest = folder.factor * round(task.taper / folder.factor)
            raise UserError(f"taper {task.taper} is not a multiple of {folder.factor}", hint=f"--taper {nearest}")
        layout = replace(layout, taper=task.taper // folder.factor)
    if task.whole_image_until is not None:
        only = min(layout.whole_image_only_until, task.whole_image_until)
        layout = replace(layout, whole_image_until=task.whole_image_until, whole_image_only_until=only)
    if task.whole_image_weight is not None:
        if layout.whole_image_until == 0:
            raise UserError(
                "--whole-image-weight has no effect: the whole image takes part in no step",
                hint="add --whole-image-until 0.4, or leave it out",
            )
        layout = replace(layout, whole_image_weight=task.whole_image_weight)
    return layout


def _starts(length: int, window: int, stride: int, offset: int) -> list[int]:
    """Where windows start on an open side: at both ends and, in between, every stride from the offset on."""
    last = length - window
    return sorted({0, last, *range(offset, last, stride)}) if last > 0 else [0]
