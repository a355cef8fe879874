"""Input files of `view`: find an image and its depth, and read them as a scene."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jointnet_cli.cli.console import note
from jointnet_cli.cli.inputs import projection_of, recorded_depth, require_files, require_one_size
from jointnet_cli.errors import UserError, reading
from jointnet_cli.files.paths import OUTPUT_ENDINGS, SIDECAR, safe_name
from jointnet_cli.files.text import load_json
from jointnet_cli.modality import DepthKind
from jointnet_cli.projection import PERSPECTIVE, Projection
from jointnet_cli.record import read_sidecar, recorded_image
from jointnet_cli.scene.exports import SceneOptions
from jointnet_cli.task_inputs import ViewOptions
from jointnet_cli.tasks import MAX_SEED

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from jointnet_cli.scene.scene import DepthScale, Scene

MESHES = frozenset({".glb", ".gltf", ".obj", ".ply", ".stl", ".usdz"})


@dataclass(frozen=True)
class SceneFiles:
    """An image file and its depth file."""

    stem: str
    """Beginning of the names of the files made from it."""
    image: Path
    depth: Path
    """The same file as `image` if it holds both."""
    record: Mapping[str, Any] = field(default_factory=dict)
    """Record of how it was made, if a file has one."""

    @property
    def title(self) -> str:
        """Return its prompt, or its name."""
        return str(self.record.get("prompt") or self.stem)

    @property
    def seed(self) -> int:
        """Return its seed, 0 where no record states one."""
        seed = self.record.get("seed")
        return seed if isinstance(seed, int) and 0 <= seed <= MAX_SEED else 0


class _Depth(NamedTuple):
    """The depth of a scene, as its file has it."""

    values: NDArray[np.float32]
    """(H, W): relative disparity in [0, 1], or metres, infinite where the sky is."""
    meaning: str
    """What the file was taken for."""
    scale: DepthScale | None = None
    """What disparity means, where that is known of this file."""
    metres: bool = False
    has_sky: bool = True
    """Whether disparity 0 is the sky."""


def find_scene(path: Path, depth: Path | None = None, out: Path = Path("outputs")) -> SceneFiles:
    """Find the files behind a name: an EXR, an image whose depth is given, or a result's `.metadata.json`.

    Depth that is not given is beside the image, or it is what `jointnet depth` made of the image in the folder `out`.

    Raises:
        UserError: no such file, a mesh, or an image without depth.
    """
    require_files({"path": path, **({"depth": depth} if depth else {})}, "")
    if path.suffix.lower() in MESHES:
        raise UserError(
            f"{path} is a mesh", f"name what it was made from: the image, the EXR or the {SIDECAR} beside it"
        )
    if path.name.endswith(SIDECAR):
        return _of_result(path, depth)
    if path.name.endswith(OUTPUT_ENDINGS):
        raise UserError(f"{path} is a map, not the image", "name the image or the EXR beside it")
    from jointnet_cli.files.exr import is_exr
    from jointnet_cli.files.metadata import read_record

    stem = path.name.removesuffix(path.suffix)
    for end in (".image", ".rgbd", ".rgbdn"):
        stem = stem.removesuffix(end)
    if depth is None and not is_exr(path):
        depth = path.with_name(f"{stem}.depth.png")
        if not depth.is_file() and (made := _predicted(path, out)) is not None:
            return SceneFiles(stem, path, *made)
        if not depth.is_file():
            folder = [] if out == Path("outputs") else ["--out", str(out)]
            lines = (shlex.join(["jointnet", verb, str(path), *folder]) for verb in ("depth", "view"))
            message = f"{path} has no {depth.name} beside it, and {out} holds no depth of it"
            raise UserError(message, f"give --depth FILE, or run: {' && '.join(lines)}")
    return SceneFiles(stem, path, depth or path, read_record(path) or read_record(depth or path))


def _predicted(photo: Path, out: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the depth map of a photo in a folder of results, and its record; `None` if there is none.

    It is that of the record which names the photo, or without a record of that name the one with the photo's name.
    """
    name = safe_name(photo.stem)
    likely = out / f"{name}{SIDECAR}"
    for sidecar in dict.fromkeys([likely, *sorted(out.glob(f"*{SIDECAR}"))]):
        record = read_sidecar(sidecar)
        if record is None or record.get("task") != "depth" or recorded_image(record) != photo.resolve():
            continue
        with suppress(ValueError):  # the record names no file
            depth = sidecar.with_name(str(record["files"].get("depth")))
            if depth.is_file():
                return depth, record
    unrecorded = out / f"{name}.depth.png"
    return (unrecorded, {}) if unrecorded.is_file() and not likely.exists() else None


def scene_projection(files: SceneFiles, view: ViewOptions) -> Projection:
    """Return the projection by flags, else by the files.

    Raises:
        UserError: contradicting flags, or files that show a sphere.
    """
    from jointnet_cli.convert.conventions import stated_view

    stated = stated_view(files.record)
    perspective = stated if isinstance(stated, Projection) and stated.kind == "perspective" else PERSPECTIVE
    return projection_of(view, files.image, files.depth) or perspective


