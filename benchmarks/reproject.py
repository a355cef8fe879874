"""How fast a panorama is seen from elsewhere, and in how much memory: JSON lines, one a size and view.

    python benchmarks/reproject.py --sizes 2048x512 8192x2048 --layers 2

The panorama is made up: rolling ground with boxes on it under a sky, noise for colours, and a second layer behind a fifth of
its lower half. Every size is measured in a process of its own. `seconds` are those of a view, the mean of `--views`;
`cpu_seconds` are what the process computed for it, which other programs on the machine disturb less. Memory is the highest
resident size so far less what it was after the imports, the scene's own arrays included.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

from jointnet_cli.projection import Projection
from jointnet_cli.scene.cameras import Camera, SphereCamera, Viewpoint
from jointnet_cli.scene.render import Renderer
from jointnet_cli.scene.scene import DepthScale, Layer, Scene

RING = Projection("cylindrical", 360.0, wrap=True)
FLAT = Projection("perspective", 75.0)


def panorama(height: int, width: int, layers: int) -> Scene:
    """A scene of that size in pixels."""
    random = np.random.default_rng(0)
    azimuth = np.linspace(0, 2 * np.pi, width, endpoint=False, dtype=np.float32)
    below = np.linspace(-1, 1, height, dtype=np.float32)[:, None] + 0.2 * np.sin(5 * azimuth)
    distance = np.where(below > 0.05, 1.5 / np.maximum(below, 0.05), np.float32(np.inf)).astype(np.float32)
    for _ in range(60):
        top, left = random.integers(height // 3, 5 * height // 6), random.integers(0, width)
        box = slice(top, top + height // 8), slice(left, left + width // 40)
        distance[box] = random.uniform(1, 6)
    image = random.random((height, width, 3), np.float32)
    behind = None
    if layers == 2:
        shown = np.zeros((height, width), bool)
        shown[height // 2 :] = np.arange(width) % (width // 16) < width // 80
        behind = Layer(image, np.full((height, width), 12, np.float32), shown)
    return Scene(Layer(image, distance), behind, RING, DepthScale.from_range())


def measure(size: str, layers: int, views: int) -> None:
    """Print the lines of one size."""
    width, height = map(int, size.split("x"))
    before = _resident()
    scene = panorama(height, width, layers)
    started, worked = time.perf_counter(), time.process_time()
    reprojector = Renderer(scene)
    found = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - worked}
    _report(size, layers, "prepare", found, before)
    cases: dict[str, Callable[[int], Viewpoint]] = {
        "pinhole 512x512": lambda view: Camera(FLAT, 512, 512, (0.05, 0.0, 0.0), yaw=view * 50.0),
        "tb360 eye 2048x1024": lambda view: SphereCamera(1024, 2048, eye=0.03 * (-1) ** view),
    }
    for name, viewpoint in cases.items():
        started, worked, filled = time.perf_counter(), time.process_time(), 0.0
        for view in range(views):
            filled += reprojector.see(viewpoint(view)).filled
        found = {
            "seconds": (time.perf_counter() - started) / views,
            "cpu_seconds": (time.process_time() - worked) / views,
        }
        _report(size, layers, name, found | {"filled": filled / views}, before)


def _report(size: str, layers: int, view: str, found: dict[str, float], before: float) -> None:
    rounded = {name: round(value, 4) for name, value in found.items()}
    memory = round(_resident() - before)
    print(json.dumps({"panorama": size, "layers": layers, "view": view, **rounded, "memory_mib": memory}), flush=True)


def _resident() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["2048x512"], help="width x height of the panoramas")
    parser.add_argument("--layers", type=int, choices=(1, 2), default=1)
    parser.add_argument("--views", type=int, default=4, help="views of each kind")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.sizes[0], options.layers, options.views)
        return
    for size in options.sizes:
        own = ["--sizes", size, "--layers", str(options.layers), "--views", str(options.views), "--measure"]
        subprocess.run([sys.executable, __file__, *own], check=True)


if __name__ == "__main__":
    main()
