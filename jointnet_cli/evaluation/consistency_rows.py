"""Where the samples of each row of the consistency table come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.cases import ShardCases
from jointnet_cli.evaluation.folders import WORDS, digest, find_pairs, take_apart
from jointnet_cli.evaluation.joint_methods import Model
from jointnet_cli.evaluation.measure import Record
from jointnet_cli.evaluation.methods import MethodSpec
from jointnet_cli.evaluation.metrics.consistency import OTHER_NOISE, ConsistencySample
from jointnet_cli.evaluation.report import run_facts
from jointnet_cli.files.images import read_disparity_png, read_image, write_grey_png, write_normal_png, write_png
from jointnet_cli.files.maps import read_map
from jointnet_cli.sampling.presets import Sampling
from jointnet_cli.tasks import Depth, Generate, Panorama
from jointnet_cli.tensors import relative_disparity

Place = Callable[[int, str], Path]
"""From an item's number and a suffix to a file of it."""
IMAGE, DEPTH, NORMAL, AGAIN = ".image.png", ".depth.png", ".normal.png", ".again.png"


@dataclass(frozen=True)
class Sampled:
    """What all rows sample."""

    prompts: Sequence[str]
    """Sample n is drawn from prompt n, one after the other and again from the first, with seed n."""
    samples: int
    panoramas: int
    width: int | None = None
    """Of the panoramas, pixels; `None` is four times the model's size."""
    sampling: Sampling = field(default_factory=Sampling)
    device: str | None = None
    dtype: str | None = None


class SampleSource(Protocol):
    """Samples by number; what it needs is opened when the first one is made."""

    panoramas: int
    """How many of its panoramas there can be."""
    grid: int
    """Pixels of a latent pixel."""

    @property
    def identity(self) -> str:
        """What tells its samples from those of any other model, files or settings."""
        ...

    def __len__(self) -> int:
        """How many samples there can be."""
        ...

    def make(self, number: int, place: Place) -> Record:
        """Make a sample and keep it; its record, ready for JSON."""
        ...

    def read(self, number: int, place: Place) -> ConsistencySample:
        """A sample that was made."""
        ...

    def make_panorama(self, number: int, place: Place) -> Record:
        """Make a closed panorama and keep it."""
        ...


class Generated:
    """What a joint model draws, and the depth that it predicts from its own pictures."""

    def __init__(self, value: str, how: Sampled) -> None:
        self._model, self._how = Model(value, device=how.device, dtype=how.dtype), how
        self._model.require("depth")
        self.panoramas, self.grid = how.panoramas, self._model.folder.factor

    @cached_property
    def identity(self) -> str:
        return f"{self._model.folder.weights_hash()} {self._how.sampling} {self._model.place}"

    def __len__(self) -> int:
        return self._how.samples

    def make(self, number: int, place: Place) -> Record:
        """Depth is predicted from the picture as it is kept, without its prompt and from other noise."""
        prompt = self._prompt(number)
        engine = self._model.engine
        result = engine.generate(Generate(prompt=prompt, seed=number, sampling=self._how.sampling))
        self._keep(result.image, result.maps, number, place)
        picture = read_image(place(number, IMAGE))
        again = engine.depth(Depth(image=picture, seed=number + OTHER_NOISE))
        write_grey_png(place(number, AGAIN), again.maps["depth"])
        return {"number": number, "prompt": prompt, "settings": run_facts(result.settings)}

    def read(self, number: int, place: Place) -> ConsistencySample:
        """From the files, as anybody gets them."""
        normal = place(number, NORMAL)
        return ConsistencySample(
            read_image(place(number, IMAGE)),
            read_disparity_png(place(number, DEPTH)),
            read_map(normal, "normal").values if normal.exists() else None,
            read_disparity_png(place(number, AGAIN)),
        )

    def make_panorama(self, number: int, place: Place) -> Record:
        prompt = self._prompt(number)
        width = self._how.width or 4 * self._model.folder.size
        task = Panorama(prompt=prompt, seed=number, width=width, sampling=self._how.sampling)
        result = self._model.engine.panorama(task)
        self._keep(result.image, result.maps, number, place)
        return {"number": number, "prompt": prompt, "settings": run_facts(result.settings)}

    def _prompt(self, number: int) -> str:
        return self._how.prompts[number % len(self._how.prompts)]

    @staticmethod
    def _keep(image: NDArray[np.float32], maps: dict[str, NDArray[np.float32]], number: int, place: Place) -> None:
        write_png(place(number, IMAGE), image)
        write_grey_png(place(number, DEPTH), maps["depth"])
        if "normal" in maps:
            write_normal_png(place(number, NORMAL), maps["normal"])


