"""What is made of a scene: meshes, points, a page to look around in, stereo pictures and a clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jointnet_cli.progress import timed

if TYPE_CHECKING:
    from trimesh import Scene as Meshes

    from jointnet_cli.scene.scene import Scene


MAX_TRIANGLES = 1_200_000


class MeshFormat(StrEnum):
    """Files of the surface, and of its points."""

    GLB = "glb"
    PLY = "ply"
    OBJ = "obj"
    POINTS = "points"


class StereoLayout(StrEnum):
    """How the views of two eyes share a picture."""

    SBS = "sbs"
    VR180 = "vr180"
    TB360 = "tb360"


_SUFFIXES = {
    "glb": ("mesh", "mesh.glb"),
    "ply": ("mesh_ply", "mesh.ply"),
    "obj": ("mesh_obj", "mesh.obj"),
    "points": ("points", "points.ply"),
    "sbs": ("stereo_sbs", "sbs.png"),
    "vr180": ("stereo_vr180", "180_LR.jpg"),
    "tb360": ("stereo_tb360", "360_TB.jpg"),
}
"""Key and end of the name of each file; players of VR pictures go by `180_LR` and `360_TB`."""


@dataclass(frozen=True)
class Products:
    """What is wanted of a scene."""

    mesh: tuple[MeshFormat, ...] = ()
    viewer: bool = False
    stereo: tuple[StereoLayout, ...] = ()
    orbit: str | None = None
    """End of the clip's name, such as `clip.mp4`."""
    skirt: bool = False
    """Whether walls make the mesh watertight."""
    max_triangles: int = MAX_TRIANGLES
    layers: bool = True
    """Whether what the picture hides is painted by the model."""

    def files(self, stem: str) -> dict[str, str]:
        """The names by key, in the order in which they are written."""
        ends = dict(_SUFFIXES[name] for name in (*self.mesh, *self.stereo))
        if self.viewer:
            ends["viewer"] = "view.html"
        if self.orbit:
            ends["orbit"] = self.orbit
        return {key: f"{stem}.{end}" for key, end in ends.items()}


def write_exports(
    scene: Scene,
    files: Mapping[str, Path],
    wanted: Products,
    *,
    title: str,
    record: Mapping[str, Any] | None = None,
    timings: dict[str, float] | None = None,
) -> None:
    """Write the files that `Products.files` names, by key; `record` goes into those that can hold it.

    `timings` gains the seconds of the phases `mesh`, `viewer` and `files`.
    """
    timings = {} if timings is None else timings
    mesh = None
    if files.keys() & {"mesh", "mesh_ply", "mesh_obj"}:
        from jointnet_cli.scene.mesh import scene_mesh

        with timed(timings, "mesh"):
            mesh = scene_mesh(scene, skirt=wanted.skirt, max_triangles=wanted.max_triangles)
    for key, path in files.items():
        with timed(timings, "viewer" if key == "viewer" else "files"):
            _write(key, path, scene, mesh, title, record)


def _write(
    key: str, path: Path, scene: Scene, mesh: Meshes | None, title: str, record: Mapping[str, Any] | None
) -> None:
    if mesh is not None and key.startswith("mesh"):
        from jointnet_cli.scene.mesh_files import write_glb, write_obj, write_ply

        if key == "mesh":
            write_glb(path, mesh, record)
        elif key == "mesh_ply":
            write_ply(path, mesh)
        else:
            write_obj(path, mesh)
    elif key == "points":
        from jointnet_cli.scene.mesh_files import write_points

        write_points(path, scene)
    elif key == "viewer":
        from jointnet_cli.scene.viewer.page import write_viewer

        write_viewer(path, scene, title=title, record=record)
    elif key == "orbit":
        from jointnet_cli.scene.orbit import write_orbit

        write_orbit(path, scene)
    else:
        from jointnet_cli.scene.stereo import write_stereo

        write_stereo(path, scene, key.removeprefix("stereo_"), record=record)
