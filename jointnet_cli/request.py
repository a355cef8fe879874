"""What the engine is asked for: the base of all image tasks. Plain data, cheap to import."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from jointnet_cli.errors import UserError
from jointnet_cli.model.folder import ModelFolder
from jointnet_cli.projection import Projection
from jointnet_cli.sampling.layout import Layout
from jointnet_cli.sampling.presets import Sampling
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
        UserError: the request has no image.
    """
    if image is None:
        raise UserError("the request has no image", hint="image=…, an array (H, W, 3) of sRGB in [0, 1]")
    height, width = image.shape[:2]
    return height, width
