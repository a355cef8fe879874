"""A small place for tests of what shows it."""

from __future__ import annotations

from typing import Any

import numpy as np
from trimesh import Scene as Meshes

from jointnet_cli.projection import Projection
from jointnet_cli.scene.exports import MAX_TRIANGLES
from jointnet_cli.scene.mesh import scene_mesh
from jointnet_cli.scene.scene import DepthScale, Scene, scene_of

HEIGHT, WIDTH = 48, 128
RING = Projection("cylindrical", 360.0, True)


def reef(projection: Projection = RING, scale: DepthScale | None = None) -> Scene:
    """Sky above, ground at 4 m below, and ahead a red post at 1.5 m."""
    scale = scale or DepthScale.from_range(1, 30)
    image = np.empty((HEIGHT, WIDTH, 3), np.float32)
    image[..., 0] = np.linspace(0.4, 0.9, WIDTH) * (1 + 0.3 * np.sin(np.arange(WIDTH)))
    image[..., 1] = np.linspace(0.9, 0.4, HEIGHT)[:, None]
    image[..., 2] = 0.6
    disparity = np.zeros((HEIGHT, WIDTH), np.float32)
    disparity[HEIGHT // 3 :] = (1 / 4 - scale.shift) / scale.scale
    post = np.s_[HEIGHT // 4 :, WIDTH // 2 - 4 : WIDTH // 2 + 4]
    image[post], disparity[post] = (0.9, 0.1, 0.1), (1 / 1.5 - scale.shift) / scale.scale
    return scene_of(np.clip(image, 0, 1), disparity, projection, scale)


def mesh_of(scene: Scene, **options: Any) -> Meshes:
    """The meshes of a scene, with as many triangles as the command line's default."""
    return scene_mesh(scene, **{"max_triangles": MAX_TRIANGLES, **options})
