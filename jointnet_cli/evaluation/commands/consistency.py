"""`jointnet evaluate consistency`: whether image, depth and normals of one result belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Annotated, Any

from jointnet_cli.evaluation.commands.panorama import Prompts
from jointnet_cli.evaluation.evaluation import Evaluation, Made, Row, TablePart
from jointnet_cli.params import PROMPT_PANEL, VIEW_PANEL, Param

if TYPE_CHECKING:
    from jointnet_cli.evaluation.cases import PromptCases
    from jointnet_cli.evaluation.methods import Kinds

SHUFFLED = "shuffled"
"""Ends the names of control rows."""


@dataclass(frozen=True, kw_only=True)
class ConsistencyEvaluation(Evaluation):
    """Measure depth edges against image edges, depth against normals, re-predicted depth, and the seam of panoramas.

    Every method has a second row as a control, with the maps of other results. Methods: `jointnet:MODEL`, `shards:FOLDER`
    (true maps), `folder:RESULTS`.
    """

    name = "consistency"
    example = "jointnet evaluate consistency --method jointnet:diorama --method shards:shards/evaluation"
    title = "Consistency"
    defaults = ("jointnet:diorama",)
    kind_names = ("jointnet", "shards", "folder")

    prompts: Prompts = None
    samples: Annotated[int, Param("Images with maps of every method.", "N", ge=1, panel=PROMPT_PANEL)] = 128
    panoramas: Annotated[int, Param("Closed panoramas of every method.", "N", ge=0, panel=PROMPT_PANEL)] = 16
    width: Annotated[
        int | None,
        Param("Width of the panoramas.", "PIXELS", ge=1, shown="four times the model's size", panel=VIEW_PANEL),
    ] = None

    @cached_property
    def listed(self) -> Sequence[str]:
        """The prompts, read once, because stdin can be read only once."""
        from jointnet_cli.evaluation.captions import read_prompts
        from jointnet_cli.evaluation.judge.prompts import prompts_of_all_biomes

        return prompts_of_all_biomes() if self.prompts is None else read_prompts(self.prompts)

    def cases(self, count: int) -> PromptCases:
        """Return `count` prompts, from the first on and again from the first."""
        from jointnet_cli.evaluation.cases import PromptCases

        return PromptCases(self.listed, count)

    def kinds(self) -> Kinds:
        from jointnet_cli.evaluation.joint_methods import SAMPLES

        return SAMPLES

    def parts(self) -> Sequence[TablePart]:
        from jointnet_cli.evaluation.metrics.consistency import (
            SAMPLE_COLUMNS,
            SEAM_COLUMNS,
            Consistency,
            consistency,
            seams,
        )
        from jointnet_cli.evaluation.panorama_methods import Canvas, DrawPanorama

        panoramas: Kinds = {"jointnet": partial(DrawPanorama, "jointnet", Canvas(self.width))}
        kept = ("image", "depth", "normal", "again")
        agreement = Consistency(SAMPLE_COLUMNS, kept, consistency, self.resamples)
        return [
            TablePart(self.cases(self.samples), [agreement], self.kinds(), keep=kept),
            TablePart(
                self.cases(self.panoramas),
                [Consistency(SEAM_COLUMNS, tuple(SEAM_COLUMNS), seams, self.resamples)],
                panoramas,
                keep=kept,
                title="panoramas",
                key=f"panoramas {self.width or '4:1'}",
            ),
        ]

    def rows(self, name: str, made: Made) -> Mapping[str, Row]:
        own = [(metric, predictions) for part, predictions in made for metric in part.metrics]
        control = [(metric.control(), predictions) for metric, predictions in own]  # type: ignore[attr-defined]
        return {name: own, f"{name}, {SHUFFLED}": control}

    def identity(self, parts: Sequence[TablePart]) -> Mapping[str, Any]:
        return {"prompts": self.listed}

    def facts(self, parts: Sequence[TablePart], made: Sequence[Made]) -> Mapping[str, Any]:
        from jointnet_cli.evaluation.metrics.consistency import SHARE
        from jointnet_cli.projection import NOMINAL_FOV

        return {
            "edge AUC": f"how likely the image has more contrast at the {SHARE:.0%} strongest depth edges than elsewhere",
            "depth to normals": "mean angle of the normals that follow from the depth to those of the model, at the best "
            f"shift of disparity, for a camera of {NOMINAL_FOV:g}° where none is stated",
            "re-predicted depth": "correlation of the depth with the one predicted from the image alone, without its prompt",
            "wrap seam": "step across the ends of a closed panorama over the mean step between latent pixels; 1 is none",
            SHUFFLED: "the maps, or the panorama's other end, of another result",
            "intervals": f"95 %, {self.resamples} resamples of the results",
        }

    def method_facts(self, made: Made) -> Mapping[str, Any]:
        (_, samples), *rest = made
        panoramas = len(rest[0][1].records) if rest else 0
        settings: Mapping[str, Any] = next((record["settings"] for record in samples.records.values()), {})
        return {"samples": len(samples.records), "panoramas": panoramas, **settings}
