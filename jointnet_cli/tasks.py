"""What the engine is asked for and what it answers: plain data, cheap to import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

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
    """How many tiles go through the network at once; `None` decides by the device."""

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise UserError("steps must be at least 1")


Maps = Mapping[str, "NDArray[np.float32]"]
"""Arrays by modality: `depth` (H, W) relative disparity in [0, 1], near = 1; `normal` (H, W, 3) camera-space unit vectors."""

Method = Literal["jointnet", "multidiffusion", "syncdiffusion", "direct"]
METHODS: tuple[str, ...] = get_args(Method)

What = Literal["both", "image", "depth", "normal"]


@dataclass(frozen=True, kw_only=True)
class Generate:
    """An RGB image and its dense maps from a prompt (paper 3.1), or for given maps (paper 4.1).

    Sizes are pixels, multiples of the VAE's factor.
    """

    prompt: str
    seed: int
    negative_prompt: str = ""
    width: int | None = None
    """`None` takes the model's own image size, or what comes near it in the shape of the given maps."""
    height: int | None = None
    maps: Maps = field(default_factory=dict)
    """Dense maps that are known, all of one size; the image is painted for them."""
    sources: Mapping[str, Path] = field(default_factory=dict)
    """Where the maps came from, for the records."""
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
    max_side: int | None = None
    """Longer side at which the model works, pixels; `None` takes about the model's own area. Larger ones are tiled."""
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        if self.ensemble < 1:
            raise UserError("an ensemble has at least one member")


@dataclass(frozen=True, kw_only=True)
class Inpaint:
    """A part of an image and of its dense maps made anew (paper 4.1, A.3). What no mask marks stays bit for bit."""

    image: NDArray[np.float32]
    """(H, W, 3) sRGB in [0, 1], any size."""
    prompt: str
    seed: int
    masks: Maps
    """(H, W) in [0, 1] by modality, `rgb` among them: above 0.5 is repainted. A map without a mask of its own has that
    of `rgb`."""
    maps: Maps = field(default_factory=dict)
    """The image's dense maps, of its size; those that the model has and that are missing here are predicted first."""
    sources: Mapping[str, Path] = field(default_factory=dict)
    """Where `image`, `depth`, `normal`, `mask`, `depth_mask`, `normal_mask` came from, for the records."""
    negative_prompt: str = ""
    strength: float = 1.0
    """How much of the masked part is forgotten, in [0, 1]; 1 is all of it (SDEdit below)."""
    max_side: int | None = None
    """As for `Depth`; `None` takes a panorama as large as it is."""
    projection: Projection | None = None
    """How the image's pixels map to directions; `None` is a perspective image."""
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True, kw_only=True)
class Refine:
    """An image and its dense maps at a higher resolution by SDEdit, tile by tile (paper 5.2, A.5)."""

    image: NDArray[np.float32]
    """(H, W, 3) sRGB in [0, 1], any size."""
    maps: Maps
    """The image's dense maps, each of any size; those that the model has and that are missing here are predicted first."""
    seed: int
    prompt: str = ""
    negative_prompt: str = ""
    what: What = "both"
    """What is refined: everything, the image, or one map; the rest is given."""
    scale: float = 2.0
    """Factor by which the image's width and height grow, at least 1."""
    strength: float = 0.4
    """How much of the input is forgotten, in [0, 1]."""
    projection: Projection | None = None
    """How the input's pixels map to directions; `None` is a perspective image."""
    sources: Mapping[str, Path] = field(default_factory=dict)
    """Where `image`, `depth` and `normal` came from, for the records."""
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True, kw_only=True)
class Panorama:
    """A cylindrical RGBD panorama by tiles with content coherence (paper 4.2), or by one of its rivals (Table 3)."""

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
    method: Method = "jointnet"
    """Decides what the next four are when they are `None`; see `jointnet_cli.sampling.layout.METHODS`."""
    stride: int | None = None
    """Pixels between tiles."""
    taper: int | None = None
    """Pixels over which a tile's weight falls off towards its left and right side."""
    whole_image_until: float | None = None
    """Fraction of the steps in which the whole image takes part as one more tile."""
    whole_image_weight: float | None = None
    sampling: Sampling = field(default_factory=Sampling)


Task = Generate | Depth | Inpaint | Refine | Panorama


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
    """Seconds by phase: `text`, `encode`, `denoise`, `decode`."""
    uncertainty: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """Of an ensemble, by map, (H, W): the members' standard deviation in disparity, or for normals their RMS angle to the
    mean in radians."""

    @property
    def seconds(self) -> float:
        """Seconds from the request to the pixels."""
        return sum(self.timings.values())
