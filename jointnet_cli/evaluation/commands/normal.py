"""`jointnet evaluate normal`: errors of predicted normals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from jointnet_cli.evaluation.commands.depth import TruthEvaluation
from jointnet_cli.evaluation.evaluation import TablePart
from jointnet_cli.evaluation.report import Column

if TYPE_CHECKING:
    from jointnet_cli.evaluation.cases import Case, TrueCases
    from jointnet_cli.evaluation.methods import Kinds, Prediction

COLUMNS = {
    "mean": Column("mean angle, °", "lower", digits=2),
    "median": Column("median angle, °", "lower", digits=2),
    "within_11_25": Column("< 11.25°", "higher", digits=1, percent=True),
    "within_22_5": Column("< 22.5°", "higher", digits=1, percent=True),
    "within_30": Column("< 30°", "higher", digits=1, percent=True),
}


@dataclass(frozen=True, kw_only=True)
class NormalEvaluation(TruthEvaluation):
    """Measure angles between predicted and true normals: mean, median, and the share below 11.25°, 22.5° and 30°.

    Methods: `jointnet:MODEL` for a model with a normal branch, `from-depth:MODEL` for the normals of its depth (or of any
    method of `jointnet evaluate depth`, as in `from-depth:midas:dpt_hybrid_384`), `folder:MAPS`.
    """

    name = "normal"
    example = "jointnet evaluate normal --shards shards/evaluation"
    title = "Normals"
    defaults = ("jointnet:diorama", "from-depth:diorama")
    kind_names = ("jointnet", "from-depth", "folder")
    columns = COLUMNS

    @cached_property
    def cases(self) -> TrueCases:
        from jointnet_cli.evaluation.cases import FolderCases, ShardCases

        if self.shards is not None:
            return ShardCases(self.shards, "normal")
        assert self.truth is not None
        return FolderCases(self.truth, "normal")

    def kinds(self) -> Kinds:
        from jointnet_cli.evaluation.joint_methods import NORMAL

        return NORMAL

    def parts(self) -> Sequence[TablePart]:
        from jointnet_cli.evaluation.metrics.metric import PerCase
        from jointnet_cli.evaluation.metrics.normals import normal_errors
        from jointnet_cli.tensors import resize, to_array, to_tensor

        def has_truth(case: Case) -> bool:
            assert case.normal is not None
            return bool(case.normal.any())

        def measure(case: Case, prediction: Prediction) -> Mapping[str, Any]:
            assert case.normal is not None and prediction.normal is not None
            height, width = case.normal.shape[:2]
            predicted = to_array(resize(to_tensor(prediction.normal), (height, width), "normal"))
            return vars(normal_errors(predicted, case.normal))

        metrics = [PerCase(COLUMNS, self.resamples)]
        return [TablePart(self.cases, metrics, self.kinds(), measure=measure, has_truth=has_truth)]

    def about(self) -> Mapping[str, Any]:
        return {"averages": "of each image's angles, then over the images"}