class Given:
    """Results that are there already; none is a panorama."""

    panoramas, grid = 0, 1

    def make(self, number: int, place: Place) -> Record:
        """Nothing is made, but what cannot be read is found out here, where it spoils one sample only."""
        sample = self.read(number, place)
        if sample.image.shape[:2] != sample.disparity.shape:
            raise UserError(f"the picture is {sample.image.shape[:2]} and its depth {sample.disparity.shape}")
        return {"number": number, "settings": {}}

    def read(self, number: int, place: Place) -> ConsistencySample:
        raise NotImplementedError

    def make_panorama(self, number: int, place: Place) -> Record:
        raise IndexError(number)


class Rendered(Given):
    """Pictures with true maps from shards: what the measures say of maps that belong together."""

    def __init__(self, value: str, how: Sampled) -> None:
        if not value:
            raise UserError("shards: names no folder", hint="shards:FOLDER of `jointnet prepare --source worlds`")
        self._scenes = ShardCases(value, "depth")
        self._count = min(len(self._scenes), how.samples)
        self.identity = str(self._scenes.facts)

    def __len__(self) -> int:
        return self._count

    def read(self, number: int, place: Place) -> ConsistencySample:
        scene = self._scenes[number]
        disparity = relative_disparity(torch.from_numpy(scene.inverse_depth)[None])[0].numpy()
        return ConsistencySample(scene.image, disparity, scene.normal, intrinsics=scene.intrinsics)


class FinishedSamples(Given):
    """Finished pictures with their depth and, where they have them, normals."""

    def __init__(self, value: str, how: Sampled) -> None:
        folder = Path(value)
        self._depth = find_pairs(folder, "depth")
        try:
            normals = {key: file for key, (_, file) in find_pairs(folder, "normal").items()}
        except UserError:  # there are none
            normals = {}
        # A file of numbers that nothing calls normals is depth.
        self._normal = {key: file for key, file in normals.items() if _is_normal(file, folder, self._depth.get(key))}
        self._keys = list(self._depth)[: how.samples]
        self.identity = digest(folder, {key: file for key, (_, file) in self._depth.items()})

    def __len__(self) -> int:
        return len(self._keys)

    def read(self, number: int, place: Place) -> ConsistencySample:
        key = self._keys[number]
        picture, depth = self._depth[key]
        normal = self._normal.get(key)
        return ConsistencySample(
            read_image(picture),
            read_map(depth, "depth").values,
            None if normal is None else read_map(normal, "normal").values,
        )


def _is_normal(file: Path, folder: Path, with_depth: tuple[Path, Path] | None) -> bool:
    """Whether a file holds normals, and not only the depth that was found at the same key."""
    is_depth = with_depth is not None and with_depth[1] == file
    return not is_depth or take_apart(file.relative_to(folder)).word in WORDS["normal"]


KINDS: dict[str, Callable[[str, Sampled], SampleSource]] = {
    "jointnet": Generated,
    "shards": Rendered,
    "folder": FinishedSamples,
}


def open_source(row: MethodSpec, how: Sampled) -> SampleSource:
    """The source of a row whose kind is one of `KINDS`.

    Raises:
        UserError: a model, shards or a folder that is not there.
    """
    return KINDS[row.kind](row.value, how)