def read_scene(
    files: SceneFiles,
    projection: Projection,
    scale: SceneOptions,
    kind: DepthKind = "auto",
    channel: str | None = None,
    *,
    quiet: bool = False,
) -> Scene:
    """Return the scene that they hold, with the second layer beside the depth unless `scale.layers` decides otherwise.

    Distances in metres (an EXR's `Z`, and other floating-point distances that exceed 1) are taken as they are, unless
    flags state a scale. `channel` names the channel of an EXR that is depth. What the depth was taken for is said on stderr.

    Raises:
        UserError: files that cannot be read or differ in size, and contradicting flags.
    """
    from jointnet_cli.files.exr import exr_notes
    from jointnet_cli.files.images import read_image
    from jointnet_cli.scene.layer_file import layer_path, read_layer
    from jointnet_cli.scene.scene import SKY, scene_of

    image = read_image(files.image)
    if files.image != files.depth:
        for words in exr_notes(files.image):
            note(f"{files.image}: {words}", quiet)
    depth = _read_depth(files.depth, kind, channel, scale)
    note(f"{files.depth}: {depth.meaning}", quiet)
    require_one_size((files.image, image), (files.depth, depth.values))
    if depth.metres:
        return _metric_scene(image, depth.values, projection, sharpen=scale.sharpen)
    known, sky = depth.scale or scale.scale(depth.values), SKY if depth.has_sky else -1.0
    scene = scene_of(image, depth.values, projection, known, sky=sky, sharpen=scale.sharpen)
    layer = layer_path(files.depth)
    return read_layer(layer, scene) if scale.layers is None and layer and layer.is_file() else scene


def _of_result(sidecar: Path, depth: Path | None) -> SceneFiles:
    with reading(sidecar, "name the image or the EXR", cause="it is not the record of a result"):
        record = load_json(sidecar)
        names = {key: sidecar.with_name(name) for key, name in record["files"].items()}
        exr = names.get("exr")
        image = exr if exr and exr.is_file() else names.get("image")
    depth = depth or (image if image == exr else names.get("depth"))
    if image is None or depth is None:
        raise UserError(f"{sidecar} names no image with depth", "name the image, and give --depth FILE")
    with reading(sidecar):
        require_files({"image": image, "depth": depth}, str(sidecar))
    return SceneFiles(sidecar.name.removesuffix(SIDECAR), image, depth, record)


def _read_depth(path: Path, kind: DepthKind, channel: str | None, wanted: SceneOptions) -> _Depth:
    """Return the depth of a file by its record or, without one, by its numbers.

    Of whole numbers nobody knows how many metres 1 is.
    """
    from jointnet_cli.convert.read import scaled_disparity
    from jointnet_cli.files.maps import depth_numbers, disparity_of_distance, disparity_of_numbers, with_endless_sky
    from jointnet_cli.scene.scene import DepthScale

    if (recorded := recorded_depth(path, kind, channel)) is not None:
        depth, meaning = recorded
        if depth.quantity == "disparity":
            return _Depth(depth.values, meaning, None if wanted.stated else depth.scale)
        if wanted.stated:
            return _Depth(disparity_of_distance(depth.values), meaning)
        return _Depth(with_endless_sky(depth.values), meaning, metres=True)
    numbers = depth_numbers(path, channel)
    if numbers.are_distances(kind):
        if numbers.whole is None and not wanted.stated:
            meaning = numbers.meaning(f"distance, taken for metres{numbers.origin}")
            return _Depth(with_endless_sky(numbers.values), meaning, metres=True)
    elif wanted.depth_scale is not None and wanted.depth_shift is not None:
        given = DepthScale.from_scale(wanted.depth_scale, wanted.depth_shift)
        values, scale, moved = scaled_disparity(path, numbers.values, given, raw=True)
        if moved:
            meaning = numbers.meaning(f"disparity{numbers.origin}{moved}")
            return _Depth(values, meaning, scale, has_sky=False)  # its lowest number is some distance, too
    return _Depth(*disparity_of_numbers(path, numbers, kind))


def _metric_scene(
    image: NDArray[np.float32], distance: NDArray[np.float32], projection: Projection, *, sharpen: bool
) -> Scene:
    import numpy as np

    from jointnet_cli.scene.edges import sharpen_edges
    from jointnet_cli.scene.scene import FAR, NEAR, DepthScale, Layer, Scene

    if sharpen:
        inverse = (1 / distance).astype(np.float32)  # 0 for the sky
        edges = sharpen_edges(inverse, lambda nearness: nearness, wrap=projection.wrap)
        with np.errstate(divide="ignore"):
            distance = np.where(edges == inverse, distance, 1 / edges)
    hits = distance[np.isfinite(distance)]
    near, far = (float(hits.min()), float(hits.max())) if hits.size else (NEAR, FAR)
    # A wall straight ahead has one distance, and a scale two.
    scale = DepthScale.from_range(near, max(far, 1.001 * near), "file")
    return Scene(Layer(image, distance), None, projection, scale)
