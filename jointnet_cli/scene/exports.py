"""What is made of a scene: meshes, points, a page to look around in, stereo pictures and a clip."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jointnet_cli.scene.simplify import MAX_TRIANGLES

if TYPE_CHECKING:
    from trimesh import Scene as Meshes

    from jointnet_cli.scene.scene import Scene


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


def writers(
    scene: Callable[[], Scene], wanted: Products, title: str, record: Mapping[str, Any] | None
) -> dict[str, Callable[[Path], object]]:
    """How each file that `Products.files` may name is written; `record` goes into those that can hold it."""

    @cache
    def mesh() -> Meshes:
        from jointnet_cli.scene.mesh import scene_mesh

        return scene_mesh(scene(), skirt=wanted.skirt, max_triangles=wanted.max_triangles)

    def glb(path: Path) -> None:
        from jointnet_cli.scene.mesh_files import write_glb

        write_glb(path, mesh(), record)

    def ply(path: Path) -> None:
        from jointnet_cli.scene.mesh_files import write_ply

        write_ply(path, mesh())

    def obj(path: Path) -> None:
        from jointnet_cli.scene.mesh_files import write_obj

        write_obj(path, mesh())

    def points(path: Path) -> None:
        from jointnet_cli.scene.mesh_files import write_points

        write_points(path, scene())

    def stereo(path: Path, layout: StereoLayout) -> None:
        from jointnet_cli.scene.stereo import write_stereo

        write_stereo(path, scene(), layout.value, record=record)

    def viewer(path: Path) -> None:
        from jointnet_cli.scene.viewer.page import write_viewer

        write_viewer(path, scene(), title=title, record=record)

    def orbit(path: Path) -> None:
        from jointnet_cli.scene.orbit import write_orbit

        write_orbit(path, scene())

    return {
        "mesh": glb,
        "mesh_ply": ply,
        "mesh_obj": obj,
        "points": points,
        **{f"stereo_{layout.value}": partial(stereo, layout=layout) for layout in StereoLayout},
        "viewer": viewer,
        "orbit": orbit,
    }
