"""A finished result and its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import pi
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jointnet_cli.errors import UserError
from jointnet_cli.files.atomic import write_text
from jointnet_cli.files.metadata import gpano_xmp
from jointnet_cli.files.paths import LAYER, SIDECAR, check_free
from jointnet_cli.files.text import PNG_KEY, to_json
from jointnet_cli.modality import MODALITIES
from jointnet_cli.names import result_name
from jointnet_cli.progress import Timer
from jointnet_cli.projection import Projection
from jointnet_cli.record import describe, exr_attributes, is_record_of, png_text, read_sidecar, record
from jointnet_cli.request import Request
from jointnet_cli.scene.exports import SceneOptions, with_companions, write_exports

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from jointnet_cli.sampling.layout import Tile
    from jointnet_cli.scene.scene import Scene


@dataclass
class Result:
    """One finished item, in memory."""

    task: Request
    image: NDArray[np.float32]
    """(H, W, 3) sRGB in [0, 1]."""
    maps: dict[str, NDArray[np.float32]]
    """`depth`: (H, W) relative disparity in [0, 1], near = 1; `normal`: (H, W, 3) camera-space unit vectors."""
    projection: Projection
    settings: dict[str, Any]
    """Everything that decides the pixels, resolved: model name and hash, steps, guidance, scheduler, size, dtype …"""
    timer: Timer
    """Seconds of the phases, and what reports them while the files are written."""
    uncertainty: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """Of an ensemble, by map, (H, W): the members' standard deviation in disparity, or for normals their RMS angle to the
    mean in radians."""
    tiles: list[list[Tile]] = field(default_factory=list)
    """Of `generate` and `panorama`, the tiles of every step, in latent pixels."""

    @property
    def timings(self) -> dict[str, float]:
        """Seconds by phase: `text`, `encode`, `denoise`, `decode`; then also those of the files, from `layer` to `files`."""
        return self.timer.seconds

    @property
    def seconds(self) -> float:
        """Seconds from the request to the pixels."""
        return sum(self.timings.get(phase, 0.0) for phase in ("text", "encode", "denoise", "decode"))

    def scene(self, options: SceneOptions | None = None) -> Scene:
        """Return the result as a scene of one layer; without options at the assumed range of distances.

        Raises:
            UserError: known distances that do not fit the image.
        """
        from jointnet_cli.scene.scene import scene_of

        options, depth = options or SceneOptions(), self.maps["depth"]
        return scene_of(self.image, depth, self.projection, options.scale(depth), sharpen=options.sharpen)

    def save(
        self,
        out: str | Path,
        *,
        index: int = 0,
        overwrite: bool = False,
        metadata: bool = True,
        scene: SceneOptions | None = None,
    ) -> dict[str, Path]:
        """Write the files that the command line writes, and return their paths by key.

        Args:
            out: the folder.
            index: number in a batch, from 0, which file names of prompts begin with.
            overwrite: whether files that exist are replaced.
            metadata: whether a sidecar and the other files say how the result was made.
            scene: scale and files of the scene. The scene has one layer, also where `layers` is true.

        Raises:
            UserError: a file exists and `overwrite` is not set, or the folder cannot be written to.
        """
        name = result_name(self.task, index, model=str(self.settings.get("model", "")))
        files = ResultFiles.plan(
            Path(out),
            self.task.name,
            name,
            list(self.maps),
            uncertain=list(self.uncertainty),
            scene=replace(scene, layers=False) if scene else None,
            metadata=metadata,
        )
        check_free(files.all, overwrite)
        files.write_images(self)
        if files.scene:
            files.write_scene(self, self.scene(scene))
        files.write_record(self)
        return files.paths


@dataclass(frozen=True)
class ResultFiles:
    """The files of one result: planned before a model is loaded, written in three steps.

    Each file appears whole or not at all. The sidecar comes last and an old one goes first, so that where a sidecar is, its
    files are complete and are the ones it describes.
    """

    paths: dict[str, Path]
    """By key, in the order in which they are written."""
    sidecar: Path
    """Where the record is, or an old one may be."""
    options: SceneOptions = field(default_factory=SceneOptions)
    """What is made of the scene."""

    @classmethod
    def plan(
        cls,
        out: Path,
        kind: str,
        stem: str,
        maps: Sequence[str],
        *,
        uncertain: Sequence[str] = (),
        scene: SceneOptions | None = None,
        metadata: bool = True,
    ) -> ResultFiles:
        """Plan what `expected_files` lists in the folder `out`; without `metadata` no file says how it was made."""
        names = expected_files(kind, stem, maps, scene=scene, uncertain=uncertain)
        paths = {key: out / name for key, name in names.items()}
        sidecar = paths["metadata"]
        if not metadata:
            del paths["metadata"]
        return cls(paths, sidecar, scene or SceneOptions())

    @property
    def scene(self) -> dict[str, Path]:
        """The files that are made of the scene."""
        exports = self.options.files("")
        return {key: path for key, path in self.paths.items() if key in exports}

    @property
    def layer(self) -> Path:
        """Where the second layer is, or an old one may be."""
        return self.sidecar.with_name(self.stem + LAYER)

    @property
    def stem(self) -> str:
        """The part that the names of all files share."""
        return self.sidecar.name.removesuffix(SIDECAR)

    @property
    def all(self) -> list[Path]:
        """What may be written, and an old sidecar and layer that may be removed: what has to be free."""
        return list(dict.fromkeys([*self.paths.values(), *with_companions(self.scene), self.sidecar, self.layer]))

    def complete(self, task: Request) -> bool:
        """Return whether an earlier run of the same request has made all of these files.

        The sidecar shows it, because it is written last; without `metadata` all files have to be there.

        Raises:
            UserError: the sidecar is of another request.
        """
        made = read_sidecar(self.sidecar) if "metadata" in self.paths else None
        if made is not None and not is_record_of(made, task):
            hint = "add --overwrite, or choose another --out or --name"
            raise UserError(f"{self.sidecar} is the record of another result", hint)
        known = made is not None or "metadata" not in self.paths
        return known and all(path.is_file() and path.stat().st_size for path in self.paths.values())

    def write_images(self, result: Result) -> None:
        """Write the image, the maps, their uncertainty, the preview and the EXR, timed as `files`."""
        from jointnet_cli.files.color import colorize
        from jointnet_cli.files.exr import write_exr
        from jointnet_cli.files.images import write_grey_png, write_normal_png, write_png

        self.sidecar.parent.mkdir(parents=True, exist_ok=True)
        self.sidecar.unlink(missing_ok=True)
        self.layer.unlink(missing_ok=True)
        image, maps, uncertainty = result.image, result.maps, result.uncertainty
        text = png_text(result) if "metadata" in self.paths else {}
        attributes = exr_attributes(result) if "metadata" in self.paths else {}
        panorama = {}
        if "metadata" in self.paths and result.projection.kind == "cylindrical":
            panorama = {PNG_KEY: gpano_xmp(result.projection, image.shape[1], image.shape[0])}
        write_map = {"disparity": write_grey_png, "direction": write_normal_png, "color": write_png}
        with result.timer.phase("files"):
            for key, path in self.paths.items():
                name = key.removesuffix("_uncertainty")
                if key == "image":
                    write_png(path, image, text | panorama)
                elif key in maps:
                    write_map[MODALITIES[key].values](path, maps[key], text)
                elif name in uncertainty:
                    angles = MODALITIES[name].values == "direction"
                    write_grey_png(path, uncertainty[name] / pi if angles else uncertainty[name], text)
                elif key == "preview":
                    write_png(path, colorize(maps["depth"]), text)
                elif key == "exr":
                    write_exr(path, image, maps, attributes, result.projection, uncertainty)

    def write_scene(self, result: Result, scene: Scene) -> None:
        """Write the second layer and what is made of the scene, timed as `write_exports` says."""
        if "layer" in self.paths:
            from jointnet_cli.scene.layer_file import write_layer

            with result.timer.phase("files"):
                write_layer(self.layer, scene, exr_attributes(result) if "metadata" in self.paths else {})
        prompt, name = result.task.prompt, self.stem
        words, extras = (prompt or name, record(result)) if "metadata" in self.paths else (name, None)
        write_exports(scene, self.scene, self.options, title=words, record=extras, timer=result.timer)

    def write_record(self, result: Result) -> None:
        """Write the sidecar: how the result was made, its timings and its files."""
        if "metadata" in self.paths:
            write_text(self.sidecar, to_json(describe(result, self.paths), indent=2) + "\n")


def expected_files(
    kind: str,
    stem: str,
    maps: Sequence[str],
    *,
    scene: SceneOptions | None = None,
    uncertain: Sequence[str] = (),
) -> dict[str, str]:
    """Return the file names of one result by key, in the order in which they are written; the sidecar comes last.

    `kind` is a task's verb and `maps` names the dense maps (`depth`, `normal`), `uncertain` those of which there is an
    uncertainty. A depth task has no `image`: the photo is the user's own. It has a coloured `preview` instead; that and
    what is made of the `scene` need a depth map. A scene with layers also has a file of its second layer.
    """
    files = {} if kind == "depth" else {"image": f"{stem}.image.png"}
    for name in maps:
        files[name] = f"{stem}.{name}.png"
        if name in uncertain:
            files[f"{name}_uncertainty"] = f"{stem}.{name}-uncertainty.png"
    if kind == "depth" and "depth" in maps:
        files["preview"] = f"{stem}.preview.png"
    files["exr"] = f"{stem}.rgb{''.join(name[0] for name in maps)}.exr"
    if scene and "depth" in maps and (exports := scene.files(stem)):
        files |= {"layer": f"{stem}{LAYER}"} if scene.layers else {}
        files |= exports
    files["metadata"] = f"{stem}{SIDECAR}"
    return files
