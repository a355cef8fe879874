"""What the engine is asked for and what it answers: plain data, cheap to import."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jointnet_cli.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to denoise. `None` means the default that the model's folder states (`jointnet.json`)."""

    steps: int | None = None
    """Number of denoising steps, at least 1."""
    guidance: float | None = None
    """Classifier-free guidance scale; 1 switches guidance off."""
    scheduler: str | None = None
    """A name of `jointnet_cli.sampling.schedule.SCHEDULERS`, such as `ddim`."""
    tile_batch: int | None = None
    """How many tiles go through the network at once; `None` takes all tiles of a step."""

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise UserError("steps must be at least 1")


@dataclass(frozen=True, kw_only=True)
class Generate:
    """An RGB image and its dense maps from a prompt (paper 3.1). Sizes are pixels, multiples of the VAE's factor."""

    prompt: str
    seed: int
    negative_prompt: str = ""
    width: int | None = None
    height: int | None = None
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True, kw_only=True)
class Depth:
    """The dense maps of a given photo by channel-wise inpainting: RGB known, maps unknown (paper 4.1)."""

    image: NDArray[np.float32]
    """(H, W, 3) sRGB in [0, 1], any size."""
    source: Path | None = None
    """Where the photo came from, for the records."""
    prompt: str = ""
    seed: int
    ensemble: int = 1
    """How many predictions, aligned in scale and shift, the median is taken of."""
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        if self.ensemble < 1:
            raise UserError("an ensemble has at least one member")


@dataclass(frozen=True, kw_only=True)
class Panorama:
    """A cylindrical RGBD panorama by tiles with content coherence (paper 4.2)."""

    prompt: str
    seed: int
    negative_prompt: str = ""
    width: int = 2048
    height: int | None = None
    """Pixels; `None` takes the model's own image size."""
    span: float = 360.0
    """Horizontal field of view in degrees, up to 360."""
    wrap: bool = True
    """Whether the left edge continues the right edge; needs a span of 360."""
    stride: int | None = None
    """Pixels between tiles; `None` takes half a tile."""
    whole_image_until: float = 0.4
    """Fraction of the steps in which the whole image takes part as one more tile."""
    whole_image_weight: float = 5.0
    sampling: Sampling = field(default_factory=Sampling)


Task = Generate | Depth | Panorama


@dataclass(frozen=True)
class Projection:
    """How pixels map to directions.

    `cylindrical`: column x looks at azimuth `(x + 0.5) / width * span - span / 2` degrees, row y at height
    `(height / 2 - y - 0.5) / f` on a unit cylinder with `f = width / radians(span)` pixels; depth is the distance
    from the axis. `perspective`: pinhole with `span` as the horizontal field of view, depth is planar Z.
    """

    kind: Literal["perspective", "cylindrical"]
    span: float
    """Horizontal field of view in degrees."""
    wrap: bool = False


@dataclass
class Result:
    """One finished item, in memory."""

    task: Task
    image: NDArray[np.float32]
    """(H, W, 3) sRGB in [0, 1]."""
    maps: dict[str, NDArray[np.float32]]
    """`depth`: (H, W) relative disparity in [0, 1], near = 1; `normal`: (H, W, 3) camera-space unit vectors."""
    projection: Projection
    settings: dict[str, Any]
    """Everything that decides the pixels, resolved: model name and hash, steps, guidance, scheduler, size, dtype …"""
    timings: dict[str, float]
    """Seconds by phase: `text`, `denoise`, `decode`."""

    @property
    def seconds(self) -> float:
        """Seconds from the request to the pixels."""
        return sum(self.timings.values())
