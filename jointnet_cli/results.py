"""A finished result and its files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import pi
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jointnet_cli.files.atomic import write_text
from jointnet_cli.files.color import colorize
from jointnet_cli.files.exr import write_exr
from jointnet_cli.files.images import write_grey_png, write_normal_png, write_png
from jointnet_cli.files.metadata import gpano_xmp
from jointnet_cli.files.paths import check_free, stem
from jointnet_cli.files.text import PNG_KEY, to_json
from jointnet_cli.projection import Projection
from jointnet_cli.record import describe, exr_attributes, png_text, record
from jointnet_cli.scene.exports import Products
from jointnet_cli.scene.exports import writers as product_writers
from jointnet_cli.tasks import Task, kind, source, title

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from jointnet_cli.scene.scene import Scene


@dataclass
class Result:
    """One finished item, in memory."""

    task: Task
    image: NDArray[np.float32]
    """(H, W, 3) sRGB in [0, 1]."""
    maps: dict[str, NDArray[np.float32]]
    """`depth`: (H, W) relative disparity in [0, 1], near = 1; `normal`: (H, W, 3) camera-space unit vectors."""
    projection: Projection
    settings: dict[str, Any]
    """Everything that decides the pixels, resolved: model name and hash, steps, guidance, scheduler, size, dtype …"""
    timings: dict[str, float]
    """Seconds by phase: `text`, `encode`, `denoise`, `decode`."""
    uncertainty: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """Of an ensemble, by map, (H, W): the members' standard deviation in disparity, or for normals their RMS angle to the
    mean in radians."""

    @property
    def seconds(self) -> float:
        """Seconds from the request to the pixels."""
        return sum(self.timings.values())


def write_result(
    result: Result,
    out: Path,
    index: int,
    *,
    overwrite: bool = False,
    metadata: bool = True,
    products: Products | None = None,
    scene: Callable[[], Scene] | None = None,
) -> dict[str, Path]:
    """Write what `naming.expected_files` lists for this result into the folder `out`, and return the paths by key.

    `index` is the item's number in its batch, from 0. The `products` are made of `scene`, which is asked only for them; by
    default it is the result in one layer, at the assumed scale. Each file appears whole or not at all. The sidecar comes
    last and an old one goes first, so that where a sidecar is, its files are complete and are the ones it describes.
    Without `metadata` there is no sidecar and no text in the other files. Raises `UserError` if a file exists and
    `overwrite` is not set.
    """
    task, verb = result.task, kind(result.task)
    name = stem(index, task.seed, title(verb, task.prompt, source(task)))
    names = expected_files(verb, name, list(result.maps), products=products, uncertain=list(result.uncertainty))
    files = {key: out / file for key, file in names.items()}
    check_free(files.values(), overwrite)
    out.mkdir(parents=True, exist_ok=True)
    files["metadata"].unlink(missing_ok=True)
    if not metadata:
        del files["metadata"]
    writers = _writers(result, files, metadata)
    if products:
        shown = scene or (lambda: _scene(result))
        words, extras = (task.prompt or name, record(result)) if metadata else (name, None)
        writers |= product_writers(shown, products, words, extras)
    for key, path in files.items():
        writers[key](path)
    return files


def _scene(result: Result) -> Scene:
    from jointnet_cli.scene.scene import DepthScale, scene_of

    return scene_of(result.image, result.maps["depth"], result.projection, DepthScale.from_range())


def _writers(result: Result, files: dict[str, Path], metadata: bool) -> dict[str, Callable[[Path], object]]:
    image, maps, projection, uncertainty = result.image, result.maps, result.projection, result.uncertainty
    text = png_text(result) if metadata else {}
    attributes = exr_attributes(result) if metadata else {}
    if metadata and projection.kind == "cylindrical":
        seen = {PNG_KEY: gpano_xmp(projection, image.shape[1], image.shape[0])}
    else:
        seen = {}
    return {
        "image": lambda path: write_png(path, image, text | seen),
        "depth": lambda path: write_grey_png(path, maps["depth"], text),
        "normal": lambda path: write_normal_png(path, maps["normal"], text),
        "depth_uncertainty": lambda path: write_grey_png(path, uncertainty["depth"], text),
        "normal_uncertainty": lambda path: write_grey_png(path, uncertainty["normal"] / pi, text),
        "preview": lambda path: write_png(path, colorize(maps["depth"]), text),
        "exr": lambda path: write_exr(path, image, maps, attributes, projection, uncertainty),
        "metadata": lambda path: write_text(path, to_json(describe(result, files), indent=2) + "\n"),
    }


def expected_files(
    kind: str,
    stem: str,
    maps: Sequence[str],
    *,
    products: Products | None = None,
    uncertain: Sequence[str] = (),
    metadata: bool = True,
) -> dict[str, str]:
    """The file names of one result by key, in the order in which they are written; the sidecar comes last.

    `kind` is a task's verb and `maps` names the dense maps (`depth`, `normal`), `uncertain` those of which there is an
    uncertainty. A depth task has no `image`: the photo is the user's own. It has a coloured `preview` instead; that and
    the `products` need a depth map.
    """
    files = {} if kind == "depth" else {"image": f"{stem}.image.png"}
    for name in maps:
        files[name] = f"{stem}.{name}.png"
        if name in uncertain:
            files[f"{name}_uncertainty"] = f"{stem}.{name}-uncertainty.png"
    if kind == "depth" and "depth" in maps:
        files["preview"] = f"{stem}.preview.png"
    files["exr"] = f"{stem}.rgb{''.join(name[0] for name in maps)}.exr"
    if products and "depth" in maps:
        files |= products.files(stem)
    if metadata:
        files["metadata"] = f"{stem}.metadata.json"
    return files
