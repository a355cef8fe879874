"""A scene as textured surfaces."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.output.dome import dome_of
from jointnet_cli.output.occlusion import CUT, ringed, widened
from jointnet_cli.output.products import MAX_TRIANGLES
from jointnet_cli.output.scene import Scene, Surface
from jointnet_cli.output.simplify import Sheet, sheet_of, stride
from jointnet_cli.output.skirt import closed

if TYPE_CHECKING:
    from trimesh import Scene as Meshes
    from trimesh import Trimesh
    from trimesh.visual.material import PBRMaterial

_BACK, _DOME = 1.05, 1.1
"""Where the back of a skirt and the sky are, in units of the farthest distance."""


def scene_mesh(scene: Scene, *, cut: float = CUT, skirt: bool = False, max_triangles: int = MAX_TRIANGLES) -> Meshes:
    """The surfaces of a scene around its viewer at the origin: metres, x right, y up, -z forward, faces to the viewer.

    Its geometries, those without a triangle left out, have `max_triangles` together at most:

    - `front`: what the picture shows but the sky, cut where distances jump by more than the factor `cut`;
    - `behind`: what the second layer shows, with pixels around it where the front ends, so that no crack shows;
    - `sky`: see `dome_of`;
    - `skirt`, if asked for: walls from all edges of the front to a back beyond it. Front and skirt, their vertices merged
      by position, are watertight.

    A vertex is a pixel, or what simplification makes of several (`sheet_of`). Each geometry has one texture of the picture's
    size; u goes on beyond 1 where a ring closes.
    """
    import trimesh

    front, projection = scene.front, scene.projection
    finest = stride(front.distance, max_triangles)
    behind = None if scene.behind is None else _joined(front, scene.behind, cut, finest, projection.wrap)
    farthest = max(scene.scale.far, *(_farthest(layer) for layer in (front, behind) if layer))
    dome = dome_of(scene, farthest * _DOME, max(12, max_triangles // 8))

    left = max_triangles - (len(dome.faces) if dome else 0)
    share = int(left * _pixels(front) / max(1, _pixels(front) + (_pixels(behind) if behind else 0)))
    make = partial(sheet_of, front.distance, projection, cut)
    material = _material("front", front.image)
    parts: dict[str, Trimesh] = {}
    if skirt:
        sheet, walls = closed(make, farthest * _BACK, share)
        parts |= {"front": _textured(sheet, material), "skirt": _textured(walls, material)}
    else:
        parts["front"] = _textured(make(share), material)
    if behind:
        sheet = sheet_of(behind.distance, projection, cut, left - share)
        parts["behind"] = _textured(sheet, _material("behind", behind.image))
    if dome:
        parts["sky"] = _trimesh(dome.points, dome.faces, dome.uv, _material("sky", dome.image))
    made = trimesh.Scene(metadata=_facts(scene))
    for name in ("front", "behind", "sky", "skirt"):
        if name in parts and len(parts[name].faces):
            made.add_geometry(parts[name], node_name=name, geom_name=name)
    return made


def _joined(front: Surface, behind: Surface, cut: float, ring: int, wrap: bool) -> Surface:
    """The second layer where it is shown and around it, at infinity elsewhere; plain where its texture is not used."""
    shown = np.ones(front.distance.shape, bool) if behind.shown is None else behind.shown
    distance = np.where(shown, behind.distance, front.distance)
    there = ringed(distance, shown, cut, ring, wrap=wrap)
    near = widened(there, ring, wrap=wrap)[..., None]
    image = np.where(shown[..., None], behind.image, front.image)
    return Surface(np.where(near, image, image.mean(axis=(0, 1))), np.where(there, distance, np.float32(np.inf)))


def _farthest(layer: Surface) -> float:
    return float(layer.distance[np.isfinite(layer.distance)].max(initial=0))


def _pixels(layer: Surface) -> int:
    return int(np.isfinite(layer.distance).sum())


def _facts(scene: Scene) -> dict[str, Any]:
    scale, view = scene.scale, scene.projection
    return {
        "units": "metres",
        "near": scale.near,
        "far": scale.far,
        "scale": scale.origin,
        "projection": view.kind,
        "span": view.span,
        "wrap": view.wrap,
    }


def _textured(sheet: Sheet, material: PBRMaterial) -> Trimesh:
    height, width = sheet.shape
    sheet = sheet.unrolled()
    uv = np.stack([(sheet.column + 0.5) / width, 1 - (sheet.row + 0.5) / height], axis=1)
    return _trimesh(sheet.points, sheet.faces, uv, material)


def _trimesh(
    points: NDArray[np.float32], faces: NDArray[np.int32], uv: NDArray[np.float64], material: PBRMaterial
) -> Trimesh:
    from trimesh import Trimesh
    from trimesh.visual import TextureVisuals

    return Trimesh(points, faces, visual=TextureVisuals(uv=uv, material=material), process=False)


def _material(name: str, image: NDArray[np.float32]) -> PBRMaterial:
    from PIL import Image
    from trimesh.visual.material import PBRMaterial

    picture = Image.fromarray(np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8))
    return PBRMaterial(name=name, baseColorTexture=picture, metallicFactor=0.0, roughnessFactor=1.0, doubleSided=False)
