"""Where the panoramas of each row of Table 3 come from: one of four methods, or a folder of finished pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray

from jointnet_cli.engine import Engine
from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.folders import WORDS, digest, take_apart
from jointnet_cli.evaluation.joint_methods import Model
from jointnet_cli.evaluation.methods import MethodSpec
from jointnet_cli.evaluation.metrics.panoramas import count_crops, panorama_seams
from jointnet_cli.evaluation.report import run_facts
from jointnet_cli.files.images import read_image
from jointnet_cli.files.paths import IMAGE_SUFFIXES
from jointnet_cli.results import Result
from jointnet_cli.sampling.layout import panorama_layout
from jointnet_cli.sampling.presets import METHODS, Method, Sampling
from jointnet_cli.tasks import Panorama


@dataclass(frozen=True)
class Motif:
    """What is drawn: every prompt from every seed, the first seed of all prompts first."""

    prompts: Sequence[str]
    seeds: int

    def __len__(self) -> int:
        return len(self.prompts) * self.seeds

    def __getitem__(self, number: int) -> tuple[str, int]:
        """Prompt and seed. All methods start from the same noise."""
        return self.prompts[number % len(self.prompts)], number // len(self.prompts)


@dataclass(frozen=True)
class Canvas:
    """The size and the view of every panorama; the default is the paper's, in the model's own height."""

    width: int | None = None
    """Pixels; `None` is four times the height."""
    height: int | None = None
    """Pixels; `None` is the model's size."""
    span: float = 180.0
    """Horizontal field of view in degrees."""
    wrap: bool = False


@dataclass(frozen=True)
class Drawing:
    """How all rows draw."""

    motif: Motif
    canvas: Canvas = field(default_factory=Canvas)
    sampling: Sampling = field(default_factory=Sampling)
    model: str = "diorama"
    """Of the rows that name none."""
    base: str | None = None
    device: str | None = None
    dtype: str | None = None


@dataclass(frozen=True)
class DrawnPanorama:
    """One panorama and what is known of it."""

    image: NDArray[np.float32]
    """(H, W, 3) sRGB in [0, 1]."""
    disparity: NDArray[np.float32] | None
    """(H, W), near = 1."""
    record: dict[str, Any]
    """`prompt`, `seed`, `seconds`, `hardware`, `stride` in latent pixels, `seams` by map and place, and `settings`."""


class PanoramaMethod(Protocol):
    """Draws panoramas by number; what it needs is opened when the first one is asked for."""

    @property
    def identity(self) -> str:
        """What tells its panoramas from those of any other model, folder or settings."""
        ...

    def __len__(self) -> int:
        """How many there can be."""
        ...

    def __call__(self, number: int) -> DrawnPanorama: ...


class Tiled:
    """A model's panoramas by one of the methods of the paper's Table 3."""

    def __init__(self, method: Method, value: str, how: Drawing) -> None:
        self._method, self._how = method, how
        self._model = Model(value or how.model, base=how.base, device=how.device, dtype=how.dtype)
        self._folder, self._warm = self._model.folder, False
        task = self._task("", 0)
        panorama_layout(task, self._folder)  # refuses sizes that do not fit
        count_crops(self._folder.size if task.height is None else task.height, task.width)

    @cached_property
    def identity(self) -> str:
        return f"{self._folder.weights_hash()} {self._how.sampling} {self._model.place}"

    def __len__(self) -> int:
        return len(self._how.motif)

    def __call__(self, number: int) -> DrawnPanorama:
        prompt, seed = self._how.motif[number]
        engine = self._model.engine
        if not self._warm:  # what a device does only once, such as choosing kernels, is no part of a panorama's time
            engine.panorama(self._task("", 0, replace(self._how.sampling, steps=2)))
            self._warm = True
        result = engine.panorama(self._task(prompt, seed, self._how.sampling))
        stride = None if self._method == "direct" else result.settings["layout"]["stride"]
        record = {
            "prompt": prompt,
            "seed": seed,
            "seconds": result.seconds,
            "stride": stride,
            "seams": seams(engine, result),
            "hardware": _hardware(engine.device),
            "settings": run_facts(result.settings),
        }
        return DrawnPanorama(result.image, result.maps.get("depth"), record)

    def _task(self, prompt: str, seed: int, sampling: Sampling | None = None) -> Panorama:
        canvas = self._how.canvas
        height = canvas.height or self._folder.size
        return Panorama(
            prompt=prompt,
            seed=seed,
            width=canvas.width or 4 * height,
            height=height,
            span=canvas.span,
            wrap=canvas.wrap,
            method=self._method,
            sampling=sampling or Sampling(),
        )


class FinishedPanoramas:
    """Panoramas that are there already, in the order of their names: without seconds, depth and tiles."""

    def __init__(self, value: str, how: Drawing) -> None:
        root = Path(value)
        found = sorted(path for path in root.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        self._files = [path for path in found if take_apart(path.relative_to(root)).word in (None, *WORDS["image"])]
        if not self._files:
            raise UserError(f"folder:{value} holds no pictures", hint=f"looked for {', '.join(IMAGE_SUFFIXES)}")
        self.identity = digest(root, {str(number): path for number, path in enumerate(self._files)})

    def __len__(self) -> int:
        return len(self._files)

    def __call__(self, number: int) -> DrawnPanorama:
        file = self._files[number]
        record: dict[str, Any] = {
            "prompt": file.stem,
            "seconds": None,
            "hardware": None,
            "stride": None,
            "seams": {},
            "settings": {},
        }
        return DrawnPanorama(read_image(file), None, record)


KINDS: dict[str, Callable[[str, Drawing], PanoramaMethod]] = {
    **{method: partial(Tiled, cast(Method, method)) for method in METHODS},
    "folder": FinishedPanoramas,
}


def open_painter(row: MethodSpec, how: Drawing) -> PanoramaMethod:
    """The painter of a row whose kind is one of `KINDS`.

    Raises:
        UserError: a model or folder that is not there, or sizes that do not fit.
    """
    return KINDS[row.kind](row.value, how)


def seams(engine: Engine, result: Result) -> dict[str, dict[str, float]]:
    """Seam error by map (`image`, `depth`) and place (`tiles`, `wrap`).

    The mean step of the columns where the last step's tiles begin or end, or where the ends meet, over the mean step of all
    other columns between latent pixels; 1 is no seam. A place that there is not, or beside which no column is left, is
    missing.
    """
    try:
        found = panorama_seams(engine, result)
    except ValueError:
        return {}
    names = {"last_tiles": "tiles", "wrap": "wrap"}
    return {
        modality: {names[place]: ratios["to_mean"] for place, ratios in places.items() if place in names}
        for modality, places in found.items()
    }


def _hardware(device: torch.device) -> str:
    """What the seconds were taken on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"
