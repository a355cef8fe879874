"""What meshes of scenes cost, and what simplification loses: a JSON line for each measurement.

    python benchmarks/mesh.py cost --sizes 2048x512 4096x1024 8192x2048
    python benchmarks/mesh.py error --fractions 4 16 64

`cost` makes the mesh and the GLB of a ring of two layers, each size in a process of its own that reads the ring from a file;
memory is the process's highest resident size. `error` compares evenly spread rows and columns with `triangulate`, at equal
triangles, on rendered worlds with true depth: the share of pixels without a surface, and the relative error of the distance.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from trimesh import Trimesh

    from jointnet_cli.scene.scene import Scene
    from jointnet_cli.scene.simplify import GridMesh

WORLDS = range(2_000_000, 2_000_012)


def ring(width: int, height: int) -> Scene:
    """A floor with columns under a sky, with relief and a second layer that carries on what is beside the columns."""
    from dataclasses import replace

    from jointnet_cli.projection import Projection
    from jointnet_cli.scene.layers import CUT, background_layer, extend_background, occluders
    from jointnet_cli.scene.scene import DepthScale, scene_of

    azimuth = np.linspace(0, 2 * np.pi, width, endpoint=False, dtype=np.float32)
    down = (np.arange(height, dtype=np.float32)[:, None] + 0.5 - height / 2) * np.float32(2 * np.pi / width)
    nearness = np.maximum(down / 1.6, 0) * (1 + 0.02 * np.sin(40 * azimuth) * np.sin(90 * down))
    for number in range(24):
        centre, half, near = 0.26 * number, 0.03 + 0.002 * number, 0.2 + 0.03 * number
        column = (np.abs(azimuth - centre) < half) & (np.abs(down) < 0.5)
        nearness = np.where(column, near * (1 + 0.05 * np.sin(200 * down)), nearness)
    noise = np.random.default_rng(0).random((height, width, 1), np.float32)
    image = np.clip(nearness[..., None] * np.array([1, 0.8, 0.6], np.float32) + 0.1 * noise, 0, 1).astype(np.float32)
    scale = DepthScale.from_range()
    scene = scene_of(image, nearness.clip(0, 1).astype(np.float32), Projection("cylindrical", 360, True), scale)
    mask = occluders(scene.front.distance, CUT, width // 25, wrap=True)
    return replace(scene, behind=background_layer(scene, mask, *extend_background(scene, mask)))


def save(scene: Scene, path: Path) -> None:
    """The layers of a ring, for a process that has not made them."""
    behind = scene.behind
    assert behind is not None and behind.shown is not None
    front = scene.front
    np.savez(
        path,
        image=front.image,
        distance=front.distance,
        behind=behind.image,
        far=behind.distance,
        shown=behind.shown,
    )


def cost(path: Path, max_triangles: int) -> dict[str, Any]:
    """The mesh of a saved ring, in this process."""
    import trimesh.exchange.gltf  # noqa: F401 - before the memory is read

    from jointnet_cli.projection import Projection
    from jointnet_cli.scene.mesh import scene_mesh
    from jointnet_cli.scene.mesh_files import write_glb
    from jointnet_cli.scene.scene import DepthScale, Layer, Scene

    with np.load(path) as saved:
        front = Layer(saved["image"], saved["distance"])
        shown = saved["shown"]
        behind = Layer(saved["behind"], saved["far"], shown)
    scene = Scene(front, behind, Projection("cylindrical", 360, True), DepthScale.from_range())
    height, width = front.distance.shape
    started_with, started = _highest(), time.perf_counter()
    mesh = scene_mesh(scene, max_triangles=max_triangles)
    meshed, memory = time.perf_counter(), _highest()
    with tempfile.TemporaryDirectory() as folder:
        write_glb(Path(folder, "ring.glb"), mesh)
        size = Path(folder, "ring.glb").stat().st_size
    return {
        "width": width,
        "height": height,
        "triangles": {name: len(part.faces) for name, part in mesh.geometry.items()},
        "seam_edges": seam_edges(mesh.geometry["front"]),
        "hidden_pixels": round(float(shown.mean()), 4),
        "glb_mib": round(size / 2**20, 1),
        "mesh_seconds": round(meshed - started, 2),
        "glb_seconds": round(time.perf_counter() - meshed, 2),
        "scene_mib": round(started_with, 0),
        "mesh_peak_mib": round(memory, 0),
        "peak_mib": round(_highest(), 0),
    }


def seam_edges(front: Trimesh) -> int:
    """How many open edges of the front lie behind the viewer, where the ring closes, and only there."""
    front = front.copy()
    front.merge_vertices(merge_tex=True, merge_norm=True)
    edges, counts = np.unique(front.edges_sorted, axis=0, return_counts=True)
    ends = front.vertices[edges[counts == 1]]
    return int(((np.abs(ends[..., 0]) < 1e-4 * ends[..., 2]) & (ends[..., 2] > 0)).all(axis=1).sum())


def error(seed: int, fraction: int, size: int = 512) -> list[dict[str, Any]]:
    """Both ways to a fraction of one world's triangles."""
    from jointnet_cli.data.worlds.grammar import sample_world
    from jointnet_cli.data.worlds.renderer import render
    from jointnet_cli.projection import Projection
    from jointnet_cli.scene.simplify import _grid, triangulate

    picture = render([sample_world(seed)], size=size)
    distance = picture.depth[0].numpy().astype(np.float32)
    focal = float(picture.intrinsics[0, 0, 0])
    projection = Projection("perspective", math.degrees(2 * math.atan(size / 2 / focal)))
    limit = len(_grid(distance, projection, 1.3, 1).faces) // fraction
    shrink = 1 / math.sqrt(fraction)
    while len((even := _grid(distance, projection, 1.3, shrink)).faces) > limit:
        shrink *= 0.995
    sheets = {"even": even, "simplified": triangulate(distance, projection, 1.3, limit)}
    return [
        {"seed": seed, "fraction": fraction, "way": way, **_errors(sheet, distance)} for way, sheet in sheets.items()
    ]


