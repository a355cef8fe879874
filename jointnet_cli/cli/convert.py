"""`jointnet convert`: images and maps between conventions and formats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from jointnet_cli.cli.console import exit_with, for_each, note, print_result
from jointnet_cli.cli.options import OutputOptions, command_app
from jointnet_cli.convert.content import Content, SourceOptions, TargetOptions, kind_of
from jointnet_cli.errors import UserError
from jointnet_cli.files.budget import limit_pixels
from jointnet_cli.files.paths import IMAGE_SUFFIXES, check_free, list_photos
from jointnet_cli.params import Param, command_line
from jointnet_cli.projection import Projection
from jointnet_cli.sampling.memory import CONVERT_PIXEL, ResourceEstimate, require_memory

if TYPE_CHECKING:
    from jointnet_cli.convert.write import OutputPlan

SUFFIXES = (*IMAGE_SUFFIXES, ".exr", ".npy", ".npz")
"""Endings of the files that are taken from a folder."""
WEIGHTS = frozenset({".safetensors", ".ckpt", ".bin", ".pt", ".pth", ".zip"})
MODEL_FILES = ("jointnet.json", "model_index.json", "unet", "jointnet")

Files = Annotated[
    list[str],
    Param("Files, folders or patterns; `-` reads paths from stdin.", "IN", shown=False, argument=True),
]


def convert(
    files: Files,
    *,
    target: TargetOptions,
    source: SourceOptions,
    output: OutputOptions,
) -> None:
    """Convert images and maps between conventions and formats.

    Converts disparity and distance, planar and radial distance, black and white, OpenEXR, PNG, TIFF and npy, the green
    axis of normals, cylinders and spheres. The conventions in a file's own record are the default. Prints the paths;
    stderr states what was read and written.
    """
    sources = _list_files(files)
    taken: dict[Path, Path] = {}

    def work(path: Path) -> None:
        command = command_line("convert", [str(path)], target, source)
        _convert(path, target, source, output, command, taken, alone=len(sources) == 1)

    with limit_pixels(output.max_pixels):
        exit_with(for_each(sources, work, label=lambda path: f"{path}: " if len(sources) > 1 else ""), len(sources))


def _convert(
    path: Path,
    target: TargetOptions,
    source: SourceOptions,
    output: OutputOptions,
    command: str,
    taken: dict[Path, Path],
    *,
    alone: bool,
) -> None:
    """Convert one file; `taken` maps written names to their source. `alone`: it is the only file."""
    from jointnet_cli.convert.change import change
    from jointnet_cli.convert.effects import refuse_unused
    from jointnet_cli.convert.read import read_content
    from jointnet_cli.convert.write import plan_files, write_plan
    from jointnet_cli.files.maps import header_size

    height, width = header_size(path, name=source.channel)
    needed = ResourceEstimate(height * width * CONVERT_PIXEL, 0, None)
    require_memory(needed, f"converting {width} x {height} pixels", "make it smaller first")
    content = read_content(path, source)
    for words in content.taken_for.values():
        note(f"{path}: read {words}{_seen(content)}", output.quiet)
    for words in content.notes:
        note(f"{path}: {words}", output.quiet)
    if content.left_out:
        note(f"{path}: left out {', '.join(content.left_out)}", output.quiet)
    changed, costs = change(content, target)
    plans = plan_files(path, changed, target, output.out, command)
    refuse_unused(path, content, changed, plans, source, target, alone=alone)
    costs += [f"{plan.cut} pixels lie beyond black or white and were clipped" for plan in plans if plan.cut]
    for cost in costs:
        note(f"{path}: {cost}", output.quiet)
    names = [name for plan in plans for name in (plan.path, *(plan.extra if output.metadata else ()))]
    for name in names:
        if name.resolve() == path.resolve():
            raise UserError(f"the output would overwrite the input {path}", "choose another folder with --out")
        if (first := taken.setdefault(name, path)) != path:
            raise UserError(f"{first} and {path} would both become {name}", "convert them into two folders")
    check_free(dict.fromkeys([*names, *(name for plan in plans for name in plan.extra)]), output.overwrite)
    if not output.dry_run:
        output.out.mkdir(parents=True, exist_ok=True)
        for plan in plans:
            write_plan(plan, changed, target, output.metadata)
    for plan in plans:
        note(f"{plan.path}: {'would write' if output.dry_run else 'wrote'} {_written(plan)}", output.quiet)
    line = {
        "source": str(path),
        "read": {**content.taken_for, **({"projection": seen} if (seen := _view_words(content)) else {})},
        "left_out": list(content.left_out),
        "notes": [*content.notes, *costs],
        "written": [{"path": str(plan.path), **_facts(plan)} for plan in plans],
    }
    print_result(line, names, output.json)


def _list_files(names: Sequence[str]) -> list[Path]:
    """Return the files behind names, folders and patterns.

    Raises:
        UserError: a model, or no such file.
    """
    wanted: list[str] = []
    for name in names:
        path = Path(name)
        if path.suffix.lower() in WEIGHTS or (path.is_dir() and any((path / file).exists() for file in MODEL_FILES)):
            raise UserError(f"{path} is a model; convert takes images and maps", "see: jointnet models --help")
        if path.is_dir():
            files = (file for file in path.iterdir() if not file.name.startswith("."))
            inside = sorted(str(file) for file in files if file.suffix.lower() in SUFFIXES)
            if not inside:
                raise UserError(f"no images or maps in folder {path}", f"looked for {', '.join(sorted(SUFFIXES))}")
            wanted += inside
        else:
            wanted.append(name)
    return list_photos(wanted)


def _view_words(content: Content) -> str:
    kind = kind_of(content.view)
    return "" if kind is None else f"{kind} {_span(content):g} degrees"


def _span(content: Content) -> float:
    view = content.view
    assert view is not None
    return view.span if isinstance(view, Projection) else 360 * content.size[1] / view.full_width


def _seen(content: Content) -> str:
    words = _view_words(content)
    return f", {words}" if words else ""


def _facts(plan: OutputPlan) -> dict[str, Any]:
    """Return the description of a written file for `--json`."""
    names = ("part", "projection", "maps", "filter", "width", "height")
    return {name: plan.record[name] for name in names if name in plan.record} | {"parts": list(plan.parts)}


def _written(plan: OutputPlan) -> str:
    """Return the description of a written file in words."""
    from jointnet_cli.convert.write import stored_words

    words = [" + ".join(plan.parts), stored_words(plan)]
    depth, normal = (plan.record["maps"].get(name) for name in ("depth", "normal"))
    if depth:
        unit = " in metres" if "unit" in depth else ""
        words.append(f"{depth['quantity']}{unit}, {depth['distance']}")
        if "black" in depth:
            words.append(f"black {depth['black']:g}, white {depth['white']:g}")
        if depth["scale"] != "unknown" and not unit:
            words.append(f"1 / distance = {depth['scale']:g} * disparity + {depth['shift']:g} ({depth['origin']})")
    if normal:
        words.append("green is down (DirectX)" if "down" in normal["space"] else "green is up (OpenGL)")
    if "projection" in plan.record:
        words.append(f"{plan.record['projection']['kind']} {plan.record['projection']['span']:g} degrees")
    return ", ".join(words)


app = command_app({"convert": (convert, "jointnet convert reef.rgbdn.exr --to exr --as distance --near 1 --far 30")})
