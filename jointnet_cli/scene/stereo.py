"""Images for two eyes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jointnet_cli.files.images import write_jpeg, write_png
from jointnet_cli.files.text import to_json
from jointnet_cli.projection import Projection
from jointnet_cli.scene.cameras import Camera, SphereCamera, Viewpoint, focal_length
from jointnet_cli.scene.render import Renderer
from jointnet_cli.scene.scene import Scene

LAYOUTS = ("sbs", "vr180", "tb360")

BASELINE = 0.063
"""Metres between the eyes of most people."""

WIDEST = 4096
"""Columns of one eye's view if nothing else is said."""

WINDOW = 90.0
"""Degrees of a panorama that two flat views show at most."""


def write_stereo(
    path: Path,
    scene: Scene,
    layout: str,
    *,
    baseline: float = BASELINE,
    width: int | None = None,
    record: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write a scene as two eyes see it, as PNG or JPEG by the suffix of `path`.

    `sbs`: left and right, two parallel pinhole cameras with the image's own field of view; of a panorama, its middle
    90 degrees. `vr180`: left and right, half-equirectangular, two parallel eyes. `tb360`: top (left eye) and bottom,
    equirectangular, omnidirectional stereo. The image's own angular resolution is kept up to `width` columns an eye.
    What the image does not cover is continued by its colours, the smoother the farther away. `record` is written as
    PNG text `jointnet`, or as the comment of a JPEG.

    Returns:
        `layout`, `baseline` (metres), `width` and `height` of an eye's view, `filled` and `outside`: shares of pixels
        that no layer shows, and that look past the image's edges.

    Raises:
        ValueError: another layout.
    """
    left, right = (
        eye_camera(scene, layout, side * baseline / 2, WIDEST if width is None else width) for side in (-1, 1)
    )
    reprojector = Renderer(scene)
    views = [reprojector.see(viewpoint, samples=2) for viewpoint in (left, right)]
    pictures = [view.image for view in views]
    # Eyes must not differ in what is made up: it would flicker between them.
    outside = views[0].outside & views[1].outside
    alike = (pictures[0] + pictures[1]) / 2
    pictures = [np.where(outside[..., None], alike, picture) for picture in pictures]
    image = np.concatenate(pictures, axis=0 if layout == "tb360" else 1)
    stated = None if record is None else to_json(dict(record))
    if path.suffix.lower() in (".jpg", ".jpeg"):
        write_jpeg(path, image, comment=stated)
    else:
        write_png(path, image, None if stated is None else {"jointnet": stated})
    return {
        "layout": layout,
        "baseline": baseline,
        "width": left.width,
        "height": left.height,
        "filled": float(np.mean([view.filled for view in views])),
        "outside": float(np.mean([view.outside.mean() for view in views])),
    }


def eye_camera(scene: Scene, layout: str, offset: float, widest: int) -> Viewpoint:
    """Where an eye `offset` metres to the right of the middle looks from, with at most `widest` columns.

    Raises:
        ValueError: no such layout.
    """
    height, width = scene.front.distance.shape
    focal = focal_length(scene.projection, width)
    place = (offset, 0.0, 0.0)
    if layout == "sbs":
        projection = scene.projection
        if projection.kind == "cylindrical":
            projection = Projection("perspective", min(projection.span, WINDOW))
            width = round(2 * focal * np.tan(np.radians(projection.span / 2)))
        shrink = min(1.0, widest / width)
        return Camera(projection, max(1, round(height * shrink)), round(width * shrink), place)
    around = min(round(np.pi * focal) * 2, widest * 2 if layout == "vr180" else widest // 2 * 2)
    if layout == "vr180":
        return SphereCamera(around // 2, around // 2, span=180.0, position=place)
    if layout == "tb360":
        return SphereCamera(around // 2, around, eye=offset)
    raise ValueError(f"there is no layout {layout}: {', '.join(LAYOUTS)}")
