"""Where the disparity of each row of Table 2 comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, get_args

import torch
from torch import Tensor

from jointnet_cli.data.labels.specs import TeacherSpec, parse_spec
from jointnet_cli.data.labels.teachers import NetworkTeacher, open_teacher
from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.cases import Case, samples_with_depth, true_disparity
from jointnet_cli.evaluation.folders import digest, find_maps, match, read_predicted_depth
from jointnet_cli.evaluation.joint_methods import Model
from jointnet_cli.evaluation.methods import MethodSpec
from jointnet_cli.evaluation.metrics.depth import resized
from jointnet_cli.evaluation.report import run_facts
from jointnet_cli.evaluation.runner import needed_by_all
from jointnet_cli.files.maps import DepthKind
from jointnet_cli.files.paths import text_digest
from jointnet_cli.sampling.presets import Sampling
from jointnet_cli.tasks import Depth, Refine
from jointnet_cli.tensors import from_map, relative_disparity, to_map, to_tensor

if TYPE_CHECKING:
    from jointnet_cli.engine import Engine

MIDAS = {"dpt_beit_large_512": "midas-beit-512", "dpt_hybrid_384": "midas-dpt-hybrid"}
"""MiDaS's own names for the networks of the paper, and ours."""


@dataclass(frozen=True)
class Prediction:
    """What a row says of one scene."""

    values: Tensor
    """Of any size: disparity (h, w) up to scale and shift, 0 where there is none, or normals (h, w, 3)."""
    settings: dict[str, Any] = field(default_factory=dict)
    """How it was made, ready for JSON."""


@dataclass(frozen=True)
class Predicting:
    """How all rows predict."""

    sampling: Sampling = field(default_factory=Sampling)
    """The default is each model's own."""
    ensemble: int = 1
    strength: float = 0.4
    """Of a refinement."""
    midas: str = "dpt_beit_large_512"
    """Whose map `midas+refine` refines."""
    device: str | None = None
    dtype: str | None = None


class Predictor(Protocol):
    """Predicts one dense map; what it needs is opened when the first scene comes."""

    @property
    def identity(self) -> str:
        """What tells its predictions from those of any other model, folder or settings."""
        ...

    def __call__(self, scene: Case, number: int) -> Prediction:
        """Raises UserError: a scene that it cannot predict."""
        ...


def open_predictor(row: MethodSpec, how: Predicting) -> Predictor:
    """The predictor of a row whose kind is one of `KINDS`.

    Raises:
        UserError: a model, folder or teacher that is not there.
    """
    return KINDS[row.kind](row.value, how)


class PredictDepth:
    """A dense branch of a joint model, its picture given."""

    modality = "depth"

    def __init__(self, value: str, how: Predicting) -> None:
        self.model, self._how = Model(value, device=how.device, dtype=how.dtype), how
        self.model.require(self.modality)

    @cached_property
    def identity(self) -> str:
        return (
            f"{self.model.folder.weights_hash()} ensemble {self._how.ensemble} {self._how.sampling} {self._how.dtype}"
        )

    def __call__(self, scene: Case, number: int) -> Prediction:
        how = self._how
        task = Depth(image=scene.image, seed=number, ensemble=how.ensemble, sampling=how.sampling)
        result = self.model.engine.depth(task)
        settings = {**run_facts(result.settings), "ensemble": how.ensemble}
        return Prediction(torch.from_numpy(result.maps[self.modality]), settings)


class Midas:
    """MiDaS, or another depth network that `jointnet prepare --label` knows."""

    def __init__(self, value: str, how: Predicting) -> None:
        self._spec: TeacherSpec = parse_spec(f"depth={MIDAS.get(value, value) or MIDAS[how.midas]}")
        self._how = how

    @property
    def identity(self) -> str:
        place = Path(self._spec.source)
        state = _state(place) if place.exists() else ""
        return f"{self._spec.source} {self._spec.settings} {state}"

    @cached_property
    def teacher(self) -> NetworkTeacher:
        with needed_by_all():
            return open_teacher(self._spec, self._how.device)

    def __call__(self, scene: Case, number: int) -> Prediction:
        disparity = self.teacher(to_tensor(scene.image))[0].cpu()
        return Prediction(disparity, {"teacher": self.teacher.name, "hash": self.teacher.hash})


