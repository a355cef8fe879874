"""`jointnet evaluate generation`: the paper's Table 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from jointnet_cli.evaluation.commands.depth import Shards, require_shards
from jointnet_cli.evaluation.evaluation import Evaluation, Made, Row, TablePart
from jointnet_cli.params import INPUT_PANEL, PROMPT_PANEL, Param

if TYPE_CHECKING:
    from jointnet_cli.evaluation.captions import Caption
    from jointnet_cli.evaluation.cases import FolderImages, ShardCases
    from jointnet_cli.evaluation.figures import SheetCell
    from jointnet_cli.evaluation.judge.classifier import Judge
    from jointnet_cli.evaluation.methods import Kinds
    from jointnet_cli.evaluation.metrics.captions import Clip
    from jointnet_cli.evaluation.metrics.features import FeatureSpace
    from jointnet_cli.evaluation.metrics.metric import Metric, Predictions
    from jointnet_cli.evaluation.runner import Runner

_Network = partial(Param, panel="Feature networks")
JudgeFolder = Annotated[
    Path | None,
    _Network("Classifier of worlds: FD-Judge, and whether images show what their captions say.", "DIR", shown=False),
]
SHOWN = 24
"""Images of every method on the sheet."""
REAL = "real images"
"""The row that the others are compared to."""


@dataclass(frozen=True, kw_only=True)
class ImageEvaluation(Evaluation):
    """A table of images, which feature networks, a judge and CLIP look at."""

    shards: Shards = None
    reference: Annotated[
        Path | None,
        Param("Folder of real images, instead of those of the shards.", "DIR", shown=False, panel=INPUT_PANEL),
    ] = None
    features: Annotated[
        list[str] | None,
        _Network(
            "`efflite` (FD-EffLite0, IS-EffLite0), `inception` or `inception:FILE` (FID, IS). Repeatable.",
            "NAME",
            shown="efflite",
        ),
    ] = None
    judge: JudgeFolder = None
    clip: Annotated[str | None, _Network("CLIP model: similarity of image and caption.", "DIR|HUB", shown=False)] = None
    splits: Annotated[int, _Network("Parts that an Inception Score is a mean of.", "N", ge=1)] = 1

    def check(self) -> None:
        super().check()
        require_shards(self.shards)

    @cached_property
    def samples(self) -> ShardCases | None:
        """The shards, if there are any."""
        from jointnet_cli.evaluation.cases import ShardCases

        return None if self.shards is None else ShardCases(self.shards)

    @cached_property
    def reference_images(self) -> ShardCases | FolderImages | None:
        """The real images, if there are any."""
        from jointnet_cli.evaluation.cases import FolderImages

        return self.samples if self.reference is None else FolderImages(self.reference)

    @cached_property
    def real(self) -> Predictions | None:
        """The real images, all of them, as if they were predicted."""
        return None if self.reference_images is None else real_images(self.reference_images)

    @cached_property
    def spaces(self) -> list[FeatureSpace]:
        """The feature networks."""
        from jointnet_cli.evaluation.metrics.features import judge_features, open_features
        from jointnet_cli.model.efflite import EFFLITE

        names = dict.fromkeys(self.features or [EFFLITE])
        spaces = [open_features(name, self.settings.device) for name in names]
        if self.judge_network and str(self.judge) not in names:
            spaces.append(judge_features(self.judge_network))
        return spaces

    @cached_property
    def clip_model(self) -> Clip | None:
        """The CLIP model."""
        from jointnet_cli.devices import choose_device
        from jointnet_cli.evaluation.metrics.captions import Clip

        return Clip(self.clip, choose_device(self.settings.device)) if self.clip else None

    @cached_property
    def judge_network(self) -> Judge | None:
        """The classifier of worlds."""
        from jointnet_cli.evaluation.judge.classifier import Judge

        return Judge.load(self.judge) if self.judge else None

    def set_metrics(self) -> list[Metric]:
        """Return the metrics of the set of images."""
        from jointnet_cli.evaluation.metrics.distribution import Distribution

        how = {"splits": self.splits, "resamples": self.resamples}
        return [Distribution(space, self.real, **how) for space in self.spaces]

    def caption_metrics(self, captions: Sequence[Caption]) -> list[Metric]:
        """Return the metrics of images and their captions."""
        from jointnet_cli.evaluation.metrics.captions import CaptionAccuracy, clip_similarity

        found: list[Metric] = []
        if self.clip_model:
            found.append(clip_similarity(self.clip_model, captions, self.resamples))
        if self.judge_network:
            found.append(CaptionAccuracy(self.judge_network, captions, captions[: self.limit], self.resamples))
        return found

    def facts(self, parts: Sequence[TablePart], made: Sequence[Made]) -> Mapping[str, Any]:
        """Return what the numbers of the networks must be stated with."""
        from jointnet_cli.evaluation.intervals import SET_RESAMPLES
        from jointnet_cli.evaluation.metrics.captions import CaptionAccuracy

        found: dict[str, Any] = {"features": {space.name: space.key for space in self.spaces}}
        if any(space.score for space in self.spaces):
            found["splits of the Inception Score"] = self.splits
        if self.clip_model:
            found["CLIP"] = self.clip_model.name
        if self.judge_network:
            known = self.judge_network.facts
            held_out = known.get("held_out", {})
            found["judge on held-out worlds"] = {
                "images": known.get("held_out_images"),
                "biome": held_out.get("biome"),
                "time": held_out.get("time"),
                "objects": held_out.get("objects_found"),
                "colour": held_out.get("colour"),
            }
        sets = min(self.resamples, SET_RESAMPLES)
        found["intervals"] = f"95 %, {self.resamples} resamples of the images, {sets} of numbers of a set"
        judges = [metric for metric in parts[0].metrics if isinstance(metric, CaptionAccuracy)]
        if answers := {name: told for judge in judges for name, told in judge.accuracies.items()}:
            found["judge by kind"] = answers
        return found

    def method_facts(self, made: Made) -> Mapping[str, Any]:
        ((_, predictions),) = made
        if predictions.finished:
            return {"images": len(predictions.records)}
        return super().method_facts(made)

    def sheet_cells(self, name: str, made: Made, runner: Runner) -> Mapping[int, SheetCell]:
        """Return image and depth of cases spread evenly over all."""
        from jointnet_cli.evaluation.figures import SheetCell
        from jointnet_cli.evaluation.judge.prompts import spread
        from jointnet_cli.files.color import colorize

        ((part, predictions),) = made
        cells = {}
        for number in spread(list(predictions.records), SHOWN):
            shown = predictions.read(number, ("image", "depth"))
            images = [shown.image, None if shown.depth is None else colorize(shown.depth)]
            text = f"{name}: {part.cases[number].prompt}"
            cells[number] = SheetCell([image for image in images if image is not None], text)
        return cells


@dataclass(frozen=True, kw_only=True)
class GenerationEvaluation(ImageEvaluation):
    """Measure images made from captions: Fréchet distance, Inception Score, prompt adherence (Table 1).

    Methods: `jointnet:MODEL` (of any architecture), `base:MODEL`, `ldm3d:ID`, `folder:IMAGES` (in the order of the captions),
    `autoencoder:MODEL` (the shards' images through the autoencoder). `checkpoints:RUN` is one method for every model that a
    training run exported.
    Without `--shards` or `--reference` there is no Fréchet distance.
    """

    name = "generation"
    example = "jointnet evaluate generation --shards shards/evaluation"
    title = "Generation"
    defaults = ("jointnet:diorama",)
    kind_names = ("jointnet", "base", "autoencoder", "ldm3d", "folder")

    prompts: Annotated[
        Path | None,
        Param(
            "COCO captions (`.json`), a prompt a line (`.txt`), a table with a column `prompt` (`.csv`, `.jsonl`), or "
            "`fixed` for those of `jointnet evaluate prompts`.",
            "FILE|fixed",
            shown="the shards' captions, or 200 fixed prompts",
            panel=PROMPT_PANEL,
        ),
    ] = None

    @cached_property
    def captions(self) -> tuple[Sequence[Caption], str]:
        """The captions, and where they come from."""
        from jointnet_cli.evaluation.captions import fixed_captions, read_captions

        if self.prompts == Path("fixed"):
            return fixed_captions(), "fixed prompts"
        if self.prompts is not None:
            return read_captions(self.prompts), str(self.prompts)
        if self.samples is not None:
            return self.samples.captions, f"captions of {self.shards}"
        return fixed_captions(), "fixed prompts"

    def check(self) -> None:
        super().check()
        if self.prompts is not None:
            _ = self.captions  # refuses a file that cannot be read

    def kinds(self) -> Kinds:
        from jointnet_cli.evaluation.pipelines import GENERATION

        return GENERATION

    def parts(self) -> Sequence[TablePart]:
        from jointnet_cli.evaluation.cases import PromptCases

        captions, _ = self.captions
        images = self.samples if self.prompts is None else None
        cases = PromptCases([caption.text for caption in captions], len(captions), images)
        metrics = [*self.set_metrics(), *self.caption_metrics(captions)]
        return [TablePart(cases, metrics, self.kinds(), keep=("image", "depth"))]

    def references(self, parts: Sequence[TablePart]) -> Mapping[str, Row]:
        if self.real is None:
            return {}
        captioned = self.prompts is None and self.reference is None
        metrics = parts[0].metrics if captioned else parts[0].metrics[: len(self.spaces)]
        return {REAL: [(metric, self.real) for metric in metrics]}

    def identity(self, parts: Sequence[TablePart]) -> Mapping[str, Any]:
        return {"captions": parts[0].cases.identity}

    def facts(self, parts: Sequence[TablePart], made: Sequence[Made]) -> Mapping[str, Any]:
        (part,), (captions, source) = parts, self.captions
        real = {} if self.reference_images is None else {"real": self.reference_images.image_facts}
        return {
            "captions": {"source": source, "count": len(captions), "digest": part.cases.identity},
            "images per method": self.count(part, None),
            **real,
            **super().facts(parts, made),
        }


def real_images(source: ShardCases | FolderImages, limit: int | None = None) -> Predictions:
    """Return the first real images, or all, as if they were predicted."""
    from jointnet_cli.evaluation.methods import Prediction
    from jointnet_cli.evaluation.metrics.metric import Predictions

    numbers = range(len(source))[:limit]
    records: dict[int, dict[str, Any]] = {number: {} for number in numbers}
    return Predictions(REAL, source.key, records, lambda number, names: Prediction(source.image(number)), finished=True)
