"""Exports of a scene: meshes, points, the interactive viewer, stereo images and a clip."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from jointnet_cli.errors import UserError
from jointnet_cli.params import SCENE_PANEL, Param, params
from jointnet_cli.progress import Timer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from trimesh import Scene as Meshes

    from jointnet_cli.scene.scene import DepthScale, Scene


class MeshFormat(StrEnum):
    """Formats of the surface, and of its points."""

    GLB = "glb"
    PLY = "ply"
    OBJ = "obj"
    POINTS = "points"


class StereoLayout(StrEnum):
    """Layouts of stereo images."""

    SBS = "sbs"
    VR180 = "vr180"
    TB360 = "tb360"


class Export(NamedTuple):
    """A file made from a scene."""

    value: str | None
    """The value of `--mesh` or `--stereo` that asks for it; the others have flags of their own."""
    ending: str
    """How the file's name ends. Players of VR images go by `180_LR` and `360_TB`."""
    beside: tuple[str, ...] = ()
    """Suffixes of the files that may lie beside it, in the place of its own."""


EXPORTS = {
    "mesh": Export("glb", "mesh.glb"),
    "mesh_ply": Export("ply", "mesh.ply"),
    "mesh_obj": Export("obj", "mesh.obj", (".mtl", ".front.png", ".behind.png", ".sky.png")),
    "points": Export("points", "points.ply"),
    "stereo_sbs": Export("sbs", "sbs.png"),
    "stereo_vr180": Export("vr180", "180_LR.jpg"),
    "stereo_tb360": Export("tb360", "360_TB.jpg"),
    "viewer": Export(None, "view.html"),
    "orbit": Export(None, ".mp4"),
}
"""Every export by its key in records."""

MAX_TRIANGLES = 1_200_000

_Scene = partial(Param, panel=SCENE_PANEL)
_SCALE_FLAGS = ("near", "far", "depth_scale", "depth_shift", "known_distances")
_MESH_FLAGS = ("watertight", "max_triangles")

NEAR = _Scene("Distance of the nearest point (disparity 1).", "METRES", shown="1")
FAR = _Scene("Distance of the farthest point (disparity 0).", "METRES", shown="30")
DEPTH_SCALE = _Scene(
    "With --depth-shift, in place of --near and --far: 1 / distance = scale * disparity + shift.",
    "1/METRES",
    shown=False,
    former="--scale",
)
DEPTH_SHIFT = _Scene("See --depth-scale.", "1/METRES", shown=False, former="--shift")


