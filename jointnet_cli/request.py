"""What the engine is asked for: the base of all image tasks. Plain data, cheap to import."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from jointnet_cli.errors import UserError
from jointnet_cli.modality import MODALITIES
from jointnet_cli.model.folder import ModelFolder
from jointnet_cli.projection import Projection
from jointnet_cli.sampling.layout import Layout
from jointnet_cli.sampling.presets import Resolved, Sampling, resolve
from jointnet_cli.task_inputs import ImageFile, MapFiles, MaskFiles, ViewOptions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float32]
else:
    Array = Any  # fields are read at run time, without NumPy

Maps = Mapping[str, Array]
"""Arrays by modality: `depth` (H, W) relative disparity in [0, 1], near = 1; `normal` (H, W, 3) camera-space unit vectors."""

LATER: Any = None
"""Of an image that is read after the request is checked."""


class Request:
    """What the engine is asked for: the base of all tasks."""

    name: ClassVar[str]
    """The task's verb at the command line, and the engine's method."""
    example: ClassVar[str]

    prompt: str
    seed: int
    sampling: Sampling
    negative_prompt: str = ""
    photo: ImageFile | None = None
    files: MapFiles | None = None
    marks: MaskFiles | None = None
    view: ViewOptions | None = None
    """Files of the request, where its task takes some."""
    named_after_photo: ClassVar[bool] = False
    """Whether the files of the result are named after the input image alone."""
    one_size: ClassVar[bool] = True
    """Whether these files have to be of one size; else of one shape."""
    projection: Projection | None = None
    """How the input's pixels map to directions; `None` is a perspective image."""

    @property
    def sources(self) -> dict[str, Path]:
        """The files that the request was made from, by the name of their flag."""
        return {}

    @property
    def is_uncertain(self) -> bool:
        """Whether the result says how certain it is."""
        return False

    @property
    def is_panorama(self) -> bool:
        """Whether the result is a panorama, which ends in something to look around in."""
        return self.projection is not None

    @property
    def title(self) -> str:
        """What the result is called in messages and, as a slug, in file names."""
        return self.prompt

    def resolved(self, folder: ModelFolder) -> Resolved:
        """Return how a model denoises it."""
        return resolve(self.sampling, folder.defaults, self.name, guided=self.prompt != self.negative_prompt)

    def layout(self, folder: ModelFolder) -> Layout:
        """Return the canvas that a model works on.

        Raises:
            UserError: a size that the model cannot make.
        """
        raise NotImplementedError

    def size(self, folder: ModelFolder) -> tuple[int, int]:
        """Return height and width of the result in pixels.

        Raises:
            UserError: a size that the model cannot make.
        """
        layout = self.layout(folder)
        return layout.height * folder.factor, layout.width * folder.factor


def image_size(image: Array) -> tuple[int, int]:
    """Return height and width of a request's image.

    Raises:
        UserError: the request has no image, or an array of another shape or type.
    """
    if image is None:
        raise UserError("the request has no image", hint="image=…, an array (H, W, 3) of sRGB in [0, 1]")
    _check_array("the image", image, 3)
    height, width = image.shape[:2]
    return height, width


def require_branches(names: Iterable[str], folder: ModelFolder) -> None:
    """Refuse maps that a model has no branch for.

    Raises:
        UserError: such a map.
    """
    if missing := [name for name in names if name not in folder.branches[1:]]:
        have = ", ".join(folder.branches[1:]) or "no dense map"
        raise UserError(f"the model has no {missing[0]} branch", hint=f"it has {have}")


def check_arrays(maps: Maps, masks: Maps, size: tuple[int, int] | None = None) -> None:
    """Refuse maps and masks of another shape or type than requests hold, or than an image of `size` has.

    Raises:
        UserError: an array that differs.
    """
    arrays = {f"maps[{name!r}]": (values, _CHANNELS[MODALITIES[name].values]) for name, values in maps.items()}
    arrays |= {f"masks[{name!r}]": (values, None) for name, values in masks.items()}
    for what, (values, channels) in arrays.items():
        _check_array(what, values, channels)
        if size is not None and values.shape[:2] != size:
            (height, width), (rows, columns) = values.shape[:2], size
            message = f"{what} is {width} x {height} pixels, and the image is {columns} x {rows} pixels"
            raise UserError(message, "resize one of them")


_CHANNELS = {"color": 3, "disparity": None, "direction": 3}


def _check_array(what: str, values: Array, channels: int | None) -> None:
    wanted = (channels,) if channels else ()
    if values.ndim != 2 + len(wanted) or values.shape[2:] != wanted or values.dtype.kind != "f":
        shape = f"(H, W, {channels})" if channels else "(H, W)"
        message = f"{what} is an array {values.shape} of {values.dtype}, not {shape} of floating-point numbers"
        hint = f"divide by {2 ** (8 * values.dtype.itemsize) - 1}" if values.dtype.kind == "u" else None
        raise UserError(message, hint)
