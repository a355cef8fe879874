"""Where the pictures of each row of Tables 1 and 5 come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.folders import digest
from jointnet_cli.evaluation.joint_methods import Model
from jointnet_cli.evaluation.methods import GeneratedImage, ImageRequest, Maker, Making, MethodSpec
from jointnet_cli.evaluation.pipelines import ControlNetDepth, Ldm3d, Sd2Depth
from jointnet_cli.evaluation.report import run_facts
from jointnet_cli.evaluation.runner import needed_by_all
from jointnet_cli.model.folder import RGB
from jointnet_cli.tasks import Generate

FOLDER = "folder"
"""The kind of row whose pictures are there already."""


class GenerateImage:
    """A joint model of any architecture: JointNet, Direct Extend, ControlNet + Direct Extend."""

    def __init__(self, value: str, how: Making) -> None:
        self.model, self._how = Model(value, device=how.device, dtype=how.dtype), how

    @cached_property
    def identity(self) -> str:
        return f"{self.model.folder.weights_hash()} {self._how.sampling} {self._how.dtype}"

    def __call__(self, wish: ImageRequest) -> GeneratedImage:
        maps = {} if wish.disparity is None else {"depth": wish.disparity}
        task = Generate(prompt=wish.prompt, seed=wish.seed, maps=maps, sampling=self._how.sampling)
        result = self.model.engine.generate(task)
        settings = {"architecture": self.model.folder.architecture, **run_facts(result.settings)}
        return GeneratedImage(result.image, None if maps else result.maps.get("depth"), settings)


class PaintForDepth(GenerateImage):
    """A joint model that paints for given depth."""

    def __init__(self, value: str, how: Making) -> None:
        super().__init__(value, how)
        self.model.require("depth")


class Base(GenerateImage):
    """A model of pictures alone, which joint ones are trained from."""

    def __init__(self, value: str, how: Making) -> None:
        if not value:
            raise UserError("base: names no model", hint="base:MODEL, the model that the joint one was trained from")
        super().__init__(value, how)
        if self.model.folder.branches != [RGB]:
            have = ", ".join(self.model.folder.branches)
            raise UserError(f"{value} is no base model: it has {have}", hint=f"jointnet:{value}")


class Peer:
    """A pipeline of diffusers (`pipelines.py`), loaded at the first image."""

    def __init__(
        self, load: Callable[[str, Making], Callable[[ImageRequest], GeneratedImage]], value: str, how: Making
    ) -> None:
        if not value:
            raise UserError("a row lacks its model", hint="ldm3d:ID, sd2-depth:ID, controlnet-depth:CONTROLNET,BASE")
        self._load, self._value, self._how = load, value, how

    @cached_property
    def identity(self) -> str:
        folders = [Path(part) for part in self._value.split(",") if Path(part).is_dir()]
        states = [digest(folder, {str(path): path for path in _files(folder)}) for folder in folders]
        return f"{' '.join(states)} {self._how.sampling} {self._how.dtype}"

    @cached_property
    def _pipeline(self) -> Callable[[ImageRequest], GeneratedImage]:
        with needed_by_all():
            return self._load(self._value, self._how)

    def __call__(self, wish: ImageRequest) -> GeneratedImage:
        return self._pipeline(wish)


Makers = Mapping[str, Callable[[str, Making], Maker]]
GENERATION: Makers = {"jointnet": GenerateImage, "base": Base, "ldm3d": lambda value, how: Peer(Ldm3d, value, how)}
DEPTH_TO_IMAGE: Makers = {
    "jointnet": PaintForDepth,
    "sd2-depth": lambda value, how: Peer(Sd2Depth, value, how),
    "controlnet-depth": lambda value, how: Peer(ControlNetDepth, value, how),
}


def open_maker(row: MethodSpec, makers: Makers, how: Making) -> Maker:
    """The maker of a row of one of these kinds.

    Raises:
        UserError: a model that is not there or cannot do what the table asks for.
    """
    return makers[row.kind](row.value, how)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
