"""What the engine is asked for and what it answers: plain data, cheap to import."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jointnet_cli.errors import UserError
from jointnet_cli.projection import Projection
from jointnet_cli.sampling.presets import Method, Sampling

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Maps = Mapping[str, "NDArray[np.float32]"]
"""Arrays by modality: `depth` (H, W) relative disparity in [0, 1], near = 1; `normal` (H, W, 3) camera-space unit vectors."""

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
    """A cylindrical RGBD panorama by tiles with content coherence (paper 4.2), or by one of its baselines (Table 3)."""

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
    """Decides what the next four are when they are `None`; see `jointnet_cli.sampling.presets.TILINGS`."""
    stride: int | None = None
    """Pixels between tiles."""
    taper: int | None = None
    """Pixels over which a tile's weight falls off towards its left and right side."""
    whole_image_until: float | None = None
    """Fraction of the steps in which the whole image takes part as one more tile."""
    whole_image_weight: float | None = None
    sampling: Sampling = field(default_factory=Sampling)


Task = Generate | Depth | Inpaint | Refine | Panorama

_OWN_NAME = re.compile(r"\d{5,}_\d+_(.+)\.(?:image|rgb[dn]*)")
"""The stem of a picture that is itself a result: `00000_7_ocean-reef.image`."""


def kind(task: Task) -> str:
    """The task's verb at the command line: `generate`, `depth`, `inpaint`, `refine` or `panorama`."""
    return type(task).__name__.lower()


def source(task: Task) -> Path | None:
    """The file of the picture that a task starts from, if it starts from one."""
    return task.source if isinstance(task, Depth) else getattr(task, "sources", {}).get("image")


def title(kind: str, prompt: str, image: Path | None) -> str:
    """What a result is about: the prompt, for `depth` the picture's name, and for `refine` that with a word before it.

    Without the word, refining a result beside it would write over it: `00000_7_reef.image.png` is called `refined reef`.
    """
    if image is None or kind not in ("depth", "refine"):
        return prompt
    return image.stem if kind == "depth" else "refined " + _OWN_NAME.sub(r"\1", image.stem)
