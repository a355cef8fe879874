"""Where tiles lie on a canvas at every step (paper 4.2), and the canvas that a task asks for: plain arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from jointnet_cli.errors import UserError
from jointnet_cli.model.folder import ModelFolder
from jointnet_cli.tasks import Generate, Panorama


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

    def at(self, step: int, steps: int, draw: tuple[int, int]) -> list[Tile]:
        """The tiles of one step. `draw` are two large random numbers that the step's offsets are made of."""
        if self.single:
            return [Tile(0, 0, self.height, self.width, taper=False)]
        high, wide = min(self.window[0], self.height), min(self.window[1], self.width)
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
            tiles.append(Tile(0, left, self.height, self.width, self.whole_image_weight, taper=False))
        return tiles


def single_tile(height: int, width: int) -> Layout:
    """A canvas that the network sees whole."""
    return Layout(height, width, (height, width), min(height, width))


def generate_layout(task: Generate, folder: ModelFolder) -> Layout:
    """One tile of the size asked for, or of the model's own.

    Raises:
        UserError: a size that is no multiple of the VAE's factor.
    """
    height = folder.latent_side(task.height or folder.size, "height")
    return single_tile(height, folder.latent_side(task.width or folder.size, "width"))


def panorama_layout(task: Panorama, folder: ModelFolder) -> Layout:
    """Square tiles of the model's size, the whole image in the first steps, a linear taper of an eighth of a tile.

    Raises:
        UserError: sizes, a stride or a span that do not fit.
    """
    if not 0 < task.span <= 360 or (task.wrap and task.span != 360):
        raise UserError("span is at most 360 degrees, and exactly 360 with wrap", hint="--span 360, or --no-wrap")
    window = folder.window
    height = folder.latent_side(task.height or folder.size, "height")
    width = folder.latent_side(task.width, "width")
    stride = folder.latent_side(task.stride, "stride") if task.stride else max(1, window // 2)
    if width < window or height < window:
        raise UserError(f"a panorama is at least {folder.size} pixels wide and high", hint="or use: jointnet generate")
    if stride > window:
        raise UserError(
            f"stride {task.stride} leaves gaps between tiles of {folder.size}", hint=f"--stride {folder.size // 2}"
        )
    return Layout(
        height,
        width,
        (window, window),
        stride,
        wrap=task.wrap,
        whole_image_until=task.whole_image_until,
        whole_image_weight=task.whole_image_weight,
        taper=window // 8,
    )


def _starts(length: int, window: int, stride: int, offset: int) -> list[int]:
    """Where windows start on an open side: at both ends and, in between, every stride from the offset on."""
    last = length - window
    return sorted({0, last, *range(offset, last, stride)}) if last > 0 else [0]
