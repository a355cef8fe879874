"""All files of one result."""

from __future__ import annotations

from collections.abc import Callable
from math import pi
from pathlib import Path
from typing import TYPE_CHECKING

from jointnet_cli.output.atomic import write_text
from jointnet_cli.output.color import colorize
from jointnet_cli.output.exr import write_exr
from jointnet_cli.output.gpano import PNG_KEY, gpano_xmp
from jointnet_cli.output.image import write_grey_png, write_normal_png, write_png
from jointnet_cli.output.metadata import describe, exr_attributes, png_text, record
from jointnet_cli.output.naming import check_free, expected_files, kind, source, stem, title
from jointnet_cli.output.products import Products
from jointnet_cli.output.products import writers as product_writers
from jointnet_cli.strict_json import to_json
from jointnet_cli.tasks import Result

if TYPE_CHECKING:
    from jointnet_cli.output.scene import Scene


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
    from jointnet_cli.output.scene import DepthScale, scene_of

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
