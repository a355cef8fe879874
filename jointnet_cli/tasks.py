"""The image tasks: one request class each, whose fields are its flags, the columns of its batch files and its record.

Plain data, cheap to import. What the engine needs and no flag gives, such as the pixels of an image, has no `Param`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from jointnet_cli.errors import UserError
from jointnet_cli.modality import RGB
from jointnet_cli.model.folder import ModelFolder
from jointnet_cli.params import PROMPT_PANEL, SAMPLING_PANEL, VIEW_PANEL, Param
from jointnet_cli.projection import FULL_CIRCLE, Projection
from jointnet_cli.request import LATER, Array, Maps, Request, image_size
from jointnet_cli.sampling.layout import (
    Layout,
    generate_layout,
    inpaint_layout,
    nearest_sides,
    panorama_layout,
    refine_layout,
)
from jointnet_cli.sampling.presets import Method, Sampling
from jointnet_cli.task_inputs import ImageFile, MapFiles, MaskFiles, RefinedMapFiles, ViewOptions

Target = Literal["both", "image", "depth", "normal"]

_Pixels = partial(Param, metavar="PIXELS", ge=1)
_Share = partial(Param, metavar="FRACTION", ge=0, le=1)
_Tile = partial(Param, panel=SAMPLING_PANEL, shown="the method's")

_Words = partial(Param, shown=False, pattern="[^\0\ud800-\udfff]*", expected="text in UTF-8 without NUL")
_DRAWN = _Words("What to draw.", "PROMPT", argument=True)
_SHOWN = _Words("What the image shows.", "TEXT", panel=PROMPT_PANEL)
_NEGATIVE = _Words("What to steer away from.", "TEXT", panel=PROMPT_PANEL)
MAX_SEED = 2**64 - 1
SEED = Param(
    "Seed of the first item; item n of a batch uses seed + n. The same command gives the same bytes.",
    "N",
    ge=0,
    le=MAX_SEED,
    env=True,
    panel=PROMPT_PANEL,
)
_PHOTO_SEED = replace(
    SEED, help="Seed of every photo. The same photo gives the same bytes, whatever other photos there are."
)
_MAX_SIDE = _Pixels(
    "Longer side to work at, in tiles where needed; the result has the photo's size in any case.",
    panel=SAMPLING_PANEL,
    shown="about the model's area",
)
MODEL_OR_MAP = "model's, or the map's shape"

_LAYER_STRENGTH = 0.6
"""Strength of the inpainting behind the foreground of a scene."""


@dataclass(frozen=True, kw_only=True)
class Generate(Request):
    """Make an image together with its depth (and normals) from a prompt.

    With `--depth` or `--normal` the map is given and the image is painted for it. Writes the image, a 16-bit disparity
    PNG (relative inverse depth: near is bright), an EXR with everything and a JSON record per result, and prints their
    paths.
    """

    name = "generate"
    example = 'jointnet generate "sunset beach with a red hut" --count 4'

    prompt: Annotated[str, _DRAWN] = ""
    negative_prompt: Annotated[str, _NEGATIVE] = ""
    seed: Annotated[int, SEED] = 0
    width: Annotated[int | None, _Pixels("Width of the image.", shown=MODEL_OR_MAP)] = None
    """A multiple of the VAE's factor; `None` takes the model's own size, or what comes near it in the shape of the maps."""
    height: Annotated[int | None, _Pixels("Height of the image.", shown=MODEL_OR_MAP)] = None
    files: MapFiles = field(default_factory=MapFiles)
    sampling: Sampling = field(default_factory=Sampling)
    maps: Maps = field(default_factory=dict)
    """Dense maps that are known, all of one size; the image is painted for them."""

    @property
    def sources(self) -> dict[str, Path]:
        return self.files.paths

    def layout(self, folder: ModelFolder) -> Layout:
        return generate_layout(self, folder)


@dataclass(frozen=True, kw_only=True)
class Depth(Request):
    """Predict the depth (and normals) of photos.

    Writes a 16-bit disparity PNG (relative inverse depth: near is bright), a coloured preview, an EXR and a JSON record
    per photo, and prints their paths. With `--ensemble` also how far the predictions differ, pixel by pixel.
    """

    name = "depth"
    example = "jointnet depth photo.jpg holiday/ --ensemble 5"
    named_after_photo = True

    ensemble: Annotated[int, Param("Take the median of this many aligned predictions.", "N", ge=1, env=True)] = 1
    """How many predictions, aligned in scale and shift, the median is taken of."""
    max_side: Annotated[int | None, _MAX_SIDE] = None
    """Longer side at which the model works, pixels; `None` takes about the model's own area. Larger ones are tiled."""
    prompt: Annotated[str, replace(_SHOWN, help="What the photos show, if known.")] = ""
    seed: Annotated[int, _PHOTO_SEED] = 0
    sampling: Sampling = field(default_factory=Sampling)
    image: Array = LATER
    """(H, W, 3) sRGB in [0, 1], any size."""
    source: Path | None = None
    """Where the photo came from, for the records."""
    projection: Projection | None = None

    def __post_init__(self) -> None:
        if self.ensemble < 1:
            raise UserError("an ensemble has at least one member")

    @property
    def sources(self) -> dict[str, Path]:
        return {} if self.source is None else {"image": self.source}

    @property
    def is_uncertain(self) -> bool:
        return self.ensemble > 1

    @property
    def is_panorama(self) -> bool:
        return False  # it has the files of any photo, also if the photo is a panorama

    @property
    def title(self) -> str:
        return self.prompt if self.source is None else self.source.stem

    def layout(self, folder: ModelFolder) -> Layout:
        return inpaint_layout(*self.size(folder), folder, self.resolved(folder).tiles, self.max_side, self.projection)

    def size(self, folder: ModelFolder) -> tuple[int, int]:
        return image_size(self.image)


