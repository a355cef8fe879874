"""`jointnet evaluate panorama`: the paper's Table 3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

from jointnet_cli.evaluation.evaluation import Evaluation, Made, TablePart
from jointnet_cli.evaluation.report import Column
from jointnet_cli.params import PROMPT_PANEL, VIEW_PANEL, Param
from jointnet_cli.projection import FULL_CIRCLE
from jointnet_cli.sampling.presets import METHODS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from jointnet_cli.evaluation.cases import PromptCases
    from jointnet_cli.evaluation.figures import SheetCell
    from jointnet_cli.evaluation.methods import Kinds
    from jointnet_cli.evaluation.metrics.metric import Metric, PerCase, Predictions
    from jointnet_cli.evaluation.panorama_methods import Canvas
    from jointnet_cli.evaluation.report import Cell
    from jointnet_cli.evaluation.runner import Runner
    from jointnet_cli.model.perceptual import Perceptual

Prompts = Annotated[
    str | None,
    Param(
        "A prompt a line (`.txt`), or a column `prompt` (`.csv`, `.jsonl`); `-` reads stdin.",
        "FILE|-",
        shown="embedded ones",
        panel=PROMPT_PANEL,
    ),
]
PerceptualName = Annotated[
    str,
    Param(
        "What compares crops, with its weights: `st-lpips-alex`, `st-lpips-vgg`, `lpips-alex`, `lpips-vgg`, `efflite`.",
        "NAME[:FILE]",
    ),
]
SHOWN = 6
"""Panoramas of every method on the sheet, of the first prompts."""
SHOWN_WIDTH = 480
"""Pixels across one of them."""
SEAM = "mean step of the columns where tiles of the last step begin or end, over that of other columns between latent pixels"
SEAMS = {
    "seams.image.tiles": Column("image seam", "lower"),
    "seams.depth.tiles": Column("depth seam", "lower"),
    "seams.image.wrap": Column("image wrap seam", "lower"),
    "seams.depth.wrap": Column("depth wrap seam", "lower"),
}


ALL_SEAMS = {
    f"ratios.{modality}.{place}.{ratio}": Column(f"{modality} {name}{words}", "lower")
    for modality in ("image", "depth")
    for place, name in {"last_tiles": "seam", "stride_grid": "stride grid", "wrap": "wrap seam"}.items()
    for ratio, words in {"to_mean": "", "to_p95": ", 95th percentile"}.items()
    if ratio == "to_p95" or place == "stride_grid"
}
"""Further columns of `--all-seams`. Columns of the stride grid are where borders would lie without random offsets."""


class Stride:
    """The stride that all panoramas of a method have."""

    columns = (Column("stride", digits=0),)

    def __call__(self, predictions: Predictions, runner: Runner) -> Mapping[str, Cell]:
        strides = {record["stride"] for record in predictions.records.values()} - {None}
        return {"stride": float(strides.pop()) if strides else None}


@dataclass(frozen=True, kw_only=True)
class PanoramaEvaluation(Evaluation):
    """Measure seconds, coherence (intra-LPIPS) and seams of panoramas (Table 3).

    The folder gets the panoramas, the table, its plot and a contact sheet.

    Methods: `direct`, `multidiffusion`, `syncdiffusion`, `jointnet`, each also as `TILING:MODEL`, and `folder:IMAGES`.
    """

    name = "panorama"
    example = "jointnet evaluate panorama --seeds 4"
    title = "Panoramas"
    defaults = ("direct", "multidiffusion", "syncdiffusion", "jointnet")
    kind_names = (*METHODS, "folder")

    prompts: Prompts = None
    seeds: Annotated[
        int, Param("Panoramas of every prompt, each from a seed of its own.", "N", ge=1, panel=PROMPT_PANEL)
    ] = 20
    perceptual: PerceptualName = "st-lpips-alex"
    width: Annotated[int | None, Param("Width.", "PIXELS", ge=1, shown="four times the height", panel=VIEW_PANEL)] = (
        None
    )
    height: Annotated[int | None, Param("Height.", "PIXELS", ge=1, shown="model's", panel=VIEW_PANEL)] = None
    wrap: Annotated[bool, Param("Draw full circles instead of 180 degrees.", panel=VIEW_PANEL)] = False
    all_seams: Annotated[
        bool, Param("Measure seams on the stride grid, too, and against the 95th percentile.", flag="--all-seams")
    ] = False

    @property
    def canvas(self) -> Canvas:
        """The size and the view of every panorama."""
        from jointnet_cli.evaluation.panorama_methods import Canvas

        return Canvas(self.width, self.height, FULL_CIRCLE if self.wrap else FULL_CIRCLE / 2, self.wrap)

    @cached_property
    def cases(self) -> PromptCases:
        """Every prompt, `seeds` times."""
        from jointnet_cli.evaluation.captions import read_prompts
        from jointnet_cli.evaluation.cases import PromptCases
        from jointnet_cli.evaluation.judge.prompts import fixed_prompts, spread

        fixed = [prompt.text for prompt in fixed_prompts()]
        prompts = spread(fixed, 16) if self.prompts is None else read_prompts(self.prompts)
        return PromptCases(prompts, len(prompts) * self.seeds)

    @cached_property
    def network(self) -> Perceptual:
        """The network that compares crops."""
        from jointnet_cli.devices import choose_device
        from jointnet_cli.model.perceptual import open_perceptual

        return open_perceptual(self.perceptual, choose_device(self.settings.device))

    @cached_property
    def coherence(self) -> PerCase:
        """The metric of coherence."""
        from jointnet_cli.evaluation.metrics.panoramas import intra_lpips

        return intra_lpips(self.network, self.perceptual, self.resamples)

    def kinds(self) -> Kinds:
        from jointnet_cli.evaluation.panorama_methods import panorama_kinds

        return panorama_kinds(self.canvas)

    def parts(self) -> Sequence[TablePart]:
        from jointnet_cli.evaluation.metrics.metric import PerCase

        seconds = {"seconds": Column("seconds", "lower", digits=2)}
        wanted = SEAMS | (ALL_SEAMS if self.all_seams else {})
        seams = {key: column for key, column in wanted.items() if self.wrap or "wrap" not in key}
        metrics: list[Metric] = [
            Stride(),
            PerCase(seconds, self.resamples),
            self.coherence,
            PerCase(seams, self.resamples),
        ]
        return [TablePart(self.cases, metrics, self.kinds(), keep=("image", "depth"))]

    def identity(self, parts: Sequence[TablePart]) -> Mapping[str, Any]:
        return {"prompts": self.cases.prompts, "canvas": asdict(self.canvas), "seed": "number of the panorama"}

    def facts(self, parts: Sequence[TablePart], made: Sequence[Made]) -> Mapping[str, Any]:
        from jointnet_cli.sampling.syncdiffusion import DECAY, WEIGHT

        features = f"weight {WEIGHT:g}, decay {DECAY:g}, on features of the model's own encoder, not LPIPS"
        synchronized = any("syncdiffusion" in text for text in self.methods or self.defaults)
        count = self.count(parts[0], None)
        view = {"span": self.canvas.span, "wrap": self.wrap}
        return {
            "prompts": min(len(self.cases.prompts), count),
            "panoramas": count,
            "canvas": {"width": self.width or "4 x height", "height": self.height or "model's", **view},
            "stride": "in latent pixels",
            "seam": f"{SEAM}; 1 is none",
            "distance": self.perceptual,
            **({"syncdiffusion": features} if synchronized else {}),
            "intervals": f"95 %, {self.resamples} resamples of the panoramas",
        }

    def method_facts(self, made: Made) -> Mapping[str, Any]:
        ((_, predictions),) = made
        records = list(predictions.records.values())
        hardware = sorted({record["hardware"] for record in records} - {None})
        facts = {"panoramas": len(records), **({"hardware": hardware} if hardware else {})}
        return {**facts, **(records[0]["settings"] if records else {})}

    def sheet_cells(self, name: str, made: Made, runner: Runner) -> Mapping[int, SheetCell]:
        """Return panorama, depth and scores of the first cases."""
        from jointnet_cli.evaluation.figures import SheetCell
        from jointnet_cli.files.color import colorize

        ((_, predictions),) = made
        measured = self.coherence.records(predictions, runner)
        cells = {}
        for number, record in predictions.records.items():
            if number >= SHOWN:
                break
            drawn = predictions.read(number, ("image", "depth"))
            images = [drawn.image, None if drawn.depth is None else colorize(drawn.depth)]
            scores = [f"intra {measured[number]['intra']:.3f}"] if number in measured else []
            seam = record["seams"].get("image", {}).get("tiles")
            scores += [f"seam {seam:.2f}"] if seam is not None else []
            scores += [f"{record['seconds']:.1f} s"] if record["seconds"] is not None else []
            small = [_small(image) for image in images if image is not None]
            cells[number] = SheetCell(small, f"{name}: {', '.join(scores)}; {record['prompt']}")
        return cells


def _small(image: NDArray[np.float32]) -> NDArray[np.float32]:
    from jointnet_cli.tensors import resize, to_array, to_tensor

    height, width = image.shape[:2]
    size = (max(1, round(height * SHOWN_WIDTH / width)), SHOWN_WIDTH)
    return to_array(resize(to_tensor(image), size, "rgb"))
