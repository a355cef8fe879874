"""The flags that make a place of a picture: meshes, a page to look around in, stereo, a clip, and their scale."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from jointnet_cli.cli.options import option
from jointnet_cli.errors import UserError
from jointnet_cli.scene.exports import MAX_TRIANGLES, MeshFormat, Products, StereoLayout

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from jointnet_cli.scene.scene import DepthScale

SCENE_PANEL = "Scene"

Layers = Annotated[
    bool,
    option(
        "--layers/--no-layers",
        panel=SCENE_PANEL,
        help="Let the model paint what the foreground hides, as a second layer.",
    ),
]


@dataclass(frozen=True)
class ScaleOptions:
    """What the depth map's relative numbers mean in metres: distance = 1 / (scale * disparity + shift)."""

    near: Annotated[
        float | None,
        option(
            "--near",
            panel=SCENE_PANEL,
            metavar="METRES",
            help="Where the nearest (disparity 1) is taken to lie.",
            show_default="1",
        ),
    ] = None
    far: Annotated[
        float | None,
        option(
            "--far",
            panel=SCENE_PANEL,
            metavar="METRES",
            help="Where the farthest (disparity 0) is taken to lie.",
            show_default="30",
        ),
    ] = None
    depth_scale: Annotated[
        float | None,
        option(
            "--depth-scale",
            panel=SCENE_PANEL,
            metavar="PER_METRE",
            help="With --depth-shift, in place of --near and --far: 1 / distance = scale * disparity + shift.",
            show_default=False,
        ),
    ] = None
    depth_shift: Annotated[
        float | None,
        option(
            "--depth-shift",
            panel=SCENE_PANEL,
            metavar="PER_METRE",
            help="See --depth-scale.",
            show_default=False,
        ),
    ] = None
    known: Annotated[
        Path | None,
        option(
            "--known",
            panel=SCENE_PANEL,
            metavar="CSV",
            help="Known distances to fit the scale to: a line `x,y,distance` (pixels, metres) for each.",
            show_default=False,
        ),
    ] = None

    @property
    def stated(self) -> int:
        """In how many ways the scale is stated."""
        return sum(
            any(value is not None for value in way)
            for way in ((self.near, self.far), (self.depth_scale, self.depth_shift), (self.known,))
        )

    def check(self) -> None:
        """Refuse flags that contradict each other, before anything is made.

        Raises:
            UserError: two ways to state the scale, half of one, or a range that is none.
        """
        if self.stated > 1:
            raise UserError(
                "the scale is stated twice", "give --near and --far, or --depth-scale and --depth-shift, or --known"
            )
        if (self.depth_scale is None) != (self.depth_shift is None):
            raise UserError("--depth-scale and --depth-shift belong together", "give both")
        if self.known is None and self.stated:
            self._stated()

    def scale(self, disparity: NDArray[np.float32]) -> DepthScale:
        """What disparity (H, W) means by these flags.

        Raises:
            UserError: what `check` refuses, and known distances that do not fit the picture.
        """
        if self.known is None:
            return self._stated()
        from jointnet_cli.scene.scene import DepthScale, read_known

        return DepthScale.fit(disparity, read_known(self.known))

    def _stated(self) -> DepthScale:
        from jointnet_cli.scene.scene import FAR, NEAR, DepthScale

        if self.depth_scale is not None and self.depth_shift is not None:
            return DepthScale.from_scale(self.depth_scale, self.depth_shift)
        origin = "assumed" if self.near is None and self.far is None else "given"
        near, far = NEAR if self.near is None else self.near, FAR if self.far is None else self.far
        return DepthScale.from_range(near, far, origin)


