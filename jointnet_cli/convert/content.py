"""Content of an image or map file in one convention, and the options of `convert`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from jointnet_cli.errors import UserError
from jointnet_cli.modality import DepthKind
from jointnet_cli.params import INPUT_PANEL, OUTPUT_PANEL, Param
from jointnet_cli.projection import Projection, Sphere
from jointnet_cli.scene.exports import DEPTH_SCALE, DEPTH_SHIFT, FAR, NEAR
from jointnet_cli.task_inputs import CHANNEL, DEPTH_KIND, NORMAL_LAYER

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from jointnet_cli.scene.scene import DepthScale

Part = Literal["image", "depth", "normal"]
PARTS: tuple[Part, ...] = get_args(Part)
Quantity = Literal["disparity", "distance"]
Axis = Literal["planar", "radial"]
Kind = Literal["perspective", "cylindrical", "equirectangular"]
View = Projection | Sphere
End = Literal["near", "far"]
Green = Literal["opengl", "directx"]
Format = Literal["exr", "png", "tiff", "npy", "jpg"]

_METRES = "Metres"
_stated = partial(replace, panel=_METRES, shown="what the file states")
_Wanted = partial(Param, panel="Conventions of the result")
_Read = partial(Param, panel=INPUT_PANEL)


@dataclass(frozen=True)
class Metres:
    """Scale of disparity in metres: distance = 1 / (scale * disparity + shift).

    Raises:
        UserError: one value of a pair, values of both pairs, or values that give no distances.
    """

    near: Annotated[float | None, _stated(NEAR)] = None
    far: Annotated[float | None, _stated(FAR)] = None
    depth_scale: Annotated[float | None, _stated(DEPTH_SCALE)] = None
    depth_shift: Annotated[float | None, _stated(DEPTH_SHIFT)] = None
    step: Annotated[
        float | None,
        Param(
            "Distance per step of 16-bit values, 0 for unknown: 0.001 for millimetres.",
            "METRES",
            panel=_METRES,
            shown="black is --near, white is --far",
        ),
    ] = None

    def __post_init__(self) -> None:
        _ = self.scale  # raises

    @property
    def fitted(self) -> bool:
        """Whether --depth-scale and --depth-shift state the scale; they apply to the file's own numbers."""
        return self.depth_scale is not None

    @cached_property
    def scale(self) -> DepthScale | None:
        """The scale that the flags state; `None` without any."""
        ranged, fitted = (self.near, self.far), (self.depth_scale, self.depth_shift)
        given = [value for value in (*ranged, *fitted) if value is not None]
        if not given and self.step is None:
            return None
        from jointnet_cli.scene.scene import DepthScale

        if any(value is not None for value in ranged) and any(value is not None for value in fitted):
            raise UserError("the scale is given twice", "give --near and --far, or --depth-scale and --depth-shift")
        if self.step is not None and self.step <= 0:
            raise UserError(f"--step must be above 0, got {self.step:g}", "--step 0.001 for millimetres")
        if self.depth_scale is not None and self.depth_shift is not None:
            return DepthScale.from_scale(self.depth_scale, self.depth_shift)
        if self.near is not None and self.far is not None:
            return DepthScale.from_range(self.near, self.far, "given")
        if given:
            raise UserError(
                "only half of the scale is given", "pass both --near and --far, or both --depth-scale and --depth-shift"
            )
        return None


@dataclass(frozen=True)
class TargetOptions:
    """Format and conventions of the output files; `None` keeps those of the input."""

    to: Annotated[Format, Param("Output format.", panel=OUTPUT_PANEL, shown=False)]
    bits: Annotated[
        Literal[8, 16, 32] | None,
        Param("Bits per sample in PNG and TIFF.", panel=OUTPUT_PANEL, shown="images 8, maps 16 in PNG and 32 in TIFF"),
    ] = None
    quantity: Annotated[
        Quantity | None, _Wanted("Depth as disparity or as distance.", flag="--as", shown="unchanged")
    ] = None
    axis: Annotated[
        Axis | None,
        _Wanted(
            "Measure distance along the view axis (in panoramas: from the vertical axis), or from the viewer.",
            shown="unchanged; distance on a sphere is radial",
        ),
    ] = None
    white: Annotated[
        End | None,
        _Wanted("Which end of depth is white in PNG, TIFF and npy.", shown="near for disparity, far for distance"),
    ] = None
    normals: Annotated[Green, _Wanted("Green axis of normals: up (OpenGL) or down (DirectX).")] = "opengl"
    projection: Annotated[
        Literal["equirectangular", "cylindrical"] | None,
        _Wanted("Project cylinders to spheres, or spheres to cylinders.", shown="unchanged"),
    ] = None
    crop: Annotated[
        bool,
        _Wanted(
            "Keep only the part of the sphere that the cylinder shows (GPano records its place), or the whole sphere "
            "with the rest black.",
            flag="--crop/--whole",
        ),
    ] = False
    width: Annotated[
        int | None,
        _Wanted(
            "Width of the whole sphere, or of the cylinder.",
            "PIXELS",
            ge=2,
            shown="keeps the resolution at the horizon",
        ),
    ] = None
    vertical: Annotated[
        float | None,
        _Wanted(
            "Vertical field of view of a cylinder made from a sphere.",
            "DEGREES",
            shown="what the record states, else 90",
        ),
    ] = None
    metres: Metres = Metres()
    """Scale of disparity made from distance, and the range of distance in 16 bits."""