@dataclass(frozen=True)
class ScaleOptions:
    """Scale of relative disparity in metres: distance = 1 / (scale * disparity + shift).

    Raises:
        UserError: two ways to state the scale, half of one, or a range without distances.
    """

    near: Annotated[float | None, NEAR] = None
    far: Annotated[float | None, FAR] = None
    depth_scale: Annotated[float | None, DEPTH_SCALE] = None
    depth_shift: Annotated[float | None, DEPTH_SHIFT] = None
    known_distances: Annotated[
        Path | None,
        _Scene(
            "Fit the scale to the distances in this file: a line `x,y,distance` (pixels, metres) per point.",
            "CSV",
            shown=False,
            former="--known",
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.stated > 1:
            raise UserError(
                "the scale is given twice",
                "give --near and --far, or --depth-scale and --depth-shift, or --known-distances",
            )
        if (self.depth_scale is None) != (self.depth_shift is None):
            raise UserError("--depth-scale and --depth-shift need each other", "pass both")
        if self.known_distances is None and self.stated:
            self._stated()

    @property
    def stated(self) -> int:
        """The number of ways in which the scale is stated."""
        return sum(
            any(value is not None for value in way)
            for way in ((self.near, self.far), (self.depth_scale, self.depth_shift), (self.known_distances,))
        )

    def scale(self, disparity: NDArray[np.float32]) -> DepthScale:
        """Return the scale of disparity (H, W).

        Raises:
            UserError: known distances that do not fit the image.
        """
        if self.known_distances is None:
            return self._stated()
        from jointnet_cli.scene.scene import DepthScale, read_known_distances

        return DepthScale.fit(disparity, read_known_distances(self.known_distances))

    def _stated(self) -> DepthScale:
        from jointnet_cli.scene.scene import FAR, NEAR, DepthScale

        if self.depth_scale is not None and self.depth_shift is not None:
            return DepthScale.from_scale(self.depth_scale, self.depth_shift)
        origin = "assumed" if self.near is None and self.far is None else "given"
        near, far = NEAR if self.near is None else self.near, FAR if self.far is None else self.far
        return DepthScale.from_range(near, far, origin)


@dataclass(frozen=True)
class SceneOptions(ScaleOptions):
    """Exports of an image with depth, beside its own files."""

    mesh: Annotated[
        list[MeshFormat] | None,
        _Scene("Textured surface, or points; repeatable.", shown=False),
    ] = None
    viewer: Annotated[
        bool | None,
        _Scene("Write an interactive viewer: one HTML file that needs no network.", shown="panoramas have it"),
    ] = None
    stereo: Annotated[
        list[StereoLayout] | None,
        _Scene("Side by side, half-sphere for headsets, or top-bottom sphere; repeatable.", shown=False),
    ] = None
    orbit: Annotated[
        str | None,
        _Scene("Clip along a short camera path; the result's name is put before NAME.", "NAME.mp4", shown=False),
    ] = None
    layers: Annotated[
        bool | None, _Scene("Let the model paint a second layer: the regions that the foreground hides.")
    ] = True
    """`None`, the default of `view`, takes the layer that a result has."""
    sharpen: Annotated[bool, _Scene("Sharpen blurred depth edges in the scene; the depth files stay as they are.")] = (
        False
    )
    watertight: Annotated[
        bool, _Scene("Close the mesh with side and back walls, as for 3D printing.", former="--skirt")
    ] = False
    max_triangles: Annotated[int, _Scene("Simplify the mesh to at most this many triangles.", "N", ge=100)] = (
        MAX_TRIANGLES
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.orbit is not None and (not self.orbit.endswith(".mp4") or "/" in self.orbit):
            raise UserError(f"--orbit must be a bare .mp4 file name, got {self.orbit}", "for example: --orbit clip.mp4")

    def of_result(self, *, panorama: bool) -> SceneOptions:
        """Return the options of one result: by default a panorama gets a GLB and the viewer."""
        viewer = panorama if self.viewer is None else self.viewer
        return replace(self, viewer=viewer, mesh=self.mesh or ([MeshFormat.GLB] if panorama else None))

    def files(self, stem: str) -> dict[str, str]:
        """Return the names of the exports by key, in the order in which they are written."""
        keys = {export.value: key for key, export in EXPORTS.items() if export.value}
        files = {keys[value]: EXPORTS[keys[value]].ending for value in (*(self.mesh or ()), *(self.stereo or ()))}
        if self.viewer:
            files["viewer"] = EXPORTS["viewer"].ending
        if self.orbit:
            files["orbit"] = self.orbit
        return {key: f"{stem}.{ending}" for key, ending in files.items()}

    def refuse_unused(self, results: Collection[SceneOptions]) -> None:
        """Refuse flags that have no effect on any result; `results` are what `of_result` returned.

        Raises:
            UserError: a scale, layers, edges or a number of triangles without a scene or a mesh.
        """
        if not any(result.files("") for result in results):
            unused: tuple[str, ...] = (*_SCALE_FLAGS, "layers", "sharpen", *_MESH_FLAGS)
            hint = "add --viewer, --mesh, --stereo or --orbit, or leave it out"
        elif not any(set(result.mesh or ()) - {MeshFormat.POINTS} for result in results):
            surfaces = [name.value for name in MeshFormat if name is not MeshFormat.POINTS]
            unused, hint = _MESH_FLAGS, f"add --mesh {', '.join(surfaces[:-1])} or {surfaces[-1]}, or leave it out"
        else:
            return
        for parameter in params(SceneOptions):
            if parameter.name in unused and getattr(self, parameter.name) != parameter.default:
                (flag,) = parameter.words(getattr(self, parameter.name))[:1]
                thing = "no mesh" if parameter.name in _MESH_FLAGS else "no scene"
                raise UserError(f"{flag} has no effect: {thing} is made", hint)


def with_companions(files: Mapping[str, Path]) -> list[Path]:
    """Return the exports and all files that may be written beside them, such as the textures of an OBJ."""
    beside = (path.with_suffix(suffix) for key, path in files.items() for suffix in EXPORTS[key].beside)
    return [*files.values(), *beside]


def write_exports(
    scene: Scene,
    files: Mapping[str, Path],
    wanted: SceneOptions,
    *,
    title: str,
    record: Mapping[str, Any] | None = None,
    timer: Timer | None = None,
) -> None:
    """Write the files that `SceneOptions.files` names, by key; `record` goes into those that can hold it.

    `timer` receives the phases `mesh`, `viewer`, `stereo`, `clip` and `files`.
    """
    timer = timer or Timer()
    mesh = None
    if any(key.startswith("mesh") for key in files):
        from jointnet_cli.scene.mesh import scene_mesh

        with timer.phase("mesh"):
            mesh = scene_mesh(scene, watertight=wanted.watertight, max_triangles=wanted.max_triangles)
    phases = {
        "viewer": "viewer",
        "orbit": "clip",
        **dict.fromkeys(("stereo_sbs", "stereo_vr180", "stereo_tb360"), "stereo"),
    }
    for key, path in files.items():
        with timer.phase(phases.get(key, "files")):
            _write(key, path, scene, mesh, title, record)


def _write(
    key: str, path: Path, scene: Scene, mesh: Meshes | None, title: str, record: Mapping[str, Any] | None
) -> None:
    from jointnet_cli.scene import mesh_files

    match key:
        case "mesh":
            mesh_files.write_glb(path, mesh, record)
        case "mesh_ply":
            mesh_files.write_ply(path, mesh)
        case "mesh_obj":
            mesh_files.write_obj(path, mesh)
        case "points":
            mesh_files.write_points(path, scene)
        case "viewer":
            from jointnet_cli.scene.viewer import page

            page.write_viewer(path, scene, title=title, record=record)
        case "orbit":
            from jointnet_cli.scene import orbit

            orbit.write_orbit(path, scene, record=record)
        case "stereo_sbs" | "stereo_vr180" | "stereo_tb360":
            from jointnet_cli.scene import stereo

            stereo.write_stereo(path, scene, key.removeprefix("stereo_"), record=record)
