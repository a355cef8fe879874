"""The flags of `jointnet convert`: what is wanted, metres, and what the files are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from jointnet_cli.cli.options import INPUT_PANEL, OUTPUT_PANEL, Channel, NormalLayer, option
from jointnet_cli.errors import UserError

if TYPE_CHECKING:
    from jointnet_cli.scene.scene import DepthScale

CONVENTION_PANEL = "Conventions of the result"
SCALE_PANEL = "Metres"


@dataclass(frozen=True)
class ConvertTargetOptions:
    """What the files are to become."""

    to: Annotated[
        Literal["exr", "png", "tiff", "npy", "jpg"],
        option("--to", panel=OUTPUT_PANEL, help="The format.", show_default=False),
    ]
    bits: Annotated[
        Literal["8", "16", "32"] | None,
        option(
            "--bits",
            panel=OUTPUT_PANEL,
            help="Bits a sample of PNG and TIFF.",
            show_default="images 8, maps 16 in PNG and 32 in TIFF",
        ),
    ] = None
    quantity: Annotated[
        Literal["disparity", "distance"] | None,
        option("--as", panel=CONVENTION_PANEL, help="What depth is to be.", show_default="what it is"),
    ] = None
    axis: Annotated[
        Literal["planar", "radial"] | None,
        option(
            "--axis",
            panel=CONVENTION_PANEL,
            help="Distance along the view (in panoramas from the vertical axis), or from the viewer.",
            show_default="what it is; distance on a sphere is radial",
        ),
    ] = None
    white: Annotated[
        Literal["near", "far"] | None,
        option(
            "--white",
            panel=CONVENTION_PANEL,
            help="Which end of depth is white, in PNG, TIFF and npy.",
            show_default="near for disparity, far for distance",
        ),
    ] = None
    normals: Annotated[
        Literal["opengl", "directx"],
        option("--normals", panel=CONVENTION_PANEL, help="Green of normals: up (OpenGL) or down (DirectX)."),
    ] = "opengl"
    projection: Annotated[
        Literal["equirectangular", "cylindrical"] | None,
        option("--projection", panel=CONVENTION_PANEL, help="Cylinder to sphere and back.", show_default="what it is"),
    ] = None
    crop: Annotated[
        bool,
        option(
            "--crop/--whole",
            panel=CONVENTION_PANEL,
            help="Of a sphere only what the cylinder showed, placed by GPano's crop fields; or all, the rest black.",
        ),
    ] = False
    width: Annotated[
        int | None,
        option(
            "--width",
            panel=CONVENTION_PANEL,
            min=2,
            metavar="PIXELS",
            help="Of the whole sphere, or of the cylinder.",
            show_default="keeps the resolution at the horizon",
        ),
    ] = None
    vertical: Annotated[
        float | None,
        option(
            "--vertical",
            panel=CONVENTION_PANEL,
            metavar="DEGREES",
            help="Height of a cylinder made from a sphere.",
            show_default="what is known of the sphere, else 90",
        ),
    ] = None


@dataclass(frozen=True)
class ConvertScaleOptions:
    """What disparity means in metres: distance = 1 / (scale * disparity + shift)."""

    near: Annotated[
        float | None,
        option("--near", panel=SCALE_PANEL, metavar="METRES", help="Distance of disparity 1.", show_default="file's"),
    ] = None
    far: Annotated[
        float | None,
        option("--far", panel=SCALE_PANEL, metavar="METRES", help="Distance of disparity 0.", show_default="file's"),
    ] = None
    scale: Annotated[
        float | None,
        option("--scale", panel=SCALE_PANEL, metavar="1/METRES", help="In place of these.", show_default="file's"),
    ] = None
    shift: Annotated[
        float | None,
        option("--shift", panel=SCALE_PANEL, metavar="1/METRES", help="With --scale.", show_default="file's"),
    ] = None
    step: Annotated[
        float | None,
        option(
            "--step",
            panel=SCALE_PANEL,
            metavar="METRES",
            help="A step of distance in 16 bits, 0 for unknown: 0.001 for millimetres.",
            show_default="black is --near, white is --far",
        ),
    ] = None

    def depth_scale(self) -> DepthScale | None:
        """What was given.

        Raises:
            UserError: one flag of a pair, flags of both pairs, or numbers that give no distances.
        """
        from jointnet_cli.scene.scene import DepthScale

        ranged, fitted = (self.near, self.far), (self.scale, self.shift)
        if any(value is not None for value in ranged) and any(value is not None for value in fitted):
            raise UserError("--near and --far say the same as --scale and --shift", "give one of the two pairs")
        if self.step is not None and self.step <= 0:
            raise UserError(f"--step must be above 0, got {self.step:g}", "--step 0.001 for millimetres")
        if self.scale is not None and self.shift is not None:
            return DepthScale.from_scale(self.scale, self.shift)
        if self.near is not None and self.far is not None:
            return DepthScale.from_range(self.near, self.far, "given")
        if any(value is not None for value in (*ranged, *fitted)):
            raise UserError(
                "only half of the scale is given", "pass both --near and --far, or both --scale and --shift"
            )
        return None


@dataclass(frozen=True)
class SourceOptions:
    """What the files are, where they do not say so themselves."""

    what: Annotated[
        Literal["image", "depth", "normal"] | None,
        option("--what", panel=INPUT_PANEL, help="What the files hold.", show_default="by record, name and kind"),
    ] = None
    from_quantity: Annotated[
        Literal["disparity", "distance"] | None,
        option("--from-as", panel=INPUT_PANEL, help="What depth is.", show_default="what the file says"),
    ] = None
    from_axis: Annotated[
        Literal["planar", "radial"] | None,
        option("--from-axis", panel=INPUT_PANEL, help="What distance is measured along.", show_default="planar"),
    ] = None
    from_white: Annotated[
        Literal["near", "far"] | None,
        option("--from-white", panel=INPUT_PANEL, help="Which end of depth is white.", show_default="as for --white"),
    ] = None
    from_normals: Annotated[
        Literal["opengl", "directx"] | None,
        option("--from-normals", panel=INPUT_PANEL, help="Where green points.", show_default="opengl"),
    ] = None
    from_projection: Annotated[
        Literal["perspective", "cylindrical", "equirectangular"] | None,
        option("--from-projection", panel=INPUT_PANEL, help="How the files look at the scene.", show_default="file's"),
    ] = None
    from_span: Annotated[
        float | None,
        option(
            "--from-span",
            panel=INPUT_PANEL,
            min=1,
            max=360,
            metavar="DEGREES",
            help="Their horizontal field of view.",
            show_default="file's; panoramas 360",
        ),
    ] = None
    channel: Channel = None
    normal_layer: NormalLayer = None