def _errors(sheet: GridMesh, distance: NDArray[np.float32]) -> dict[str, Any]:
    made, seen = inverse_distance(sheet), np.isfinite(distance)
    both = seen & (made > 0)
    relative = np.abs(1 / made[both] / distance[both] - 1)
    return {
        "triangles": len(sheet.faces),
        "holes": round(float(1 - both.sum() / seen.sum()), 5),
        "mean": round(float(relative.mean()), 6),
        "p95": round(float(np.quantile(relative, 0.95)), 6),
    }


def inverse_distance(sheet: GridMesh) -> NDArray[np.float64]:
    """(H, W) what a sheet shows from where it was seen; 0 where nothing is. Triangles are looked at in groups of one size."""
    height, width = sheet.shape
    shown = np.zeros(height * width)
    corners = np.stack([sheet.column, sheet.row, 1 / sheet.distance], axis=1)[sheet.faces]  # (F, 3, 3)
    low = np.ceil(corners[..., :2].min(axis=1) - 1e-6).astype(int)
    side = (np.floor(corners[..., :2].max(axis=1) + 1e-6).astype(int) - low).max(axis=1) + 1
    window = 1
    while window < 2 * max(side.max(), 1):
        group = np.flatnonzero((side <= window) & (side > window // 2))
        for part in np.array_split(group, len(group) * window**2 // 4_000_000 + 1):
            x = low[part, 0, None, None] + np.arange(window)
            y = low[part, 1, None, None] + np.arange(window)[:, None]
            (ax, ay, az), (bx, by, bz), (cx, cy, cz) = corners[part].transpose(1, 2, 0)[..., None, None]
            area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
            second = ((x - ax) * (cy - ay) - (cx - ax) * (y - ay)) / area
            third = ((bx - ax) * (y - ay) - (x - ax) * (by - ay)) / area
            inside = (second >= -1e-6) & (third >= -1e-6) & (second + third <= 1 + 1e-6)
            inside &= (x >= 0) & (x < width) & (y >= 0) & (y < height)
            value = az + second * (bz - az) + third * (cz - az)
            np.maximum.at(shown, (y * width + x)[inside], value[inside])
        window *= 2
    return shown.reshape(height, width)


def _highest() -> float:
    """MiB that this process has had at most; what `resource` says of it begins with its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["cost", "error"])
    parser.add_argument("--sizes", nargs="+", default=["2048x512", "8192x2048"])
    parser.add_argument("--fractions", nargs="+", type=int, default=[4, 16, 64])
    parser.add_argument("--saved", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--max-triangles", type=int, default=1_200_000)
    arguments = parser.parse_args()
    if arguments.what == "error":
        for fraction in arguments.fractions:
            for seed in WORLDS:
                print(*map(json.dumps, error(seed, fraction)), sep="\n", flush=True)
        return
    if arguments.saved:
        print(json.dumps(cost(arguments.saved, arguments.max_triangles)), flush=True)
        return
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "ring.npz")
            save(ring(*map(int, size.split("x"))), path)
            limit = ["--max-triangles", str(arguments.max_triangles)]
            subprocess.run([sys.executable, __file__, "cost", "--saved", str(path), *limit], check=True)


if __name__ == "__main__":
    main()
