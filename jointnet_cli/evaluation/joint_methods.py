"""Everything that a joint model predicts but panoramas: depth, normals, images."""

from __future__ import annotations

from functools import cached_property, lru_cache, partial

import numpy as np
import torch
from numpy.typing import NDArray

from jointnet_cli.devices import choose_device, choose_dtype
from jointnet_cli.engine import Engine
from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.baselines import (
    Constant,
    FinishedDepth,
    FinishedNormals,
    FinishedSamples,
    MeanDepth,
    NormalsFromDepth,
    ReducedDepth,
    TeacherDepth,
    TrueMaps,
)
from jointnet_cli.evaluation.cases import Case, Cases
from jointnet_cli.evaluation.methods import Kinds, Method, MethodSettings, Prediction, open_method
from jointnet_cli.evaluation.metrics.consistency import OTHER_NOISE
from jointnet_cli.evaluation.report import run_facts
from jointnet_cli.evaluation.runner import needed_by_all
from jointnet_cli.files.raster import eight_bits, fractions
from jointnet_cli.modality import RGB
from jointnet_cli.model.hub import find_model
from jointnet_cli.results import Result
from jointnet_cli.sampling.presets import resolve
from jointnet_cli.tasks import Depth, Generate, Refine
from jointnet_cli.tensors import from_map, relative_disparity, resize, to_array, to_map, to_tensor


class JointMethod(Method):
    """A joint model: found now, loaded for its first case. Value: `[MODEL][?steps=N&guidance=SCALE…]`.

    Raises:
        UserError: there is no such model, or it lacks the branch.
    """

    branch: str | None = None
    """The branch that it must have."""

    def __init__(self, value: str, settings: MethodSettings) -> None:
        model, _, query = value.partition("?")
        self.settings = settings.override(query)
        self.model_name = model or settings.model
        self.folder = find_model(self.model_name, settings.base)
        self.grid = self.folder.factor
        if self.branch and self.branch not in self.folder.branches:
            have = ", ".join(self.folder.branches)
            raise UserError(f"{self.model_name} has no {self.branch} branch", hint=f"it has {have}")

    @cached_property
    def identity(self) -> str:
        return f"{self.folder.weights_hash()} {self.sampling} {self.settings.dtype}"

    @property
    def sampling(self) -> str:
        """All that decides how it samples."""
        how = resolve(self.settings.sampling, self.folder.defaults, "panorama")
        return f"{self.settings.sampling} {how} {how.tiles}"

    @property
    def place(self) -> str:
        """The kind of device, and the precision."""
        device = choose_device(self.settings.device)
        return f"{device.type} {choose_dtype(self.settings.dtype, device)}"

    @property
    def engine(self) -> Engine:
        """The model in memory, which replaces the one before.

        Raises:
            MethodUnavailable: it cannot be opened.
        """
        with needed_by_all():
            return _open(self.model_name, self.settings.base, self.settings.device, self.settings.dtype)


@lru_cache(maxsize=1)
def _open(name: str, base: str | None, device: str | None, dtype: str | None) -> Engine:
    return Engine.open(name, base=base, device=device, dtype=dtype)


class PredictDepth(JointMethod):
    """Depth from the image."""

    branch = "depth"

    @cached_property
    def identity(self) -> str:
        how = self.settings
        return f"{self.folder.weights_hash()} ensemble {how.ensemble} {self.sampling} {how.dtype}"

    def predict(self, case: Case) -> Prediction:
        how = self.settings
        task = Depth(image=case.image, seed=case.seed, ensemble=how.ensemble, sampling=how.sampling)
        result = self.engine.depth(task)
        settings = {**run_facts(result.settings), "ensemble": how.ensemble}
        maps = result.maps
        return Prediction(depth=maps.get("depth"), relative=True, normal=maps.get("normal"), settings=settings)


class PredictNormals(PredictDepth):
    """Normals from the image."""

    branch = "normal"


class RefineDepth(PredictDepth):
    """The depth of another method, refined under the image (paper 5.2)."""

    def __init__(self, value: str, settings: MethodSettings) -> None:
        super().__init__(value, settings)
        others = {kind: opened for kind, opened in DEPTH.items() if kind != "refine"}
        self._coarse = open_method(settings.refine_from, others, settings)
        self.ranked = self._coarse.ranked

    @cached_property
    def identity(self) -> str:
        return f"{self._coarse.key} {super().identity} strength {self.settings.strength}"

    def predict(self, case: Case) -> Prediction:
        coarse = self._coarse.predict(case)
        depth = coarse.depth
        assert depth is not None
        if not coarse.relative:
            depth = relative_disparity(torch.from_numpy(depth)[None])[0].numpy()
        task = Refine(
            image=case.image,
            maps={"depth": depth},
            prompt=case.prompt,
            seed=case.seed,
            target="depth",
            scale=1,
            strength=self.settings.strength,
            sampling=self.settings.sampling,
        )
        refined = self.engine.refine(task)
        settings = {**run_facts(refined.settings), "of": {"method": self._coarse.spec, **coarse.settings}}
        return Prediction(depth=refined.maps["depth"], relative=True, settings=settings)