class MidasRefined:
    """MiDaS's map refined by a joint model under the picture (paper 5.2)."""

    def __init__(self, value: str, how: Predicting) -> None:
        self._midas, self._joint, self._how = Midas(how.midas, how), PredictDepth(value, how), how

    @property
    def identity(self) -> str:
        return f"{self._midas.identity} {self._joint.identity} strength {self._how.strength}"

    def __call__(self, scene: Case, number: int) -> Prediction:
        coarse = self._midas(scene, number)
        task = Refine(
            image=scene.image,
            maps={"depth": relative_disparity(coarse.values[None])[0].numpy()},
            seed=number,
            what="depth",
            scale=1,
            strength=self._how.strength,
            sampling=self._how.sampling,
        )
        refined = self._joint.model.engine.refine(task)
        settings = {**run_facts(refined.settings), "of": coarse.settings}
        return Prediction(torch.from_numpy(refined.maps["depth"]), settings)


class FinishedDepth:
    """Finished maps: `PATH` or `PATH?kind=disparity|distance`."""

    def __init__(self, value: str, how: Predicting) -> None:
        path, _, kind = value.partition("?kind=")
        if kind and kind not in get_args(DepthKind):
            raise UserError(f"folder:{value}: no kind {kind!r}", hint=f"there are {', '.join(get_args(DepthKind))}")
        self._kind: DepthKind = kind or "auto"  # type: ignore[assignment]
        self._maps = find_maps(Path(path), "depth")
        self.identity = f"{digest(Path(path), self._maps)} {self._kind}"

    def __call__(self, scene: Case, number: int) -> Prediction:
        return Prediction(torch.from_numpy(read_predicted_depth(match(scene.key, self._maps), self._kind)))


class Constant:
    """One disparity everywhere."""

    identity = ""

    def __init__(self, value: str, how: Predicting) -> None:
        pass

    def __call__(self, scene: Case, number: int) -> Prediction:
        return Prediction(torch.ones(scene.image.shape[:2]))


class MeanMap:
    """The mean disparity of training shards, which sees no picture."""

    def __init__(self, value: str, how: Predicting) -> None:
        if not Path(value).exists() or not value:
            raise UserError(f"mean-map:{value} names no shards", hint="mean-map:FOLDER of the training set")
        self._shards, self.identity = value, _state(Path(value))

    @cached_property
    def _mean(self) -> Tensor:
        with needed_by_all():
            return mean_disparity(self._shards)

    def __call__(self, scene: Case, number: int) -> Prediction:
        return Prediction(self._mean)


class Autoencoder(PredictDepth):
    """The true disparity through a model's VAE and back, which no prediction of it can beat by much."""

    @cached_property
    def identity(self) -> str:
        return self.model.folder.weights_hash()

    def __call__(self, scene: Case, number: int) -> Prediction:
        assert scene.inverse_depth is not None
        return Prediction(round_trip(self.model.engine, torch.from_numpy(scene.inverse_depth)))


KINDS: dict[str, Callable[[str, Predicting], Predictor]] = {
    "jointnet": PredictDepth,
    "midas": Midas,
    "midas+refine": MidasRefined,
    "folder": FinishedDepth,
    "constant": Constant,
    "mean-map": MeanMap,
    "autoencoder": Autoencoder,
}


def _state(path: Path) -> str:
    """What changes with a file or the files of a folder."""
    files = sorted(path.glob("*")) if path.is_dir() else [path]
    facts = [f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files]
    return text_digest("\n".join(facts))


def mean_disparity(shards: str | Path, limit: int | None = 2000) -> Tensor:
    """The mean (H, W) of the relative disparity of the first samples of shards.

    Raises:
        UserError: no shards, or samples without depth.
    """
    total, count = torch.zeros(()), 0
    for sample in samples_with_depth(shards, limit, evaluation=False):
        total = total + relative_disparity(true_disparity(sample)[None])[0]
        count += 1
    return total / count


@torch.inference_mode()
def round_trip(engine: Engine, truth: Tensor) -> Tensor:
    """Relative disparity encoded and decoded by the model's VAE."""
    model = engine.model
    sides = [max(1, round(side / model.factor)) * model.factor for side in truth.shape]
    maps = to_map(resized(relative_disparity(truth[None])[0], torch.Size(sides))[None], "depth")
    return resized(from_map(model.decode(model.encode(maps)), "depth")[0].cpu(), truth.shape)