@dataclass(frozen=True, kw_only=True)
class Inpaint(Request):
    """Repaint a part of an image together with its depth (and normals).

    What is white in `--mask` is painted anew, in the image and in its maps alike; `--depth-mask` and `--normal-mask` say
    something else for their map, and alone they leave the image as it is. Everything outside of the masks stays as it
    was, bit for bit. A map that is not given is predicted first. A panorama of this program stays one, with its mesh.
    """

    name = "inpaint"
    example = 'jointnet inpaint beach.png "a palm tree" --mask mask.png'

    photo: ImageFile = field(default_factory=ImageFile)
    prompt: Annotated[str, _DRAWN] = ""
    negative_prompt: Annotated[str, _NEGATIVE] = ""
    seed: Annotated[int, SEED] = 0
    marks: MaskFiles = field(default_factory=MaskFiles)
    strength: Annotated[float, _Share("How much of the masked part is replaced; 1 starts from pure noise.")] = 1.0
    """In [0, 1] (SDEdit below 1)."""
    max_side: Annotated[int | None, _MAX_SIDE] = None
    """As for `Depth`; `None` takes a panorama as large as it is."""
    files: MapFiles = field(default_factory=MapFiles)
    view: ViewOptions = field(default_factory=ViewOptions)
    sampling: Sampling = field(default_factory=Sampling)
    image: Array = LATER
    """(H, W, 3) sRGB in [0, 1], any size."""
    masks: Maps = field(default_factory=dict)
    """(H, W) in [0, 1] by modality: above 0.5 is repainted. A map without a mask of its own has that of `rgb`; without
    one for `rgb` the image stays."""
    maps: Maps = field(default_factory=dict)
    """The image's dense maps, of its size; those that the model has and that are missing here are predicted first."""
    projection: Projection | None = None

    @property
    def sources(self) -> dict[str, Path]:
        masks = {self.marks.flag(name): path for name, path in self.marks.paths.items()}
        return _image(self.photo) | self.files.paths | masks

    def layout(self, folder: ModelFolder) -> Layout:
        return inpaint_layout(*self.size(folder), folder, self.resolved(folder).tiles, self.max_side, self.projection)

    def size(self, folder: ModelFolder) -> tuple[int, int]:
        return image_size(self.image)

    @classmethod
    def behind(
        cls, projection: Projection, image: Array, maps: Maps, mask: Array, seed: int, sampling: Sampling | None = None
    ) -> Inpaint:
        """Return the request for what the foreground of a scene hides, under the mask (H, W).

        It starts from what is carried on into the mask, under noise (SDEdit): from noise alone a model repaints foreground
        objects that it can still partly see.
        """
        return cls(
            image=image,
            maps=maps,
            masks={RGB: mask},
            seed=seed,
            strength=_LAYER_STRENGTH,
            projection=projection if projection.kind == "cylindrical" else None,
            sampling=sampling or Sampling(),
        )


