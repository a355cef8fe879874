"""A textured surface from an image and its disparity."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.output.atomic import atomic_path
from jointnet_cli.tasks import Projection

if TYPE_CHECKING:
    from trimesh import Trimesh

_CLAMP_TO_EDGE = 33071  # glTF's constant


def distance_from_disparity(disparity: NDArray[np.float32], near: float, far: float) -> NDArray[np.float64]:
    """Metres of relative disparity in [0, 1] if 1 is taken to lie at `near` and 0 at `far`; linear in 1 / distance."""
    return 1 / (np.asarray(disparity, np.float64) * (1 / near - 1 / far) + 1 / far)


def rgbd_mesh(
    image: NDArray[np.float32],
    disparity: NDArray[np.float32],
    projection: Projection,
    *,
    near: float = 1.0,
    far: float = 30.0,
    cut: float = 1.3,
    max_vertices: int = 600_000,
) -> Trimesh:
    """The surface seen from the origin: a vertex a pixel, in metres, x right, y up, -z forward, faces to the viewer.

    `image` is (H, W, 3) sRGB in [0, 1], `disparity` (H, W) in [0, 1] with near = 1. Its scale and shift are unknown, so
    `near` and `far` are an assumption that shapes the scene; what has disparity 0, such as sky, is a dome at `far`.
    A triangle is left out if its farthest corner is more than `cut` times as distant as its nearest, for it would span
    the gap between an object and what lies behind it; 1.3 lets a disparity noise of 0.01 pass in the dome. A panorama
    that wraps is closed: column 0 is there twice, at the same position, with its own texture column. Above
    `max_vertices` pixels are left out evenly. Vertices lie in rows, as pixels do, whether a triangle uses them or not.
    Raises ValueError if the sizes differ.
    """
    import trimesh
    from PIL import Image

    if image.shape[:2] != disparity.shape:
        raise ValueError(f"the image is {image.shape[:2]} and the disparity {disparity.shape}")
    height, width = disparity.shape
    shrink = min(1.0, (max_vertices / (height * width)) ** 0.5)
    rows = _spread(height - 1, max(2, int(height * shrink)))
    if projection.wrap:
        columns = _spread(width, max(3, int(width * shrink)) + 1)
        image = np.concatenate([image, image[:, :1]], axis=1)
    else:
        columns = _spread(width - 1, max(2, int(width * shrink)))

    pixels = np.ix_(rows, columns % width)
    distance = distance_from_disparity(disparity[pixels], near, far)
    points = distance[..., None] * _rays(projection, height, width)[pixels]
    uv = np.stack(np.meshgrid((columns + 0.5) / image.shape[1], 1 - (rows + 0.5) / height), axis=-1)

    texture = Image.fromarray(np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8))
    material = trimesh.visual.material.PBRMaterial(
        baseColorTexture=texture, metallicFactor=0.0, roughnessFactor=1.0, doubleSided=False
    )
    return trimesh.Trimesh(
        vertices=points.reshape(-1, 3),
        faces=_triangles(distance, cut),
        visual=trimesh.visual.TextureVisuals(uv=uv.reshape(-1, 2), material=material),
        metadata={"units": "metres", "near": near, "far": far},
        process=False,
    )


def write_glb(path: Path, mesh: Trimesh, record: Mapping[str, Any] | None = None) -> None:
    """Write a mesh as binary glTF, unlit as the light is in the picture; `record` goes into the mesh's `extras`."""
    from trimesh.exchange.gltf import export_glb

    mesh = mesh.copy()
    if record is not None:
        mesh.metadata["jointnet"] = dict(record)
    with atomic_path(path) as temporary:
        temporary.write_bytes(export_glb(mesh, include_normals=False, tree_postprocessor=_as_picture))


def _as_picture(tree: dict[str, Any]) -> None:
    """Show the texture's own colours, and keep opposite edges from bleeding into each other."""
    tree["extensionsUsed"] = [*tree.get("extensionsUsed", []), "KHR_materials_unlit"]
    for material in tree["materials"]:
        material["extensions"] = {"KHR_materials_unlit": {}}
    tree["samplers"] = [{"wrapS": _CLAMP_TO_EDGE, "wrapT": _CLAMP_TO_EDGE}]
    for texture in tree["textures"]:
        texture["sampler"] = 0


def _spread(last: int, count: int) -> NDArray[np.int64]:
    """`count` whole numbers from 0 to `last`, both included, as even as can be."""
    return np.rint(np.linspace(0, last, count)).astype(np.int64)


def _rays(projection: Projection, height: int, width: int) -> NDArray[np.float64]:
    """(H, W, 3) direction of each pixel's centre, of length 1 from the axis (cylindrical) or along -z (perspective)."""
    x = np.arange(width) + 0.5 - width / 2
    y = height / 2 - np.arange(height) - 0.5
    span = np.radians(projection.span)
    if projection.kind == "cylindrical":
        focal = width / span
        across, forward = np.sin(x / focal), np.cos(x / focal)
    else:
        focal = width / (2 * np.tan(span / 2))
        across, forward = x / focal, np.ones(width)
    rays = np.empty((height, width, 3))
    rays[..., 0] = across
    rays[..., 1] = y[:, None] / focal
    rays[..., 2] = -forward
    return rays


def _triangles(distance: NDArray[np.float64], cut: float) -> NDArray[np.int64]:
    """(F, 3) vertex indices, two triangles a quad, counter-clockwise as the viewer sees them, without those that jump.

    Each quad is split along the diagonal whose ends are nearer in depth, so that an edge loses one triangle, not both.
    """
    logarithm = np.log(distance).ravel()
    index = np.arange(distance.size).reshape(distance.shape)
    top_left, top_right, bottom_left, bottom_right = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    falling = np.abs(logarithm[top_left] - logarithm[bottom_right])
    rising = np.abs(logarithm[top_right] - logarithm[bottom_left])
    is_falling = falling < rising
    corners = np.stack(
        [
            np.stack([top_left, bottom_left, np.where(is_falling, bottom_right, top_right)], axis=-1),
            np.stack([np.where(is_falling, top_left, bottom_left), bottom_right, top_right], axis=-1),
        ],
        axis=-2,
    ).reshape(-1, 3)
    return corners[np.ptp(logarithm[corners], axis=1) <= np.log(cut)]
