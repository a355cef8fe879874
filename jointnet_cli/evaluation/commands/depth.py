"""`jointnet evaluate depth`: the paper's Table 2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.evaluation import Evaluation, Made, TablePart
from jointnet_cli.evaluation.methods import DEPTH_KINDS, DepthSettings
from jointnet_cli.evaluation.report import Column
from jointnet_cli.params import INPUT_PANEL, Param

if TYPE_CHECKING:
    from jointnet_cli.evaluation.cases import Case, TrueCases
    from jointnet_cli.evaluation.methods import Kinds, Prediction

Shards = Annotated[
    str | None,
    Param(
        "Shards of images with captions and maps, such as worlds of `jointnet prepare worlds --evaluation`.",
        "DIR",
        shown=False,
        panel=INPUT_PANEL,
    ),
]
COLUMNS = {
    "abs_rel": Column("AbsRel", "lower"),
    "rmse": Column("RMSE (disparity)", "lower"),
    "delta1": Column("delta1", "higher", digits=1, percent=True),
    "compared": Column("pixels compared", digits=1, percent=True),
}


def make_shards() -> str:
    """Return the hint how to make held-out worlds."""
    from jointnet_cli.data.shards.shard_set import EVALUATION_COMMAND

    return f"make held-out worlds: {EVALUATION_COMMAND}"


def require_shards(source: str | None) -> None:
    """Refuse a folder without shards, before torch is imported.

    Raises:
        UserError: no complete shards.
    """
    if source is not None:
        from jointnet_cli.data.shards.index import list_shards

        list_shards(source, evaluation=True)


@dataclass(frozen=True, kw_only=True)
class TruthEvaluation(Evaluation):
    """A table of errors against true maps."""

    shards: Shards = None
    truth: Annotated[
        Path | None,
        Param("Folder of images and true maps, such as MegaDepth.", "DIR", shown=False, panel=INPUT_PANEL),
    ] = None
    settings: DepthSettings = field(default_factory=DepthSettings)

    @property
    def cases(self) -> TrueCases:
        """The data."""
        raise NotImplementedError

    @property
    def sources(self) -> Mapping[str, bool]:
        """The flags that name a ground truth, and whether each is given."""
        return {"--shards DIR": self.shards is not None, "--truth DIR": self.truth is not None}

    def check(self) -> None:
        super().check()
        if sum(self.sources.values()) > 1:
            raise UserError("more than one ground truth is given", hint=f"give one of {', '.join(self.sources)}")
        if not any(self.sources.values()):
            raise UserError(f"no ground truth: give {' or '.join(self.sources)}", hint=make_shards())
        if self.truth is not None and not self.truth.is_dir():
            raise UserError(f"no folder {self.truth}", hint=f"--truth takes images and true maps; or {make_shards()}")
        require_shards(self.shards)

    def identity(self, parts: Sequence[TablePart]) -> Mapping[str, Any]:
        return {"truth": self.cases.identity}

    def about(self) -> Mapping[str, Any]:
        """Return how errors are measured."""
        raise NotImplementedError

    def facts(self, parts: Sequence[TablePart], made: Sequence[Made]) -> Mapping[str, Any]:
        """Return the truth and how many cases were measured, as many as by the best method."""
        (column, *_) = self.columns
        records = [predictions.records.values() for ((_, predictions),) in made]
        known = [sum(record.get(column) is not None for record in each) for each in records]
        without = max(len(each) - count for each, count in zip(records, known, strict=True))
        return {
            "truth": self.cases.facts,
            "scenes": max(known),
            **({"scenes without truth": without} if without else {}),
            **self.about(),
            "intervals": f"95 %, {self.resamples} resamples of the scenes",
        }

    @property
    def columns(self) -> Mapping[str, Column]:
        """The columns by the keys of records."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class DepthEvaluation(TruthEvaluation):
    """Measure predicted depth against the truth: AbsRel, RMSE of disparity, delta1 (Table 2).

    Scale and shift are fitted in disparity space, where prediction and truth are both valid.

    Methods: `jointnet:MODEL`, `midas:dpt_beit_large_512`, `midas:dpt_hybrid_384`, `refine:MODEL` (the depth of
    `--refine-from`), `reduced:FACTOR` (the true depth at a lower resolution), `folder:MAPS`, `constant`, `mean-depth:SHARDS`,
    `autoencoder:MODEL`. A MODEL takes settings of its own: `fast=jointnet:diorama?steps=4`.
    """

    name = "depth"
    example = "jointnet evaluate depth --shards shards/evaluation"
    title = "Depth"
    defaults = ("jointnet:diorama", "constant", "autoencoder:diorama")
    kind_names = DEPTH_KINDS
    columns = COLUMNS

    middlebury: Annotated[
        bool, Param("The Middlebury pair that scikit-image holds.", panel=INPUT_PANEL, flag="--middlebury")
    ] = False
    depth_kind: Annotated[
        Literal["auto", "disparity", "distance"],
        Param("The numbers of true maps: disparity (near is large) or distance (near is small).", panel=INPUT_PANEL),
    ] = "auto"
    depth_cap: Annotated[
        float | None,
        Param(
            "Depth beyond which the truth does not count, in its unit; 0 is no cap.",
            "DEPTH",
            ge=0,
            shown="80 m for shards, else none",
            panel=INPUT_PANEL,
        ),
    ] = None

    @property
    def sources(self) -> Mapping[str, bool]:
        return {**super().sources, "--middlebury": self.middlebury}

    @cached_property
    def cases(self) -> TrueCases:
        from jointnet_cli.evaluation.cases import FolderCases, Middlebury, ShardCases

        if self.shards is not None:
            return ShardCases(self.shards, "depth")
        return FolderCases(self.truth, "depth", self.depth_kind) if self.truth is not None else Middlebury()

    @property
    def cap(self) -> float | None:
        """Depth beyond which the truth does not count."""
        return self.cases.depth_cap if self.depth_cap is None else self.depth_cap or None

    def kinds(self) -> Kinds:
        from jointnet_cli.evaluation.joint_methods import DEPTH

        return DEPTH

    def parts(self) -> Sequence[TablePart]:
        import torch

        from jointnet_cli.evaluation.metrics.depth import at_size, depth_errors, known_pixels
        from jointnet_cli.evaluation.metrics.metric import PerCase

        cap = self.cap

        def has_truth(case: Case) -> bool:
            assert case.inverse_depth is not None
            return bool(known_pixels(torch.from_numpy(case.inverse_depth), cap).any())

        def measure(case: Case, prediction: Prediction) -> Mapping[str, Any]:
            assert case.inverse_depth is not None and prediction.depth is not None
            truth = torch.from_numpy(case.inverse_depth)
            predicted = at_size(torch.from_numpy(prediction.depth), *truth.shape)
            errors, compared = depth_errors(predicted, truth, depth_cap=cap, seed=case.number)
            return {**vars(errors), "compared": compared}

        metrics = [PerCase(COLUMNS, self.resamples)]
        return [TablePart(self.cases, metrics, self.kinds(), measure=measure, has_truth=has_truth)]

    def identity(self, parts: Sequence[TablePart]) -> Mapping[str, Any]:
        return {"truth": self.cases.identity, "depth cap": self.cap}

    def about(self) -> Mapping[str, Any]:
        from jointnet_cli.evaluation.metrics.depth import FIT_PIXELS, FITS

        return {
            "depth cap": "none" if self.cap is None else self.cap,
            "alignment": f"median of {FITS} fits of {FIT_PIXELS} random pixels in disparity space",
        }
