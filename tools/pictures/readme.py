"""Make the pictures of the README from outputs of the commands: `python tools/pictures/readme.py OUTPUTS docs/images`.

OUTPUTS is the output folder of `jointnet panorama "ocean reef" --width 2048`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import trimesh
from numpy.typing import NDArray
from PIL import Image

from jointnet_cli.files.color import colorize
from jointnet_cli.files.images import read_disparity_png, read_image, write_png

VIEWS = (-60.0, 60.0)
"""Azimuths of the mesh views, degrees."""


def panorama_picture(image: NDArray[np.float32], disparity: NDArray[np.float32]) -> NDArray[np.float32]:
    """The panorama above its depth, coloured."""
    return np.concatenate([image, colorize(disparity)])


def mesh_view(
    path: Path, azimuth: float, eye: tuple[float, float, float], size: tuple[int, int]
) -> NDArray[np.float32]:
    """A perspective view of a GLB's vertices from beside its origin, painted from far to near.

    `azimuth` in degrees, `eye` in metres, `size` height and width in pixels; 70 degrees of field of view.
    """
    mesh = trimesh.load(path, process=False).geometry["front"]
    texture = np.asarray(mesh.visual.material.baseColorTexture.convert("RGB"), dtype=np.float32) / 255
    used = np.unique(mesh.faces)
    points, uv = np.asarray(mesh.vertices)[used] - np.asarray(eye), np.asarray(mesh.visual.uv)[used]
    angle = np.radians(azimuth)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    points = points @ turn.T
    height, width = size
    focal = width / 2 / np.tan(np.radians(35))
    depth = -points[:, 2]
    ahead = depth > 0.1
    points, uv, depth = points[ahead], uv[ahead], depth[ahead]
    x = focal * points[:, 0] / depth + width / 2
    y = height / 2 - focal * points[:, 1] / depth
    colors = texture[
        np.clip(((1 - uv[:, 1]) * texture.shape[0]).astype(int), 0, texture.shape[0] - 1),
        np.clip((uv[:, 0] * texture.shape[1]).astype(int), 0, texture.shape[1] - 1),
    ]
    canvas = np.ones((height, width, 3), np.float32)
    order = np.argsort(-depth)
    reach = range(-2, 3)
    for down in reach:
        for right in reach:
            rows, columns = (y[order] + down).astype(int), (x[order] + right).astype(int)
            inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
            canvas[rows[inside], columns[inside]] = colors[order][inside]
    return canvas


def main() -> None:
    """Write `panorama.png` and `mesh.png`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outputs", type=Path)
    parser.add_argument("images", type=Path)
    options = parser.parse_args()
    outputs, images = options.outputs, options.images
    picture = next(outputs.glob("*.image.png"))
    stem = picture.name.removesuffix(".image.png")
    disparity = read_disparity_png(outputs / f"{stem}.depth.png")
    write_png(images / "panorama.png", panorama_picture(read_image(picture), disparity))
    views = [mesh_view(outputs / f"{stem}.mesh.glb", azimuth, (0.3, 0.2, 0.0), (300, 480)) for azimuth in VIEWS]
    Image.fromarray((np.concatenate(views, axis=1) * 255).astype(np.uint8)).save(images / "mesh.png")


if __name__ == "__main__":
    main()
