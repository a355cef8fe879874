"""What a file holds, in one convention: values as they are meant, and the view they are seen in."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from jointnet_cli.errors import UserError
from jointnet_cli.params import INPUT_PANEL, OUTPUT_PANEL, Param
from jointnet_cli.projection import Projection, Sphere

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

_Metric = partial(Param, panel="Metres")
_Wanted = partial(Param, panel="Conventions of the result")
_Read = partial(Param, panel=INPUT_PANEL)


@dataclass(frozen=True)
class Metres:
    """What disparity means in metres: distance = 1 / (scale * disparity + shift).

    Raises:
        UserError: one value of a pair, values of both pairs, or numbers that give no distances.
    """

    near: Annotated[float | None, _Metric("Distance of disparity 1.", "METRES", shown="file's")] = None
    far: Annotated[float | None, _Metric("Distance of disparity 0.", "METRES", shown="file's")] = None
    scale: Annotated[float | None, _Metric("In place of these.", "1/METRES", shown="file's")] = None
    shift: Annotated[float | None, _Metric("With --scale.", "1/METRES", shown="file's")] = None
    step: Annotated[
        float | None,
        _Metric(
            "A step of distance in 16 bits, 0 for unknown: 0.001 for millimetres.",
            "METRES",
            shown="black is --near, white is --far",
        ),
    ] = None

    def __post_init__(self) -> None:
        _ = self.depth_scale  # raises

    @property
    def fitted(self) -> bool:
        """Whether the scale is given by --scale and --shift, which are about the numbers of the file itself."""
        return self.scale is not None

    @cached_property
    def depth_scale(self) -> DepthScale | None:
        """The scale that was given."""
        ranged, fitted = (self.near, self.far), (self.scale, self.shift)
        given = [value for value in (*ranged, *fitted) if value is not None]
        if not given and self.step is None:
            return None
        from jointnet_cli.scene.scene import DepthScale

        if any(value is not None for value in ranged) and any(value is not None for value in fitted):
            raise UserError("--near and --far say the same as --scale and --shift", "give one of the two pairs")
        if self.step is not None and self.step <= 0:
            raise UserError(f"--step must be above 0, got {self.step:g}", "--step 0.001 for millimetres")
        if self.scale is not None and self.shift is not None:
            return DepthScale.from_scale(self.scale, self.shift)
        if self.near is not None and self.far is not None:
            return DepthScale.from_range(self.near, self.far, "given")
        if given:
            raise UserError(
                "only half of the scale is given", "pass both --near and --far, or both --scale and --shift"
            )
        return None


@dataclass(frozen=True)
class TargetOptions:
    """What files are to become; `None` keeps what they are."""

    to: Annotated[Format, Param("The format.", panel=OUTPUT_PANEL, shown=False)]
    bits: Annotated[
        Literal[8, 16, 32] | None,
        Param("Bits a sample of PNG and TIFF.", panel=OUTPUT_PANEL, shown="images 8, maps 16 in PNG and 32 in TIFF"),
    ] = None
    quantity: Annotated[Quantity | None, _Wanted("What depth is to be.", flag="--as", shown="what it is")] = None
    axis: Annotated[
        Axis | None,
        _Wanted(
            "Distance along the view (in panoramas from the vertical axis), or from the viewer.",
            shown="what it is; distance on a sphere is radial",
        ),
    ] = None
    white: Annotated[
        End | None,
        _Wanted("Which end of depth is white, in PNG, TIFF and npy.", shown="near for disparity, far for distance"),
    ] = None
    normals: Annotated[Green, _Wanted("Green of normals: up (OpenGL) or down (DirectX).")] = "opengl"
    projection: Annotated[
        Literal["equirectangular", "cylindrical"] | None, _Wanted("Cylinder to sphere and back.", shown="what it is")
    ] = None
    crop: Annotated[
        bool,
        _Wanted(
            "Of a sphere only what the cylinder showed, placed by GPano's crop fields; or all, the rest black.",
            flag="--crop/--whole",
        ),
    ] = False
    width: Annotated[
        int | None,
        _Wanted(
            "Of the whole sphere, or of the cylinder.", "PIXELS", ge=2, shown="keeps the resolution at the horizon"
        ),
    ] = None
    vertical: Annotated[
        float | None,
        _Wanted("Height of a cylinder made from a sphere.", "DEGREES", shown="what is known of the sphere, else 90"),
    ] = None
    metres: Metres = Metres()
    """What disparity made of distance is to mean, and the range of distance in 16 bits."""


@dataclass(frozen=True)
class SourceOptions:
    """What the user says of files; `None` leaves it to them."""

    part: Annotated[Part | None, _Read("What the files hold.", flag="--what", shown="by record, name and kind")] = None
    quantity: Annotated[Quantity | None, _Read("What depth is.", flag="--from-as", shown="what the file says")] = None
    axis: Annotated[Axis | None, _Read("What distance is measured along.", flag="--from-axis", shown="planar")] = None
    white: Annotated[End | None, _Read("Which end of depth is white.", flag="--from-white", shown="as for --white")] = (
        None
    )
    normals: Annotated[Green | None, _Read("Where green points.", flag="--from-normals", shown="opengl")] = None
    projection: Annotated[
        Kind | None, _Read("How the files look at the scene.", flag="--from-projection", shown="file's")
    ] = None
    span: Annotated[
        float | None,
        _Read(
            "Their horizontal field of view.",
            "DEGREES",
            ge=1,
            le=360,
            flag="--from-span",
            shown="file's; panoramas 360",
        ),
    ] = None
    channel: Annotated[
        str | None, _Read("The channel of an EXR that is depth, such as `ViewLayer.Depth.Z`.", "NAME", shown="by name")
    ] = None
    normal_layer: Annotated[
        str | None,
        _Read("The layer of an EXR whose X, Y, Z are normals, such as `ViewLayer.Normal`.", "NAME", shown="by name"),
    ] = None
    metres: Metres = Metres()


@dataclass(frozen=True)
class DepthMap:
    """Depth with all that is known of its meaning."""

    values: NDArray[np.float32]
    """(H, W): relative disparity in [0, 1], near = 1; or distance in metres, where what is not finite or not positive is
    sky or unknown."""
    quantity: Quantity
    axis: Axis
    """`planar`: Z of a perspective picture, in panoramas the distance from the vertical axis. `radial`: the distance from
    the viewer."""
    scale: DepthScale | None = None
    """What disparity means in metres, where that is known."""


@dataclass(frozen=True)
class Code:
    """The depth that a file's black (0) and white (full scale) stand for; in between it is linear."""

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
    """How much of a sphere's picture is known, symmetric about its centre; degrees."""

    horizontal: float
    vertical: float


