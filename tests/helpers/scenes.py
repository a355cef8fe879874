"""A small place for tests of what shows it."""

from __future__ import annotations

import numpy as np

from jointnet_cli.projection import Projection
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