@dataclass(frozen=True)
class SourceOptions:
    """What the flags state about the input files; `None` leaves it to the files."""

    part: Annotated[
        Part | None,
        _Read("What the files hold.", flag="--content", shown="by record, name and type", former="--what"),
    ] = None
    depth_kind: Annotated[DepthKind, replace(DEPTH_KIND, former="--from-as")] = "auto"
    axis: Annotated[
        Axis | None, _Read("What the file's distance is measured along.", flag="--from-axis", shown="planar")
    ] = None
    white: Annotated[
        End | None, _Read("Which end of the file's depth is white.", flag="--from-white", shown="as for --white")
    ] = None
    normals: Annotated[
        Green | None, _Read("Green axis of the file's normals.", flag="--from-normals", shown="opengl")
    ] = None
    projection: Annotated[
        Kind | None, _Read("Projection of the file.", flag="--from-projection", shown="what the file states")
    ] = None
    span: Annotated[
        float | None,
        _Read(
            "Horizontal field of view of the file.",
            "DEGREES",
            ge=1,
            le=360,
            flag="--from-span",
            shown="what the file states; panoramas 360",
        ),
    ] = None
    channel: Annotated[str | None, CHANNEL] = None
    normal_layer: Annotated[str | None, NORMAL_LAYER] = None
    metres: Metres = Metres()


@dataclass(frozen=True)
class DepthMap:
    """A depth map and its conventions."""

    values: NDArray[np.float32]
    """(H, W): relative disparity in [0, 1], near = 1; or distance in metres, where values that are not finite or not
    positive are sky or unknown."""
    quantity: Quantity
    axis: Axis
    """`planar`: Z of a perspective image, in panoramas the distance from the vertical axis. `radial`: the distance from
    the viewer."""
    scale: DepthScale | None = None
    """Scale of disparity in metres, if known."""


@dataclass(frozen=True)
class Code:
    """The depths of black (0) and white (full scale) in a file; values in between are linear."""

    black: float = 0.0
    white: float = 1.0

    def decode(self, stored: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return depth of stored values, whose full scale is 1."""
        if (self.black, self.white) == (0, 1):
            return stored
        part = stored.astype("float64")
        return (self.black * (1 - part) + self.white * part).astype("float32")  # exact at both ends

    def encode(self, depth: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the inverse of `decode`."""
        return (depth.astype("float64") - self.black) / (self.white - self.black)


@dataclass(frozen=True)
class Coverage:
    """The known part of a spherical image, symmetric about its centre; degrees."""

    horizontal: float
    vertical: float


@dataclass
class Content:
    """The image and maps of one file, all of one size."""

    view: View | None
    """How pixels map to directions; `None` if unknown."""
    image: NDArray[np.float32] | None = None
    """(H, W, 3) linear light of sRGB's primaries, 0 or more; of OpenEXR also above 1."""
    depth: DepthMap | None = None
    normal: NDArray[np.float32] | None = None
    """(H, W, 3) unit vectors: x right, y up, z towards the viewer; zero where there is none. In panorama each column has
    its own axes, y vertical and z level towards the viewer."""
    record: dict[str, Any] = field(default_factory=dict)
    """The record in the file, or beside it."""
    texts: dict[str, str] = field(default_factory=dict)
    """The text `parameters` of the image, if it has one."""
    taken_for: dict[str, str] = field(default_factory=dict)
    """How each part was read, in words."""
    left_out: tuple[str, ...] = ()
    """Channels that belong to none of these parts."""
    notes: tuple[str, ...] = ()
    """Assumptions made to read the file."""
    used: set[str] = field(default_factory=set)
    """The channels that were read, and the flags that had an effect: `--step`, `--from-white`, `--projection`, and
    `scale` of all that state one."""
    coverage: Coverage | None = None
    """The known part of a spherical image."""

    @property
    def parts(self) -> dict[str, NDArray[np.float32]]:
        """The arrays that exist, by part."""
        depth = None if self.depth is None else self.depth.values
        named = {"image": self.image, "depth": depth, "normal": self.normal}
        return {name: values for name, values in named.items() if values is not None}

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = next(iter(self.parts.values())).shape[:2]
        return height, width


def kind_of(view: View | None) -> Kind | None:
    """Return the name of a view in flags and records."""
    if isinstance(view, Sphere):
        return "equirectangular"
    return view.kind if view else None


def require_view(view: View | None, purpose: str) -> View:
    """Return the view.

    Raises:
        UserError: it is unknown.
    """
    if view is None:
        raise UserError(
            f"{purpose} needs the projection, which the file does not state",
            "pass --from-projection, and --from-span with the horizontal field of view in degrees",
        )
    return view
