"""Triangle meshes of a scene: front, background, sky and skirt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.scene.cameras import points_of
from jointnet_cli.scene.layers import CUT, dilate, fill_smoothly, grow_ring
from jointnet_cli.scene.scene import Layer, Scene
from jointnet_cli.scene.simplify import GridMesh, corners, directed_edges, stride, triangulate
from jointnet_cli.signals import defer_signals

if TYPE_CHECKING:
    from trimesh import Scene as Meshes
    from trimesh import Trimesh
    from trimesh.visual.material import PBRMaterial

_BACK, _DOME = 1.05, 1.1
"""Where the back of a skirt and the sky are, in units of the farthest distance."""


def scene_mesh(scene: Scene, *, max_triangles: int, cut: float = CUT, watertight: bool = False) -> Meshes:
    """Return the surfaces of a scene around the viewer: metres, x right, y up, -z forward, faces to the viewer.

    Its geometries, those without a triangle left out, have `max_triangles` together at most:

    - `front`: what the image shows but the sky, cut where distances jump by more than the factor `cut`;
    - `behind`: what the second layer shows, with pixels around it where the front ends, so that no crack shows;
    - `sky`: see `sky_dome`;
    - `skirt`, if `watertight`: walls from all edges of the front to a back beyond it. Front and skirt, their vertices merged
      by position, are watertight.

    A vertex is a pixel, or what simplification makes of several (`triangulate`). Each geometry has one texture of the image's
    size; u goes on beyond 1 where a ring closes.
    """
    with defer_signals():  # trimesh takes an exception of any kind in its imports for a missing package
        import trimesh

    front, projection = scene.front, scene.projection
    finest = stride(front.distance, max_triangles)
    behind = None if scene.behind is None else _joined(front, scene.behind, cut, finest, projection.wrap)
    farthest = max(scene.scale.far, *(_farthest(layer) for layer in (front, behind) if layer))
    dome = sky_dome(scene, farthest * _DOME, max(12, max_triangles // 8))

    left = max_triangles - (len(dome.faces) if dome else 0)
    share = int(left * _pixels(front) / max(1, _pixels(front) + (_pixels(behind) if behind else 0)))
    make = partial(triangulate, front.distance, projection, cut)
    material = _material("front", front.image)
    parts: dict[str, Trimesh] = {}
    if watertight:
        sheet, walls = with_skirt(make, farthest * _BACK, share)
        parts |= {"front": _textured(sheet, material), "skirt": _textured(walls, material)}
    else:
        parts["front"] = _textured(make(share), material)
    if behind:
        sheet = triangulate(behind.distance, projection, cut, left - share)
        parts["behind"] = _textured(sheet, _material("behind", behind.image))
    if dome:
        parts["sky"] = _trimesh(dome.points, dome.faces, dome.uv, _material("sky", dome.image))
    made = trimesh.Scene(metadata=_facts(scene))
    for name in ("front", "behind", "sky", "skirt"):
        if name in parts and len(parts[name].faces):
            made.add_geometry(parts[name], node_name=name, geom_name=name)
    return made


def _joined(front: Layer, behind: Layer, cut: float, ring: int, wrap: bool) -> Layer:
    """Return the second layer where it is shown and around it, infinity elsewhere; plain where its texture is unused."""
    shown = np.ones(front.distance.shape, bool) if behind.shown is None else behind.shown
    distance = np.where(shown, behind.distance, front.distance)
    there = grow_ring(distance, shown, cut, ring, wrap=wrap)
    near = dilate(there, ring, wrap=wrap)[..., None]
    image = np.where(shown[..., None], behind.image, front.image)
    return Layer(np.where(near, image, image.mean(axis=(0, 1))), np.where(there, distance, np.float32(np.inf)))


def _farthest(layer: Layer) -> float:
    return float(layer.distance[np.isfinite(layer.distance)].max(initial=0))


def _pixels(layer: Layer) -> int:
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


def _textured(sheet: GridMesh, material: PBRMaterial) -> Trimesh:
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


_FADE = 16
"""Rows above and below the image of a ring in which its edges fade to their mean colour, at the zenith and the nadir."""

_ACROSS = 128
"""Columns at most: its flat pieces then bend the image by two millionths of a radian."""

_DOWN = 32
"""Rows at most: one is exact, but where vertices have colours and no texture more show more."""


@dataclass(frozen=True)
class Dome:
    """Triangles with a texture."""

    points: NDArray[np.float32]
    """(V, 3) metres."""
    uv: NDArray[np.float64]
    """(V, 2), the origin at the bottom left corner of the texture."""
    faces: NDArray[np.int32]
    """(F, 3) vertices, counter-clockwise as the viewer sees them."""
    image: NDArray[np.float32]
    """(H', W, 3) sRGB in [0, 1]."""


def sky_dome(scene: Scene, distance: float, limit: int) -> Dome | None:
    """Return the sky of both layers at a distance; `None` for an open image in which there is none.

    Behind everything else it goes on smoothly. That of a ring is closed above and below; without sky it shows the image
    itself, which is what cracks in its surfaces are best filled with.

    Args:
        scene: what is seen.
        distance: metres, as the projection counts them.
        limit: triangles, at least 12.
    """
    wrap, (height, width) = scene.projection.wrap, scene.front.distance.shape
    image, sky = _sky(scene)
    if not sky.any():
        if not wrap:
            return None
        sky[:] = True
    image = fill_smoothly(image, sky, wrap=wrap)
    across = max(3, min(_ACROSS, width, int((limit * width / height / 2) ** 0.5)))
    down = max(1, min(_DOWN, across * height // width, limit // (2 * across) - 1))
    columns, rows = np.linspace(-0.5, width - 0.5, across + 1), np.linspace(-0.5, height - 0.5, down + 1)
    margin, axis = 0, np.ones(len(rows))  # `axis`: how far from the vertical axis a row lies, 0 at the poles
    if wrap:
        margin, image = _FADE, _faded(image)
        rows, axis = np.pad(rows, 1, mode="edge"), np.pad(axis, 1)
    column, row = np.meshgrid(columns, rows)
    points = points_of(column, row, np.full(row.shape, distance), scene.projection, (height, width))
    points[..., [0, 2]] *= axis[:, None, None]
    below = rows + margin + 0.5
    if wrap:
        below[0], below[-1] = 0, height + 2 * margin
    u, v = np.meshgrid((columns + 0.5) / width, 1 - below / (height + 2 * margin))
    return Dome(
        points.reshape(-1, 3).astype(np.float32),
        np.stack([u, v], axis=-1).reshape(-1, 2),
        _quads(len(rows), len(columns), poles=wrap),
        image,
    )


def _sky(scene: Scene) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the colors (H, W, 3) of the image, of the second layer where that is sky, and the mask (H, W) of the sky."""
    front, behind = scene.front, scene.behind
    sky = np.isinf(front.distance)
    if behind is None:
        return front.image, sky
    hidden = np.isinf(behind.distance) & ~sky
    if behind.shown is not None:
        hidden &= behind.shown
    return np.where(hidden[..., None], behind.image, front.image), sky | hidden


def _faded(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return an image with rows above and below that fade from its own edge to the edge's mean colour."""
    part = (np.arange(_FADE, dtype=np.float32)[:, None, None] + 1) / _FADE
    above, below = (edge + part * (edge.mean(axis=0) - edge) for edge in (image[0], image[-1]))
    return np.concatenate([above[::-1], image, below])


def _quads(rows: int, columns: int, *, poles: bool) -> NDArray[np.int32]:
    """Return two triangles for each quad of a grid; one where its first or last row is a pole."""
    index = np.arange(rows * columns, dtype=np.int32).reshape(rows, columns)
    top_left, top_right, bottom_left, bottom_right = corners(index)
    lower, upper = (
        np.stack([top_left, bottom_left, bottom_right], -1),
        np.stack([top_left, bottom_right, top_right], -1),
    )
    if poles:
        lower, upper = lower[:-1], upper[1:]
    return np.concatenate([lower.reshape(-1, 3), upper.reshape(-1, 3)])


_APART = 1e-4
"""How far pieces that touch in one vertex are moved apart, in units of its distance: their walls would share an edge there."""


def with_skirt(front: Callable[[int], GridMesh], back: float, limit: int) -> tuple[GridMesh, GridMesh]:
    """Return a surface and its skirt: walls from all its edges to a back beyond it, of `limit` triangles together.

    Args:
        front: makes the surface of at most so many triangles.
        back: metres.
        limit: triangles, at least 16.
    """
    allowed = limit // 2
    while True:
        sheet, piece = _split_touching(front(allowed))
        walls = _skirt(sheet, back * (1 + _APART * piece))
        count = len(sheet.faces) + len(walls.faces)
        if count <= limit:
            return sheet, walls
        allowed = int(0.95 * allowed * limit / count)


def _skirt(sheet: GridMesh, back: NDArray[Any]) -> GridMesh:
    """Return the surface once more at its back, seen from behind, and two triangles from each edge to there."""
    count = len(sheet.column)
    start, end = _border(sheet)
    walls = [np.stack([start, start + count, end], axis=1), np.stack([end, start + count, end + count], axis=1)]
    return replace(
        sheet,
        column=np.tile(sheet.column, 2),
        row=np.tile(sheet.row, 2),
        distance=np.concatenate([sheet.distance, back]),
        faces=np.concatenate([sheet.faces[:, ::-1] + count, *walls]).astype(np.int32),
    )


def _border(sheet: GridMesh) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """From and to of the edges that one triangle has alone, in its direction."""
    count = len(sheet.column)
    start, end = np.divmod(directed_edges(sheet.faces, count), max(count, 1))
    alone = ~np.isin(start * count + end, end * count + start)
    return start[alone], end[alone]


def _split_touching(sheet: GridMesh) -> tuple[GridMesh, NDArray[np.int64]]:
    """Split vertices in which pieces touch alone; return the mesh and the pieces' numbers (V,), from 0."""
    count = len(sheet.column)
    touched = np.bincount(_border(sheet)[0], minlength=count) > 1
    corners = np.flatnonzero(touched[sheet.faces.ravel()])
    around: dict[int, dict[int, tuple[int, int]]] = {}
    for corner in corners.tolist():
        face, place = divmod(corner, 3)
        vertex, after, before = (int(sheet.faces[face, (place + step) % 3]) for step in range(3))
        around.setdefault(vertex, {})[after] = before, corner
    faces, vertices, pieces = sheet.faces.copy(), list(range(count)), [0] * count
    for vertex, fans in around.items():
        inner = {before for before, _ in fans.values()}
        for piece, first in enumerate(after for after in fans if after not in inner):
            if piece == 0:
                continue
            while first in fans:
                first, corner = fans[first]
                faces.flat[corner] = len(vertices)
            vertices.append(vertex)
            pieces.append(piece)
    number = np.array(pieces)
    parted = replace(
        sheet,
        column=sheet.column[vertices],
        row=sheet.row[vertices],
        distance=sheet.distance[vertices] * (1 + _APART * number),
        faces=faces,
    )
    return parted, number