@dataclass
class Content:
    """The picture and maps of one file, all of one size."""

    view: View | None
    """How pixels map to directions; `None` where nobody said."""
    image: NDArray[np.float32] | None = None
    """(H, W, 3) linear light of sRGB's primaries, 0 or more; of OpenEXR also above 1."""
    depth: DepthMap | None = None
    normal: NDArray[np.float32] | None = None
    """(H, W, 3) unit vectors: x right, y up, z towards the viewer; zero where there is none. In panorama each column has
    its own axes, y vertical and z level towards the viewer."""
    record: dict[str, Any] = field(default_factory=dict)
    """What the file's own record says."""
    texts: dict[str, str] = field(default_factory=dict)
    """The `parameters` of the picture, if it has them."""
    taken_for: dict[str, str] = field(default_factory=dict)
    """By part, in words, what the file was taken for."""
    left_out: tuple[str, ...] = ()
    """Channels that are none of these parts."""
    notes: tuple[str, ...] = ()
    """What had to be decided to read the file."""
    used: set[str] = field(default_factory=set)
    """The channels that were read, and the flags that had an effect: `--step`, `--from-white`, and `scale` of all that
    state one."""
    coverage: Coverage | None = None
    """Of a sphere's picture, what is known."""

    @property
    def parts(self) -> dict[str, NDArray[np.float32]]:
        """The arrays that are there, by part."""
        depth = None if self.depth is None else self.depth.values
        named = {"image": self.image, "depth": depth, "normal": self.normal}
        return {name: values for name, values in named.items() if values is not None}

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = next(iter(self.parts.values())).shape[:2]
        return height, width


def kind_of(view: View | None) -> Kind | None:
    """Return the view's name at the command line and in records."""
    if isinstance(view, Sphere):
        return "equirectangular"
    return view.kind if view else None


def require_view(view: View | None, purpose: str) -> View:
    """Return the view.

    Raises:
        UserError: nobody said what it is.
    """
    if view is None:
        raise UserError(
            f"{purpose} needs to know how the picture looks at the scene, and the file does not say",
            "give --from-projection, and --from-span with its horizontal field of view in degrees",
        )
    return view
