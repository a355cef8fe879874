"""`jointnet view`: existing images with depth as 3D scenes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jointnet_cli.cli.console import exit_with, for_each, print_result, progress
from jointnet_cli.cli.options import ModelOptions, OutputOptions, command_app
from jointnet_cli.cli.scene_inputs import SceneFiles, find_scene, read_scene, scene_projection
from jointnet_cli.devices import require_device
from jointnet_cli.errors import UserError
from jointnet_cli.files.budget import limit_pixels
from jointnet_cli.files.paths import check_free
from jointnet_cli.modality import DepthKind
from jointnet_cli.model.hub import find_model
from jointnet_cli.params import INPUT_PANEL, OUTPUT_PANEL, Param
from jointnet_cli.sampling.memory import SCENE_PIXEL, ResourceEstimate, require_memory
from jointnet_cli.scene.exports import SceneOptions, with_companions, write_exports
from jointnet_cli.task_inputs import CHANNEL, DEPTH_KIND, ViewOptions

if TYPE_CHECKING:
    from jointnet_cli.engine import Engine
    from jointnet_cli.scene.scene import Scene

Paths = Annotated[
    list[Path],
    Param("Results (EXR, image, `.metadata.json`), or an image with --depth.", "PATH", shown=False, argument=True),
]
Open = Annotated[bool, Param("Show each page in the browser.", panel=OUTPUT_PANEL, flag="--open")]


@dataclass(frozen=True)
class SceneMapFile:
    """The depth of an image, where it is not beside the image or in the same file."""

    depth: Annotated[
        Path | None, Param("Its depth: PNG, TIFF, EXR or npy.", "FILE", panel=INPUT_PANEL, shown=False)
    ] = None
    depth_kind: Annotated[DepthKind, DEPTH_KIND] = "auto"
    channel: Annotated[str | None, CHANNEL] = None


def view(
    paths: Paths,
    *,
    context: typer.Context,
    files: SceneMapFile,
    browse: Open = False,
    projection: ViewOptions,
    output: OutputOptions,
    scene: SceneOptions = SceneOptions(viewer=True, layers=None),
    model: ModelOptions,
) -> None:
    """Turn images with depth into navigable 3D scenes.

    Writes an interactive viewer per image, one HTML file that needs a browser and no network, and the files of `--mesh`,
    `--stereo` and `--orbit`, and prints their paths. The second layer of a result is shown unless `--no-layers` leaves it
    out. `--layers` loads a model, which paints one anew.
    """
    paths = list(dict.fromkeys(paths))
    if not scene.files(""):
        raise UserError("no output is requested", "leave --no-viewer out, or add --mesh, --stereo or --orbit")
    scene.refuse_unused([scene])
    if browse and not scene.viewer:
        raise UserError("--open has no effect: no page is made", "leave --no-viewer or --open out")
    if files.depth and len(paths) > 1:
        raise UserError(f"--depth belongs to one image, not to {len(paths)}", "name one image at a time")
    if scene.known_distances and len(paths) > 1:
        raise UserError("--known-distances holds the distances of one image", "name one image at a time")
    if not scene.layers:
        for name in ("model", "base", "device", "dtype"):
            source = context.get_parameter_source(name)
            if source is not None and source.name == "COMMANDLINE":
                raise UserError(f"--{name} has no effect: no second layer is painted", "add --layers, or leave it out")
    paint = _painter(model) if scene.layers and not output.dry_run else None
    taken: dict[str, Path] = {}

    def make(path: Path) -> None:
        found = find_scene(path, files.depth, output.out)
        if (other := taken.setdefault(found.stem, path)) != path:
            raise UserError(f"its files would have the names of those of {other}", "give one of them another --out")
        _make(path, found, projection, scene, files, output, browse, paint)

    with limit_pixels(output.max_pixels):
        exit_with(for_each(paths, make, label=lambda path: f"{path}: " if len(paths) > 1 else ""), len(paths))


def _painter(options: ModelOptions) -> Callable[[Scene, int], Scene]:
    """Return what gives a scene its second layer, from a seed.

    Raises:
        UserError: no such model, or one without depth.
    """
    folder = find_model(options.model, options.base)
    if "depth" not in folder.branches:
        raise UserError(f"{options.model} has no depth, which --layers needs", "choose another --model")
    require_device(options.device)

    @cache
    def engine() -> Engine:
        from jointnet_cli.engine import Engine

        return Engine.open(options.model, base=options.base, device=options.device, dtype=options.dtype, folder=folder)

    return lambda scene, seed: engine().add_layer(scene, seed=seed)


def _make(
    path: Path,
    files: SceneFiles,
    projection: ViewOptions,
    scene: SceneOptions,
    given: SceneMapFile,
    output: OutputOptions,
    browse: bool,
    paint: Callable[[Scene, int], Scene] | None,
) -> None:
    """Write what is wanted of one image, and print the paths."""
    names = {key: output.out / name for key, name in scene.files(files.stem).items()}
    check_free(with_companions(names), output.overwrite)
    from jointnet_cli.files.maps import header_size

    height, width = max((header_size(each) for each in {files.image, files.depth}), key=math.prod)
    needed = ResourceEstimate(height * width * SCENE_PIXEL, 0, None)
    require_memory(needed, f"a scene of {width} x {height} pixels", "resize the image and its depth")
    seen = scene_projection(files, projection)
    if not output.dry_run:
        with progress(files.title, output.quiet):
            made = read_scene(files, seen, scene, given.depth_kind, given.channel, quiet=output.quiet)
            if paint:
                made = paint(made, files.seed)
            output.out.mkdir(parents=True, exist_ok=True)
            record = files.record if output.metadata and files.record else None
            title = files.title if output.metadata else files.stem
            write_exports(made, names, scene, title=title, record=record)
    line = {"source": str(path), "files": {key: str(name) for key, name in names.items()}}
    print_result(line, names.values(), output.json)
    if browse and "viewer" in names and not output.dry_run:
        import webbrowser

        webbrowser.open(names["viewer"].resolve().as_uri())


app = command_app({"view": (view, "jointnet view outputs/00000_0_ocean-reef.rgbdn.exr")})
