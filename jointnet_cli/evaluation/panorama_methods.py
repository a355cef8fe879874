"""Methods of the panorama table (paper, Table 3): the tilings of a joint model, and finished panoramas."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from jointnet_cli.evaluation.cases import Case, Cases, FolderImages
from jointnet_cli.evaluation.joint_methods import JointMethod
from jointnet_cli.evaluation.methods import Kinds, Method, MethodSettings, Prediction
from jointnet_cli.evaluation.metrics.panoramas import count_crops, panorama_seams
from jointnet_cli.evaluation.report import run_facts
from jointnet_cli.projection import FULL_CIRCLE
from jointnet_cli.sampling.layout import panorama_layout
from jointnet_cli.sampling.presets import METHODS as TILINGS
from jointnet_cli.sampling.presets import Method as Tiling
from jointnet_cli.sampling.presets import Sampling
from jointnet_cli.tasks import Panorama

PLACES = {"last_tiles": "tiles", "wrap": "wrap"}
"""Where seams are measured by default, and the keys in records."""


@dataclass(frozen=True)
class Canvas:
    """The size and the view of a panorama; `None` is the default of the model."""

    width: int | None = None
    """Pixels; `None` is four times the height."""
    height: int | None = None
    span: float = FULL_CIRCLE
    """Horizontal field of view in degrees."""
    wrap: bool = True


class DrawPanorama(JointMethod):
    """A panorama by one of the tilings of the paper's Table 3."""

    def __init__(self, tiling: Tiling, canvas: Canvas, value: str, settings: MethodSettings) -> None:
        super().__init__(value, settings)
        self._tiling, self._canvas = tiling, canvas

    @cached_property
    def identity(self) -> str:
        return f"{self.folder.weights_hash()} {self.sampling} {self.place}"

    def predict(self, case: Case) -> Prediction:
        result = self.engine.panorama(self.task(case.prompt, case.seed, self.settings.sampling))
        maps = result.maps
        settings = run_facts(result.settings)
        return Prediction(result.image, maps.get("depth"), normal=maps.get("normal"), settings=settings)

    def task(self, prompt: str, seed: int, sampling: Sampling) -> Panorama:
        """Return the request of one panorama."""
        canvas = self._canvas
        height = canvas.height or self.folder.size
        width = canvas.width or 4 * height
        view = {"span": canvas.span, "wrap": canvas.wrap, "method": self._tiling, "sampling": sampling}
        return Panorama(prompt=prompt, seed=seed, width=width, height=height, **view)  # type: ignore[arg-type]


class MeasurePanorama(DrawPanorama):
    """A panorama with its seconds and seams.

    Raises:
        UserError: a size that does not fit the model or holds fewer than two squares.
    """

    def __init__(self, tiling: Tiling, canvas: Canvas, value: str, settings: MethodSettings) -> None:
        super().__init__(tiling, canvas, value, settings)
        self._warm = False
        task = self.task("", 0, Sampling())
        panorama_layout(task, self.folder)
        count_crops(self.folder.size if task.height is None else task.height, task.width)

    def predict(self, case: Case) -> Prediction:
        engine, sampling = self.engine, self.settings.sampling
        if not self._warm:  # what a device does only once, such as choosing kernels, is no part of the seconds
            engine.panorama(self.task("", 0, replace(sampling, steps=2)))
            self._warm = True
        result = engine.panorama(self.task(case.prompt, case.seed, sampling))
        ratios = panorama_seams(engine, result)
        measured = {
            "seconds": result.seconds,
            "evaluations": result.settings["evaluations"],
            "stride": None if self._tiling == "direct" else result.settings["layout"]["stride"],
            "seams": {
                modality: {PLACES[place]: each["to_mean"] for place, each in places.items() if place in PLACES}
                for modality, places in ratios.items()
            },
            "ratios": ratios,
            "hardware": _hardware(engine.device),
        }
        return Prediction(
            result.image, result.maps.get("depth"), settings=run_facts(result.settings), measured=measured
        )


def _hardware(device: torch.device) -> str:
    """Return what the seconds were measured on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"


class FinishedPanoramas(Method):
    """Finished panoramas, without seconds, depth and tiles. They are copied, in 8 bits as drawn ones are kept."""

    def __init__(self, value: str, settings: MethodSettings) -> None:
        self._images = FolderImages(Path(value))

    @property
    def identity(self) -> str:
        return self._images.digest

    def count(self, cases: Cases) -> int:
        return len(self._images)

    def predict(self, case: Case) -> Prediction:
        stem = self._images.paths[case.number].stem
        measured: dict[str, Any] = {"prompt": stem, "seconds": None, "stride": None, "seams": {}, "hardware": None}
        return Prediction(self._images.image(case.number), measured=measured)


def panorama_kinds(canvas: Canvas) -> Kinds:
    """Return the kinds of the panorama table."""
    return {
        **{tiling: partial(MeasurePanorama, tiling, canvas) for tiling in TILINGS},
        "folder": FinishedPanoramas,
    }
