"""`jointnet evaluate depth-to-image`: the paper's Table 5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.commands.depth import make_shards
from jointnet_cli.evaluation.commands.generation import REAL, ImageEvaluation, real_images
from jointnet_cli.evaluation.evaluation import Made, Row, TablePart
from jointnet_cli.evaluation.methods import parse_method
from jointnet_cli.evaluation.report import Column
from jointnet_cli.params import Param

if TYPE_CHECKING:
    from jointnet_cli.evaluation.cases import ShardCases
    from jointnet_cli.evaluation.methods import Kinds, Method
    from jointnet_cli.evaluation.metrics.metric import PerCase, Predictions

PREDICTORS = ("jointnet", "midas", "refine")
COLUMNS = {
    "pearson": Column("depth correlation", "higher"),
    "spearman": Column("depth rank correlation", "higher"),
    "shuffled": Column("depth correlation, shuffled"),
    "rmse": Column("RMSE of disparity", "lower"),
}


@dataclass(frozen=True, kw_only=True)
class DepthToImageEvaluation(ImageEvaluation):
    """Measure images painted for given depth: distance from real images, and whether they have that depth (Table 5).

    Depth is predicted from the image alone, from other noise. The control is the depth of another sample.

    Methods: `jointnet:MODEL`, `sd2-depth:ID`, `controlnet-depth:CONTROLNET,BASE`, `folder:IMAGES` (in the order of the
    samples). Depth is predicted by `jointnet:MODEL?steps=N`, `midas:NAME` or `refine:MODEL`.
    """

    name = "depth-to-image"
    example = "jointnet evaluate depth-to-image --shards shards/evaluation"
    title = "Depth to image"
    defaults = ("jointnet:diorama",)
    kind_names = ("jointnet", "sd2-depth", "controlnet-depth", "folder")

    depth_method: Annotated[str, Param("Method that predicts depth from the painted images.", "KIND[:VALUE]")] = (
        "jointnet:diorama"
    )

    @property
    def given(self) -> ShardCases:
        """The shards whose depth is given."""
        assert self.samples is not None
        return self.samples

    def check(self) -> None:
        super().check()
        if self.shards is None:
            raise UserError("no depth to paint for: give --shards DIR", hint=make_shards())
        parse_method(self.depth_method, PREDICTORS).check(self.settings)

    def kinds(self) -> Kinds:
        from jointnet_cli.evaluation.pipelines import DEPTH_TO_IMAGE

        return DEPTH_TO_IMAGE

    def parts(self) -> Sequence[TablePart]:
        from jointnet_cli.evaluation.joint_methods import DEPTH
        from jointnet_cli.evaluation.methods import open_method
        from jointnet_cli.sampling.presets import Sampling

        given = self.given
        predictor = open_method(self.depth_method, DEPTH, replace(self.settings, sampling=Sampling()))
        metrics = [*self.set_metrics(), *self.caption_metrics(given.captions)]
        agreement = depth_agreement(given, predictor, self.resamples)
        return [TablePart(given, [*metrics, agreement], self.kinds(), keep=("image",))]

    def references(self, parts: Sequence[TablePart]) -> Mapping[str, Row]:
        (part,), given = parts, self.given
        assert self.real is not None
        *captioned, agreement = part.metrics[len(self.spaces) :]
        return {
            REAL: [
                *((metric, self.real) for metric in part.metrics[: len(self.spaces)]),
                *((metric, real_images(given)) for metric in captioned),
                (agreement, real_images(given, self.count(part, None))),
            ]
        }

    def identity(self, parts: Sequence[TablePart]) -> Mapping[str, Any]:
        return {"depth": self.given.identity}

    def facts(self, parts: Sequence[TablePart], made: Sequence[Made]) -> Mapping[str, Any]:
        assert self.reference_images is not None
        return {
            "depth": self.given.image_facts,
            "images per method": self.count(parts[0], None),
            "real": self.reference_images.image_facts,
            "depth of images predicted by": self.depth_method,
            **super().facts(parts, made),
        }


def depth_agreement(given: ShardCases, predictor: Method, resamples: int) -> PerCase:
    """Return the metric of whether an image has the depth that it was painted for."""
    import torch

    from jointnet_cli.evaluation.cases import Case
    from jointnet_cli.evaluation.metrics.consistency import OTHER_NOISE, partners, pearson, spearman
    from jointnet_cli.evaluation.metrics.depth import aligned_error
    from jointnet_cli.evaluation.metrics.metric import PerCase
    from jointnet_cli.tensors import resize, to_array, to_tensor

    others = partners(len(given))

    def measure(predictions: Predictions, number: int) -> dict[str, float]:
        image = to_array(predictions.tensor(number))
        prediction = predictor.predict(Case(number, str(number), seed=number + OTHER_NOISE, image=image))
        assert prediction.depth is not None
        true = given[number].relative_depth
        height, width = true.shape
        predicted = resize(torch.from_numpy(prediction.depth)[None].float(), (height, width), "depth")[0]
        another = resize(to_tensor(given[others[number]].relative_depth), (height, width), "depth")[0].numpy()
        return {
            "pearson": pearson(true, predicted.numpy()),
            "spearman": spearman(true, predicted.numpy()),
            "shuffled": pearson(another, predicted.numpy()),
            "rmse": aligned_error(predicted, torch.from_numpy(true), number),
        }

    return PerCase(COLUMNS, resamples, measure, key=f"depth {predictor.key}", title="depth")
