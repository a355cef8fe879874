"""Read the files that items are made from, compare their sizes, and report how they were read."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from jointnet_cli.cli.console import note
from jointnet_cli.errors import UserError
from jointnet_cli.modality import DepthKind
from jointnet_cli.projection import Projection
from jointnet_cli.request import Request
from jointnet_cli.task_inputs import MapFiles, ViewOptions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from jointnet_cli.convert.content import DepthMap


R = TypeVar("R", bound=Request)


@dataclass(frozen=True)
class InputReader:
    """Reader of a batch. It reports on stderr how each map was read, once per file."""

    quiet: bool
    _said: set[str] = field(default_factory=set)

    def image(self, path: Path) -> NDArray[np.float32]:
        """Return a photo, (H, W, 3) sRGB in [0, 1]."""
        from jointnet_cli.files.exr import exr_notes
        from jointnet_cli.files.images import read_image

        image = read_image(path)
        for words in exr_notes(path):
            self._say(f"{path}: {words}")
        return image

    def load(self, request: R) -> R:
        """Read the files of a request into it.

        Raises:
            UserError: a file that cannot be read, sizes that do not fit, a setting for a file that is not given, or masks
                that mark nothing.
        """
        arrays: dict[str, Any] = {}
        sized: list[tuple[Path, NDArray[np.float32]]] = []
        if image := request.sources.get("image"):
            arrays["image"] = self.image(image)
            sized.append((image, arrays["image"]))
            if request.view is None:  # or else flags say it
                arrays["projection"] = stated_panorama(image)
        if request.files is not None:
            arrays["maps"] = self._maps(request.files)
            sized += [(request.files.paths[name], array) for name, array in arrays["maps"].items()]
        if request.marks is not None:
            paths = request.marks.paths
            from jointnet_cli.files.maps import read_mask

            masks = arrays["masks"] = {name: read_mask(path) for name, path in paths.items()}
            sized += [(paths[name], array) for name, array in masks.items()]
        (require_one_size if request.one_size else require_one_shape)(*sized)
        if request.marks is not None and not any((mask > 0.5).any() for mask in masks.values()):
            raise UserError(f"{next(iter(paths.values()))} marks no pixel", "paint the region to repaint white")
        return replace(request, **arrays)  # type: ignore[type-var]

    def outline(self, request: R) -> R:
        """Return the request with arrays of the right sizes and no contents, from the headers of its files.

        Raises:
            UserError: a file that is missing, or whose header is damaged; a setting for a file that is not given.
        """

        def blank(path: Path, part: str, name: str | None, *channels: int) -> NDArray[np.float32]:
            import numpy as np

            from jointnet_cli.files.maps import header_size

            return np.broadcast_to(np.float32(0), (*header_size(path, part, name), *channels))  # one number in memory

        arrays: dict[str, Any] = {}
        if image := request.sources.get("image"):
            arrays["image"] = blank(image, "image", None, 3)
            if request.view is None:
                arrays["projection"] = stated_panorama(image)
        if (files := request.files) is not None:
            _ = files.settings  # refuses what has no effect
            arrays["maps"] = {name: blank(path, name, files.channel_of(name)) for name, path in files.paths.items()}
        return replace(request, **arrays)  # type: ignore[type-var]

    def _maps(self, files: MapFiles) -> dict[str, NDArray[np.float32]]:
        """Return the maps that are given, by modality."""
        _ = files.settings  # refuses what has no effect
        return {
            name: self._map(path, name, files.depth_kind, files.channel_of(name)) for name, path in files.paths.items()
        }

    def _map(self, path: Path, modality: str, kind: DepthKind, channel: str | None) -> NDArray[np.float32]:
        from jointnet_cli.files.maps import disparity_of_distance, read_map

        recorded = recorded_depth(path, kind, channel) if modality == "depth" else None
        if recorded is None:
            values, meaning = read_map(path, modality, kind, channel)
        else:
            depth, meaning = recorded
            values = depth.values if depth.quantity == "disparity" else disparity_of_distance(depth.values)
        self._say(f"{path}: {meaning}")
        return values

    def _say(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            note(line, self.quiet)


def recorded_depth(path: Path, kind: DepthKind, channel: str | None) -> tuple[DepthMap, str] | None:
    """Return the depth of a file whose record states its convention, along the planar axis, and a description of it.

    `None` for a file without such a record, and where flags say what to read. Radial distances of an unknown view stay.

    Raises:
        UserError: the file cannot be read.
    """
    from jointnet_cli.convert.change import change_depth
    from jointnet_cli.convert.content import SourceOptions
    from jointnet_cli.convert.conventions import read_stated, record_of
    from jointnet_cli.convert.read import read_content

    if kind != "auto" or channel is not None or read_stated(path, record_of(path)).quantity is None:
        return None
    content = read_content(path, SourceOptions(part="depth"))
    assert content.depth is not None
    depth = content.depth
    if depth.quantity == "distance" and depth.axis == "radial" and content.view is not None:
        depth = change_depth(depth, "distance", "planar", content.view, None)
    return depth, "; ".join([content.taken_for["depth"], *content.notes])


def projection_of(view: ViewOptions, *files: Path) -> Projection | None:
    """Return the projection by flags and, where they are silent, by the first file that states one.

    Raises:
        UserError: `--wrap` with a span other than 360, or a file that shows a sphere.
    """
    return view.projection(next(filter(None, map(stated_panorama, files)), None))


def stated_panorama(path: Path) -> Projection | None:
    """Return the projection of a panorama from its record or GPano; `None` for any other image.

    Raises:
        UserError: the file shows a sphere, whose rows are no heights on a cylinder.
    """
    from jointnet_cli.convert.conventions import view_of

    view = view_of(path)
    if isinstance(view, Projection):
        return view if view.kind == "cylindrical" else None
    if view is not None:
        to = "exr" if path.suffix.lower() == ".exr" else "png"
        command = shlex.join(["jointnet", "convert", str(path), "--to", to, "--projection", "cylindrical"])
        raise UserError(f"{path} shows a sphere (equirectangular)", f"make a cylinder of it first: {command}")
    return None


def require_files(files: Mapping[str, Path], place: str) -> None:
    """Raise `UserError` for a path that is not a file; `place` names the row of a batch that it is from, if any.

    Raises:
        UserError: a file is not there.
    """
    for path in files.values():
        if not path.is_file():
            reason = f"{path} is a folder" if path.is_dir() else f"no file {path}"
            raise UserError(f"{place}: {reason}" if place else reason)


def require_one_size(*images: tuple[Path, NDArray[np.float32]]) -> None:
    """Raise `UserError` if one image differs in size from the first.

    Raises:
        UserError: two sizes, both named.
    """
    for image in images[1:]:
        if image[1].shape[:2] != images[0][1].shape[:2]:
            raise UserError(f"{_sized(*image)}, and {_sized(*images[0])}", "resize one of them")


def require_one_shape(*images: tuple[Path, NDArray[np.float32]]) -> None:
    """Raise `UserError` if one image differs in aspect ratio from the first by more than rounding to pixels.

    Raises:
        UserError: two sizes that are not in proportion, both named.
    """
    for image in images[1:]:
        (height, width), (rows, columns) = images[0][1].shape[:2], image[1].shape[:2]
        if abs(columns * height - rows * width) > max(height, width, rows, columns):
            message = f"{_sized(*image)}, and of another shape: {_sized(*images[0])}"
            raise UserError(message, "crop them to one aspect ratio")


def _sized(path: Path, array: NDArray[np.float32]) -> str:
    return f"{path} is {array.shape[1]} x {array.shape[0]} pixels"