@dataclass(frozen=True)
class SceneOptions(ScaleOptions):
    """What is made of a picture with depth, beside its own files."""

    mesh: Annotated[
        list[MeshFormat] | None,
        option("--mesh", panel=SCENE_PANEL, help="Textured surface, or points; repeatable.", show_default=False),
    ] = None
    viewer: Annotated[
        bool | None,
        option(
            "--viewer/--no-viewer",
            panel=SCENE_PANEL,
            help="One HTML file to look around in, without a network.",
            show_default="panoramas have it",
        ),
    ] = None
    stereo: Annotated[
        list[StereoLayout] | None,
        option(
            "--stereo",
            panel=SCENE_PANEL,
            help="Side by side, half-sphere for headsets, or top-bottom sphere; repeatable.",
            show_default=False,
        ),
    ] = None
    orbit: Annotated[
        str | None,
        option(
            "--orbit",
            panel=SCENE_PANEL,
            metavar="NAME.mp4",
            help="A short camera path as a clip; the result's name comes before NAME.",
            show_default=False,
        ),
    ] = None
    layers: Layers = True
    sharpen: Annotated[
        bool,
        option(
            "--sharpen/--no-sharpen",
            panel=SCENE_PANEL,
            help="Make steps of blurred edges of depth, in the scene alone: the depth files stay as they are.",
        ),
    ] = False
    skirt: Annotated[
        bool, option("--skirt/--no-skirt", panel=SCENE_PANEL, help="Close the mesh by walls, so that it is watertight.")
    ] = False
    max_triangles: Annotated[
        int, option("--max-triangles", panel=SCENE_PANEL, min=100, metavar="N", help="Simplify the mesh to so many.")
    ] = MAX_TRIANGLES

    def refuse_unused(self, products: Collection[Products]) -> None:
        """Refuse flags that nothing of what is wanted takes account of.

        Raises:
            UserError: a scale, layers, edges or a number of triangles for a scene or mesh that nobody asked for.
        """
        unused: tuple[str, ...]
        of_scenes = ("near", "far", "depth_scale", "depth_shift", "known", "layers", "sharpen")
        of_meshes = ("skirt", "max_triangles")
        if not any(wanted.files("") for wanted in products):
            unused, hint = of_scenes + of_meshes, "add --viewer, --mesh, --stereo or --orbit, or leave it out"
        elif not any(set(wanted.mesh) - {MeshFormat.POINTS} for wanted in products):
            unused, hint = of_meshes, "add --mesh glb, ply or obj, or leave it out"
        else:
            return
        defaults = {field.name: field.default for field in fields(self)}
        for name in unused:
            if getattr(self, name) != defaults[name]:
                thing = "no mesh" if name in of_meshes else "no scene"
                flag = "--no-layers" if name == "layers" else f"--{name.replace('_', '-')}"
                raise UserError(f"{flag} has no effect: {thing} is made", hint)

    def products(self, *, panorama: bool) -> Products:
        """What is wanted; a panorama has a GLB and a page to look around in unless flags say otherwise.

        Raises:
            UserError: contradicting flags, or a clip's name that is none.
        """
        self.check()
        if self.orbit is not None and (not self.orbit.endswith(".mp4") or "/" in self.orbit):
            raise UserError(
                f"--orbit {self.orbit} is no name of a clip", "give a name such as clip.mp4, without a folder"
            )
        mesh = tuple(dict.fromkeys(self.mesh or ((MeshFormat.GLB,) if panorama else ())))
        return Products(
            mesh=mesh,
            viewer=panorama if self.viewer is None else self.viewer,
            stereo=tuple(dict.fromkeys(self.stereo or ())),
            orbit=self.orbit,
            skirt=self.skirt,
            max_triangles=self.max_triangles,
            layers=self.layers,
        )


@dataclass(frozen=True)
class ViewedSceneOptions(SceneOptions):
    """The same for pictures that are there already: no model is opened unless it is to paint."""

    depth_scale: Annotated[
        float | None,
        option(
            "--scale",
            "--depth-scale",
            panel=SCENE_PANEL,
            metavar="PER_METRE",
            help="With --shift, in place of --near and --far: 1 / distance = scale * disparity + shift.",
            show_default=False,
        ),
    ] = None
    depth_shift: Annotated[
        float | None,
        option(
            "--shift",
            "--depth-shift",
            panel=SCENE_PANEL,
            metavar="PER_METRE",
            help="See --scale.",
            show_default=False,
        ),
    ] = None
    layers: Layers = False
