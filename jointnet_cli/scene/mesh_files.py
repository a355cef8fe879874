"""Meshes and points as files that other programs open."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.files.atomic import atomic_file, write_text
from jointnet_cli.files.text import finite
from jointnet_cli.scene.cameras import rays
from jointnet_cli.scene.scene import Scene

if TYPE_CHECKING:
    from trimesh import Scene as Meshes
    from trimesh import Trimesh

_REPEAT, _CLAMP_TO_EDGE = 10497, 33071  # glTF's constants

_ROWS = 1 << 14
"""Lines of text that are put together at once."""


def write_glb(path: Path, mesh: Meshes, record: Mapping[str, Any] | None = None) -> None:
    """Write surfaces as binary glTF, unlit as the light is in the image; `record` goes into the scene's `extras`."""
    from trimesh.exchange.gltf import export_glb

    finish = partial(_as_in_image, bool(mesh.metadata.get("wrap")), record)
    with atomic_file(path) as temporary:
        temporary.write_bytes(export_glb(mesh, include_normals=False, tree_postprocessor=finish))


def _as_in_image(wrap: bool, record: Mapping[str, Any] | None, tree: dict[str, Any]) -> None:
    """Show the texture's own colours, and keep its edges from bleeding into each other where they do not meet."""
    tree["extensionsUsed"] = [*tree.get("extensionsUsed", []), "KHR_materials_unlit"]
    for material in tree.get("materials", []):
        material["extensions"] = {"KHR_materials_unlit": {}}
    tree["samplers"] = [{"wrapS": _REPEAT if wrap else _CLAMP_TO_EDGE, "wrapT": _CLAMP_TO_EDGE}]
    for texture in tree.get("textures", []):
        texture["sampler"] = 0
    if record is not None:
        tree["scenes"][0].setdefault("extras", {})["jointnet"] = finite(record)


def write_ply(path: Path, mesh: Meshes) -> None:
    """Write all surfaces as one binary PLY mesh with the texture's colour at each vertex."""
    parts = list(mesh.geometry.values())
    points = np.concatenate([part.vertices for part in parts])
    starts = np.cumsum([0, *(len(part.vertices) for part in parts[:-1])])
    faces = np.empty(sum(len(part.faces) for part in parts), [("count", "u1"), ("vertices", "<i4", 3)])
    faces["count"] = 3
    faces["vertices"] = np.concatenate([part.faces + start for part, start in zip(parts, starts, strict=True)])
    vertices = _coloured(points, np.concatenate([_vertex_colours(part) for part in parts]))
    _write_ply(path, vertices, faces)


def write_points(path: Path, scene: Scene) -> None:
    """Write a binary PLY of points, one for every pixel that shows no sky, of both layers."""
    layers = [scene.front] + ([scene.behind] if scene.behind else [])
    directions = rays(scene.projection, *scene.front.distance.shape)
    points, colours = [], []
    for layer in layers:
        seen = np.isfinite(layer.distance)
        if layer.shown is not None:
            seen &= layer.shown
        points.append(directions[seen] * layer.distance[seen][:, None])
        colours.append(np.rint(layer.image[seen].clip(0, 1) * 255).astype(np.uint8))
    _write_ply(path, _coloured(np.concatenate(points), np.concatenate(colours)))


def write_obj(path: Path, mesh: Meshes) -> list[Path]:
    """Write surfaces as Wavefront OBJ, with their materials and textures beside it; the OBJ comes last.

    Returns:
        All files: a `<stem>.<geometry>.png` for each texture, `<stem>.mtl` and `path`. Each appears whole or not at all.
    """
    materials = {part.visual.material.name: part.visual.material for part in mesh.geometry.values()}
    pictures = {name: path.with_name(f"{path.stem}.{name}.png") for name in materials}
    library = path.with_suffix(".mtl")
    for name, picture in pictures.items():
        with atomic_file(picture) as temporary:
            materials[name].baseColorTexture.save(temporary)
    lines = [f"newmtl {name}\nKd 1 1 1\nillum 0\nmap_Kd {picture.name}\n" for name, picture in pictures.items()]
    write_text(library, "\n".join(lines))
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write(f"mtllib {library.name}\n")
        before = 1
        for name, part in mesh.geometry.items():
            file.write(f"o {name}\nusemtl {part.visual.material.name}\n")
            _write_rows(file, "v %.7g %.7g %.7g\n", part.vertices)
            _write_rows(file, "vt %.7g %.7g\n", part.visual.uv)
            _write_rows(file, "f %d/%d %d/%d %d/%d\n", np.repeat(part.faces + before, 2, axis=1))
            before += len(part.vertices)
    return [*pictures.values(), library, path]


def _write_rows(file: TextIO, form: str, rows: NDArray[Any]) -> None:
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        file.write(form * len(part) % tuple(part.ravel().tolist()))


def _vertex_colours(part: Trimesh) -> NDArray[np.uint8]:
    """Return (V, 3) the texture's pixel at each vertex."""
    picture = np.asarray(part.visual.material.baseColorTexture.convert("RGB"))
    height, width = picture.shape[:2]
    u, v = np.asarray(part.visual.uv).T
    columns = (u * width).astype(int)
    columns = columns % width if u.max(initial=0) > 1 else columns.clip(0, width - 1)
    return np.asarray(picture[((1 - v) * height).astype(int).clip(0, height - 1), columns])


def _coloured(points: NDArray[np.floating], colours: NDArray[np.uint8]) -> NDArray[np.void]:
    """Return vertices of a PLY."""
    vertices = np.empty(
        len(points), [*((axis, "<f4") for axis in "xyz"), *((c, "u1") for c in ("red", "green", "blue"))]
    )
    for values, names in ((points, "xyz"), (colours, ("red", "green", "blue"))):
        for index, name in enumerate(names):
            vertices[name] = values[:, index]
    return vertices


def _write_ply(path: Path, vertices: NDArray[np.void], faces: NDArray[np.void] | None = None) -> None:
    kinds = {"x": "float", "y": "float", "z": "float", "red": "uchar", "green": "uchar", "blue": "uchar"}
    header = ["ply", "format binary_little_endian 1.0", "comment metres; x right, y up, -z forward"]
    header += [f"element vertex {len(vertices)}", *(f"property {kind} {name}" for name, kind in kinds.items())]
    if faces is not None:
        header += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        file.write("\n".join([*header, "end_header\n"]).encode())
        file.write(vertices.tobytes())  # `tofile` does not say that the disk is full
        if faces is not None:
            file.write(faces.tobytes())
