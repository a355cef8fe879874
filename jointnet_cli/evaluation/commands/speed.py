"""`jointnet evaluate speed`: presets and their parts against the paper's settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

from jointnet_cli.evaluation.commands.depth import DepthEvaluation, Shards, require_shards
from jointnet_cli.evaluation.commands.generation import GenerationEvaluation, JudgeFolder
from jointnet_cli.evaluation.commands.panorama import SEAMS, PanoramaEvaluation, PerceptualName, Prompts
from jointnet_cli.evaluation.evaluation import Evaluation, Made, Row, TablePart
from jointnet_cli.evaluation.report import Column
from jointnet_cli.params import PROMPT_PANEL, VIEW_PANEL, Param

if TYPE_CHECKING:
    from jointnet_cli.evaluation.figures import SheetCell
    from jointnet_cli.evaluation.methods import Kinds, Method
    from jointnet_cli.evaluation.metrics.paired import Difference, DistanceToReference
    from jointnet_cli.evaluation.runner import Runner

REFERENCE = "reference"
PANORAMAS, IMAGES, DEPTH = "panoramas", "images", "depth"
"""Keys of the parts."""


@dataclass(frozen=True, kw_only=True)
class SpeedEvaluation(Evaluation):
    """Measure presets and single shortcuts: evaluations of the network, seconds, and the quality that they keep.

    Images are compared with those of the first method; differences are taken from the first method that is not named
    `reference`.
    With `--shards` also the Fréchet distance of single images and the error of `depth`, with `--judge` prompt adherence.

    Methods: `jointnet:MODEL`, with settings such as `jointnet:?preset=fast&steps=10`.
    """

    name = "speed"
    example = "jointnet evaluate speed --seeds 4 --shards worlds/evaluation --judge runs/judge"
    title = "Speed"
    defaults = (
        "reference=jointnet:?preset=paper&steps=200",
        "paper=jointnet:?preset=paper",
        "solver=jointnet:?preset=paper&scheduler=dpm%2B%2B&steps=12&spacing=trailing",
        "tiles=jointnet:?preset=paper&tiling=balanced",
        "interval=jointnet:?preset=paper&guidance_interval=250 1000",
        "balanced=jointnet:?preset=balanced",
        "fast=jointnet:?preset=fast",
    )
    kind_names = ("jointnet",)

    shards: Shards = None
    judge: JudgeFolder = None
    prompts: Prompts = None
    seeds: Annotated[
        int, Param("Panoramas of every prompt, each from a seed of its own.", "N", ge=1, panel=PROMPT_PANEL)
    ] = 4
    images: Annotated[
        int, Param("Single images, and with shards as many depth maps; 0 makes none.", "N", ge=0, panel=PROMPT_PANEL)
    ] = 512
    perceptual: PerceptualName = "st-lpips-alex"
    width: Annotated[int, Param("Width.", "PIXELS", ge=1, panel=VIEW_PANEL)] = 768

    def check(self) -> None:
        super().check()
        require_shards(self.shards)

    @cached_property
    def panoramas(self) -> PanoramaEvaluation:
        """The table that measures panoramas."""
        return PanoramaEvaluation(
            methods=self.methods or list(self.defaults),
            prompts=self.prompts,
            seeds=self.seeds,
            width=self.width,
            wrap=True,
            perceptual=self.perceptual,
            limit=self.limit,
            resamples=self.resamples,
            settings=self.settings,
        )

    @cached_property
    def singles(self) -> GenerationEvaluation:
        """The table that measures single images."""
        return GenerationEvaluation(
            shards=self.shards, judge=self.judge, settings=self.settings, resamples=self.resamples, limit=self.images
        )

    @cached_property
    def distance(self) -> DistanceToReference:
        """The metric of differences from the reference."""
        from jointnet_cli.evaluation.metrics.paired import DistanceToReference

        return DistanceToReference(self.panoramas.network, self.perceptual, self.resamples)

    @cached_property
    def differences(self) -> list[Difference]:
        """The paired differences from the second method."""
        from jointnet_cli.evaluation.metrics.metric import PerCase
        from jointnet_cli.evaluation.metrics.paired import Difference

        seams = PerCase(SEAMS, self.resamples)
        wanted = {"seams.image.tiles": "image seam", "seams.depth.tiles": "depth seam"}
        intra = Difference(self.panoramas.coherence, {"intra": "intra"}, self.resamples)
        return [intra, Difference(seams, wanted, self.resamples)]

    def kinds(self) -> Kinds:
        from jointnet_cli.evaluation.panorama_methods import panorama_kinds

        return {"jointnet": panorama_kinds(self.panoramas.canvas)["jointnet"]}

    @cached_property
    def _parts(self) -> list[TablePart]:
        from jointnet_cli.evaluation.joint_methods import GenerateImage, PredictDepth
        from jointnet_cli.evaluation.metrics.metric import PerCase

        costs = PerCase({"evaluations": Column("evaluations", "lower", digits=0)}, self.resamples)
        (panoramas,) = self.panoramas.parts()
        own = [costs, *panoramas.metrics[1:], self.distance, *self.differences]
        parts = [replace(panoramas, metrics=own, kinds=self.kinds(), key=PANORAMAS, title=PANORAMAS)]
        if self.images and (self.shards or self.judge):
            (images,) = self.singles.parts()
            parts.append(replace(images, kinds={"jointnet": GenerateImage}, key=IMAGES, title=IMAGES))
        if self.images and self.shards:
            (depth,) = DepthEvaluation(shards=self.shards, resamples=self.resamples).parts()
            parts.append(replace(depth, kinds={"jointnet": PredictDepth}, key=DEPTH, title=DEPTH))
        return parts

    def parts(self) -> Sequence[TablePart]:
        return self._parts

    def count(self, part: TablePart, method: Method | None) -> int:
        count = super().count(part, method)
        return count if part.key == PANORAMAS else min(count, self.images)

    def identity(self, parts: Sequence[TablePart]) -> Mapping[str, Any]:
        return {**self.panoramas.identity(parts[:1]), "cases": [part.cases.identity for part in parts]}

    def rows(self, name: str, made: Made) -> Mapping[str, Row]:
        """Return the row of one method, which those after it may be compared with."""
        panoramas = made[0][1]
        self.distance.reference = self.distance.reference or panoramas
        if name != REFERENCE:
            for difference in self.differences:
                difference.other = difference.other or panoramas
        return super().rows(name, made)

    def facts(self, parts: Sequence[TablePart], made: Sequence[Made]) -> Mapping[str, Any]:
        first = [each[:1] for each in made]
        return {
            **self.panoramas.facts(parts[:1], first),
            "evaluation": "one window through all branches, with guidance twice; the whole image counts for its area",
            "images": next((self.count(part, None) for part in parts if part.key == IMAGES), 0),
        }

    def method_facts(self, made: Made) -> Mapping[str, Any]:
        return self.panoramas.method_facts(made[:1])

    def sheet_cells(self, name: str, made: Made, runner: Runner) -> Mapping[int, SheetCell]:
        return self.panoramas.sheet_cells(name, made[:1], runner)
