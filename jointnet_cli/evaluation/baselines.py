"""Everything else that predicts without diffusers: teachers, constants, true maps, finished files."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from jointnet_cli.data.labels.specs import TeacherSpec, parse_spec
from jointnet_cli.data.labels.teachers import NetworkTeacher, open_teacher
from jointnet_cli.data.shards.shard_set import ShardSet
from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.cases import Case, Cases, FolderImages, ShardCases, relative_depth
from jointnet_cli.evaluation.folders import (
    KIND_WORDS,
    files_digest,
    find_maps,
    find_pairs,
    match,
    place_digest,
    read_predicted_depth,
    split_name,
)
from jointnet_cli.evaluation.methods import Kinds, Method, MethodSettings, Prediction
from jointnet_cli.evaluation.metrics.depth import align, at_size
from jointnet_cli.evaluation.metrics.normals import normals_of, pinhole
from jointnet_cli.evaluation.runner import needed_by_all
from jointnet_cli.files.images import read_image
from jointnet_cli.files.maps import read_map
from jointnet_cli.files.metadata import read_record
from jointnet_cli.modality import DepthKind
from jointnet_cli.projection import NOMINAL_FOV
from jointnet_cli.scene.scene import FAR, NEAR, DepthScale
from jointnet_cli.tensors import to_tensor, upsample

MIDAS = {"dpt_beit_large_512": "midas-beit-512", "dpt_hybrid_384": "midas-dpt-hybrid"}
"""Names of MiDaS for the networks of the paper, and ours."""
MEAN_SAMPLES = 2000
"""Samples, from the first on, that a mean depth is taken of."""


class TeacherDepth(Method):
    """MiDaS, or another depth network that `jointnet prepare --label` knows."""

    def __init__(self, value: str, settings: MethodSettings) -> None:
        name = value or next(iter(MIDAS))
        self._spec: TeacherSpec = parse_spec(f"depth={MIDAS.get(name, name)}")
        self._device = settings.device

    @property
    def identity(self) -> str:
        place = Path(self._spec.source)
        state = place_digest(place) if place.exists() else ""
        return f"{self._spec.source} {self._spec.settings} {state}"

    @cached_property
    def teacher(self) -> NetworkTeacher:
        """The network in memory."""
        with needed_by_all():
            return open_teacher(self._spec, self._device)

    def predict(self, case: Case) -> Prediction:
        depth = self.teacher(to_tensor(case.image))[0].cpu().numpy()
        return Prediction(depth=depth, settings={"teacher": self.teacher.name, "hash": self.teacher.hash})


class Constant(Method):
    """One disparity everywhere."""

    def __init__(self, value: str, settings: MethodSettings) -> None:
        pass

    def predict(self, case: Case) -> Prediction:
        return Prediction(depth=np.ones(case.image.shape[:2], np.float32))


class MeanDepth(Method):
    """The mean disparity of training shards, which does not depend on the image."""

    def __init__(self, value: str, settings: MethodSettings) -> None:
        if not value:
            raise UserError("mean-depth needs shards", hint="mean-depth:shards/worlds, or another training set")
        self._shards = ShardSet.open(value, MEAN_SAMPLES)

    @cached_property
    def identity(self) -> str:
        return self._shards.digest

    @cached_property
    def _mean(self) -> NDArray[np.float32]:
        with needed_by_all():
            return mean_disparity(self._shards).numpy()

    def predict(self, case: Case) -> Prediction:
        return Prediction(depth=self._mean)


def mean_disparity(shards: ShardSet) -> Tensor:
    """Return the mean (H, W) of the relative disparity of all samples.

    Raises:
        UserError: samples without depth, or of different sizes.
    """
    total: Tensor | None = None
    for sample in shards.samples(("depth",)):
        depth = relative_depth(sample.inverse_depth, sample.key)
        if total is not None and total.shape != depth.shape:
            (height, width), (rows, columns) = total.shape, depth.shape
            raise UserError(
                f"mean-depth needs samples of one size: {sample.key} is {columns}x{rows}, those before it {width}x{height}",
                hint="prepare the shards with --resize center_crop, which makes all images the same size",
            )
        total = depth if total is None else total + depth
    assert total is not None  # a set without samples is refused when it is counted
    return total / len(shards)


class ReducedDepth(Method):
    """The true depth reduced by the mean of blocks and enlarged by the nearest pixel, as refinement takes it."""

    ranked = False

    def __init__(self, value: str, settings: MethodSettings) -> None:
        if not (value.isascii() and value.isdecimal()) or int(value) < 2:
            raise UserError(f"reduced:{value} needs a factor of at least 2", hint="reduced:4")
        self._factor = int(value)

    def predict(self, case: Case) -> Prediction:
        reduced = F.avg_pool2d(torch.from_numpy(case.relative_depth)[None], self._factor)
        height, width = case.relative_depth.shape
        return Prediction(depth=upsample(reduced, (height, width), "depth")[0].numpy(), relative=True)


class FinishedDepth(Method):
    """Finished depth maps: `FOLDER` or `FOLDER?kind=disparity|distance`."""

    modality = "depth"

    def __init__(self, value: str, settings: MethodSettings) -> None:
        path, _, kind = value.partition("?kind=")
        if kind and kind not in get_args(DepthKind):
            raise UserError(
                f"folder:{value}: unknown kind {kind!r}", hint=f"there are {', '.join(get_args(DepthKind))}"
            )
        self._kind: DepthKind = kind or "auto"  # type: ignore[assignment]
        self._folder, self._maps = Path(path), find_maps(Path(path), self.modality)

    @cached_property
    def identity(self) -> str:
        return f"{files_digest(self._folder, self._maps.values())} {self._kind}"

    def predict(self, case: Case) -> Prediction:
        return Prediction(depth=read_predicted_depth(match(case.key, self._maps), self._kind))


class FinishedNormals(FinishedDepth):
    """Finished normal maps of a folder."""

    modality = "normal"

    def predict(self, case: Case) -> Prediction:
        return Prediction(normal=read_map(match(case.key, self._maps), "normal").values)


class NormalsFromDepth(Method):
    """Normals of the depth of another method, at the true scale and shift where true depth is known.

    Args:
        kinds: methods of depth.
        value: a model, or the spec of any method of depth.
        settings: of the command.
    """

    def __init__(self, kinds: Kinds, value: str, settings: MethodSettings) -> None:
        kind, _, rest = value.partition(":")
        self._depth = kinds[kind](rest, settings) if kind in kinds else kinds["jointnet"](value, settings)
        self.ranked = self._depth.ranked

    @property
    def identity(self) -> str:
        return self._depth.identity

    def predict(self, case: Case) -> Prediction:
        height, width = case.image.shape[:2]
        predicted = self._depth.predict(case)
        assert predicted.depth is not None
        disparity = at_size(torch.from_numpy(predicted.depth), height, width)
        camera = pinhole(height, width, NOMINAL_FOV) if case.intrinsics is None else case.intrinsics
        assumed = {}
        if case.intrinsics is None:
            assumed["field of view"] = f"{NOMINAL_FOV:g}° assumed"
        if case.inverse_depth is None:
            assumed["range of depth"] = f"{NEAR:g} to {FAR:g} assumed"
        normal = normals_of(_inverse_depth(disparity, case), camera)
        return Prediction(normal=normal, settings={**predicted.settings, **assumed})


def _inverse_depth(disparity: Tensor, case: Case) -> NDArray[np.float64]:
    """Return the inverse depth of disparity (H, W) up to scale and shift; 0 stays 0."""
    there = disparity > 0
    if case.inverse_depth is None:
        top = disparity.max().clamp(min=1e-9)
        distance = DepthScale.from_range().distance((disparity / top).numpy())
        return np.where(there.numpy(), 1 / distance, 0)
    truth = at_size(torch.from_numpy(case.inverse_depth), *disparity.shape)
    valid = there & (truth > 0)
    if not valid.any():
        return np.zeros(disparity.shape)
    generator = torch.Generator().manual_seed(case.number)
    scale, shift = align(disparity[valid].double(), truth[valid].double(), generator)
    aligned = (disparity.double() * scale + shift).clamp(min=truth[valid].min().item())
    return np.where(there.numpy(), aligned.numpy(), 0)


class FinishedImages(Method):
    """Finished images of a folder, in the order of their names."""

    finished = True

    def __init__(self, value: str, settings: MethodSettings) -> None:
        self.images = FolderImages(Path(value))

    @property
    def key(self) -> str:
        return self.images.key

    def count(self, cases: Cases) -> int:
        return min(len(self.images), len(cases))

    def predict(self, case: Case) -> Prediction:
        return Prediction(self.images.image(case.number))


class CaptionedImages(FinishedImages):
    """Finished images that belong to the captions in the order of their names."""

    def require(self, cases: Cases, count: int) -> None:
        for number in range(min(count, self.count(cases))):
            path, caption = self.images.paths[number], cases[number].prompt
            prompt = read_record(path).get("prompt")
            if prompt is not None and prompt != caption:
                raise UserError(
                    f"{path} was made for {prompt!r}, not for caption {caption!r}",
                    hint="pass the prompts of these images with --prompts FILE, in the order of the images' names",
                )


class TrueMaps(Method):
    """Images with true maps of shards: what the metrics are for maps that belong together."""

    finished = True

    def __init__(self, value: str, settings: MethodSettings) -> None:
        if not value:
            raise UserError("the method shards needs a folder", hint="shards:shards/evaluation, or other shards")
        self._cases = ShardCases(value, "depth")

    @cached_property
    def identity(self) -> str:
        return self._cases.identity

    def count(self, cases: Cases) -> int:
        return min(len(self._cases), len(cases))

    def predict(self, case: Case) -> Prediction:
        true = self._cases[case.number]
        measured = {} if true.intrinsics is None else {"intrinsics": true.intrinsics}
        return Prediction(true.image, true.relative_depth, normal=true.normal, measured=measured)


class FinishedSamples(Method):
    """Finished images with their depth and, where they exist, normals."""

    finished = True

    def __init__(self, value: str, settings: MethodSettings) -> None:
        self._folder = Path(value)
        self._depth = find_pairs(self._folder, "depth")
        try:
            normals = {key: file for key, (_, file) in find_pairs(self._folder, "normal").items()}
        except UserError:  # there are none
            normals = {}
        # A file of numbers that nothing calls normals is depth.
        self._normal = {key: file for key, file in normals.items() if self._is_normal(key, file)}
        self._keys = list(self._depth)

    def _is_normal(self, key: str, file: Path) -> bool:
        """Return whether a file holds normals, and not only the depth that was found at the same key."""
        is_depth = key in self._depth and self._depth[key][1] == file
        return not is_depth or split_name(file.relative_to(self._folder)).word in KIND_WORDS["normal"]

    @cached_property
    def identity(self) -> str:
        return files_digest(self._folder, (file for _, file in self._depth.values()))

    def count(self, cases: Cases) -> int:
        return min(len(self._keys), len(cases))

    def predict(self, case: Case) -> Prediction:
        key = self._keys[case.number]
        image, depth = self._depth[key]
        found = Prediction(
            read_image(image),
            read_map(depth, "depth").values,
            normal=read_map(self._normal[key], "normal").values if key in self._normal else None,
        )
        assert found.image is not None and found.depth is not None
        if found.image.shape[:2] != found.depth.shape:
            raise UserError(f"the image is {found.image.shape[:2]} and its depth {found.depth.shape}")
        return found