@dataclass(frozen=True, kw_only=True)
class Refine(Request):
    """Raise the resolution of an image together with its depth (and normals), tile by tile.

    The image grows by `--scale` and gets detail that its depth has too. A map may be of any size in the image's shape;
    one that is not given is predicted first. A panorama of this program stays one, with its mesh.
    """

    name = "refine"
    example = "jointnet refine beach.image.png beach.depth.png --scale 2"
    one_size = False

    photo: ImageFile = field(default_factory=ImageFile)
    files: RefinedMapFiles = field(default_factory=RefinedMapFiles)
    prompt: Annotated[str, _SHOWN] = ""
    negative_prompt: Annotated[str, _NEGATIVE] = ""
    seed: Annotated[int, SEED] = 0
    target: Annotated[Target, Param("What is refined; the rest is known and guides it.", former="--what")] = "both"
    """Everything, the image, or one map."""
    scale: Annotated[float, Param("Factor by which width and height grow.", "FACTOR", ge=1)] = 2.0
    strength: Annotated[float, _Share("How much of the input is replaced; 1 starts from pure noise.")] = 0.4
    view: ViewOptions = field(default_factory=ViewOptions)
    sampling: Sampling = field(default_factory=Sampling)
    image: Array = LATER
    """(H, W, 3) sRGB in [0, 1], any size."""
    maps: Maps = field(default_factory=dict)
    """The image's dense maps, each of any size; those that the model has and that are missing here are predicted first."""
    projection: Projection | None = None

    @property
    def sources(self) -> dict[str, Path]:
        return _image(self.photo) | self.files.paths

    @property
    def title(self) -> str:
        # Without the word before it, refining a result beside it would write over it.
        image = self.photo.image
        return self.prompt if image is None else "refined " + _OWN_NAME.sub(r"\1", image.stem)

    def layout(self, folder: ModelFolder) -> Layout:
        sides = nearest_sides(*self.size(folder), folder)
        wrap = self.projection is not None and self.projection.wrap
        return refine_layout(*sides, folder.window, self.resolved(folder).tiles, wrap=wrap)

    def size(self, folder: ModelFolder) -> tuple[int, int]:
        height, width = (max(1, round(side * self.scale)) for side in image_size(self.image))
        return height, width


@dataclass(frozen=True, kw_only=True)
class Panorama(Request):
    """Make a panorama together with its depth from a prompt.

    The image is drawn by overlapping tiles that share their noise; a full circle joins at its seam. Writes the
    image, its depth and normals as PNG and EXR, a textured mesh, an interactive viewer and a JSON record per result.
    """

    name = "panorama"
    example = 'jointnet panorama "ocean reef" --width 2048'

    prompt: Annotated[str, _DRAWN] = ""
    negative_prompt: Annotated[str, _NEGATIVE] = ""
    seed: Annotated[int, SEED] = 0
    width: Annotated[int, _Pixels("Width of the panorama.", panel=VIEW_PANEL)] = 2048
    height: Annotated[int | None, _Pixels("Height.", panel=VIEW_PANEL, shown="model's")] = None
    span: Annotated[float, Param("Horizontal field of view.", "DEGREES", ge=1, le=FULL_CIRCLE, panel=VIEW_PANEL)] = (
        FULL_CIRCLE
    )
    wrap: Annotated[
        bool | None,
        Param("Let the left edge continue the right edge.", panel=VIEW_PANEL, shown="on exactly when the span is 360"),
    ] = None
    method: Annotated[
        Method,
        Param(
            "Tiling method of the paper or of a baseline; decides the defaults of the flags below.",
            panel=SAMPLING_PANEL,
        ),
    ] = "jointnet"
    """Decides what the next four are when they are `None`: the preset's tiling, or one of `presets.BASELINES`."""
    stride: Annotated[int | None, _Tile("Step between tiles.", "PIXELS", ge=1)] = None
    taper: Annotated[
        int | None, _Tile("Width over which a tile fades out towards its left and right side.", "PIXELS", ge=0)
    ] = None
    whole_image_until: Annotated[
        float | None,
        _Tile("Fraction of the steps in which the whole image takes part as one more tile.", "FRACTION", ge=0, le=1),
    ] = None
    whole_image_weight: Annotated[float | None, _Tile("Weight of that tile.", "WEIGHT", ge=0.01, le=1000)] = None
    sampling: Sampling = field(default_factory=Sampling)

    @property
    def wraps(self) -> bool:
        """Whether the left edge continues the right edge."""
        return self.span == FULL_CIRCLE if self.wrap is None else self.wrap

    @property
    def is_panorama(self) -> bool:
        return True

    def layout(self, folder: ModelFolder) -> Layout:
        return panorama_layout(self, folder)


TASKS: dict[str, type[Request]] = {task.name: task for task in (Generate, Depth, Panorama, Inpaint, Refine)}
"""The tasks by name, in the order of the help text."""

_OWN_NAME = re.compile(r"\d{5,}_\d+_(.+)\.(?:image|rgb[dn]*)")
"""The stem of an image that is itself a result: `00000_7_ocean-reef.image`."""


def _image(photo: ImageFile) -> dict[str, Path]:
    return {} if photo.image is None else {"image": photo.image}