class Reconstruct(JointMethod):
    """The true depth through the VAE and back: a limit that no prediction of the model can exceed by much."""

    branch = "depth"
    ranked = False

    @cached_property
    def identity(self) -> str:
        return self.folder.weights_hash()

    @torch.inference_mode()
    def predict(self, case: Case) -> Prediction:
        assert case.inverse_depth is not None
        model, (height, width) = self.engine.model, case.inverse_depth.shape
        sides = [max(1, round(side / model.factor)) * model.factor for side in (height, width)]
        truth = relative_disparity(torch.from_numpy(case.inverse_depth)[None])
        decoded = model.decode(model.encode(to_map(resize(truth, (sides[0], sides[1]), "depth"), "depth")))
        depth = resize(from_map(decoded, "depth").cpu(), (height, width), "depth")[0]
        return Prediction(depth=depth.float().numpy())


class GenerateImage(JointMethod):
    """An image from the prompt, by a joint model of any architecture."""

    def predict(self, case: Case) -> Prediction:
        result = self.generate(case)
        settings = {"architecture": self.folder.architecture, **run_facts(result.settings)}
        return Prediction(result.image, result.maps.get("depth"), settings=settings)

    def generate(self, case: Case, depth: NDArray[np.float32] | None = None) -> Result:
        """Generate from prompt and seed, for a given depth if there is one."""
        maps = {} if depth is None else {"depth": depth}
        task = Generate(prompt=case.prompt, seed=case.seed, maps=maps, sampling=self.settings.sampling)
        return self.engine.generate(task)


class GenerateWithBase(GenerateImage):
    """An image from an RGB-only model, which joint models are trained from."""

    def __init__(self, value: str, settings: MethodSettings) -> None:
        if not value:
            raise UserError("base needs a model: base:MODEL", hint="the model that the joint one was trained from")
        super().__init__(value, settings)
        if self.folder.branches != [RGB]:
            have = ", ".join(self.folder.branches)
            raise UserError(f"{value} is not an RGB-only model: it has {have}", hint=f"jointnet:{value}")


class ReconstructImage(GenerateImage):
    """The real image through the VAE and back, at the size of the model: no image of the model can look better."""

    ranked = False

    @cached_property
    def identity(self) -> str:
        return self.folder.weights_hash()

    def require(self, cases: Cases, count: int) -> None:
        if count and not cases[0].image.size:
            raise UserError("autoencoder needs real images", hint="give --shards, without --prompts")

    @torch.inference_mode()
    def predict(self, case: Case) -> Prediction:
        engine, size = self.engine, (self.folder.size, self.folder.size)
        image = to_tensor(case.image)
        if image.shape[-2:] != size:
            image = resize(image, size, RGB)
        decoded = engine.model.decode(engine.model.encode(to_map(image, RGB)))
        return Prediction(to_array(from_map(decoded, RGB).cpu()), settings={"model": engine.name})


class PaintForDepth(GenerateImage):
    """An image for the true depth."""

    branch = "depth"

    def predict(self, case: Case) -> Prediction:
        result = self.generate(case, case.relative_depth)
        settings = {"architecture": self.folder.architecture, **run_facts(result.settings)}
        return Prediction(result.image, settings=settings)


class GenerateSample(GenerateImage):
    """An image with all maps, and the depth predicted again from the image as it is kept, without prompt, from other noise."""

    branch = "depth"

    @cached_property
    def identity(self) -> str:
        return f"{self.folder.weights_hash()} {self.sampling} {self.place}"

    def predict(self, case: Case) -> Prediction:
        result = self.generate(case)
        kept = fractions(eight_bits(result.image.clip(0, 1)))
        again = self.engine.depth(Depth(image=kept, seed=case.seed + OTHER_NOISE))
        maps = result.maps
        return Prediction(
            result.image,
            maps["depth"],
            normal=maps.get("normal"),
            again=again.maps["depth"],
            settings=run_facts(result.settings),
        )


DEPTH: Kinds = {
    "jointnet": PredictDepth,
    "refine": RefineDepth,
    "midas": TeacherDepth,
    "folder": FinishedDepth,
    "constant": Constant,
    "mean-depth": MeanDepth,
    "mean-map": MeanDepth,  # the former name
    "reduced": ReducedDepth,
    "autoencoder": Reconstruct,
}
NORMAL: Kinds = {
    "jointnet": PredictNormals,
    "from-depth": partial(NormalsFromDepth, DEPTH),
    "folder": FinishedNormals,
}
SAMPLES: Kinds = {"jointnet": GenerateSample, "shards": TrueMaps, "folder": FinishedSamples}
