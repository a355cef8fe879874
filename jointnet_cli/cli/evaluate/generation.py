"""`jointnet evaluate generation`: the paper's Table 1."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from jointnet_cli.cli.evaluate.options import DeviceOptions, EvaluateOptions, Shards, conclude
from jointnet_cli.cli.options import INPUT_PANEL, PROMPT_PANEL, SamplingOptions, option
from jointnet_cli.cli.rows import read_rows
from jointnet_cli.errors import UserError
from jointnet_cli.files.paths import text_digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jointnet_cli.evaluation.cases import Caption, FolderPictures, ShardPictures
    from jointnet_cli.evaluation.picture_scores import Scoring
    from jointnet_cli.evaluation.runner import Runner

DEFAULT_ROWS = ("jointnet:diorama",)
CAPTION_COLUMNS = ("prompt", "caption", "text")
FEATURES_PANEL = "Feature networks"

Reference = Annotated[
    Path | None,
    option("--reference", panel=INPUT_PANEL, metavar="DIR", help="Folder of real pictures, instead of the shards'."),
]


@dataclass(frozen=True)
class FeatureOptions:
    """Which networks look at the pictures."""

    features: Annotated[
        list[str] | None,
        option(
            "--features",
            panel=FEATURES_PANEL,
            metavar="NAME",
            help="`efflite` (FD-EffLite0, IS-EffLite0), `inception` or `inception:FILE` (FID, IS). Repeatable.",
            show_default="efflite",
        ),
    ] = None
    judge: Annotated[
        Path | None,
        option(
            "--judge",
            panel=FEATURES_PANEL,
            metavar="DIR",
            help="Classifier of worlds: FD-Judge, and whether pictures show what their captions say.",
        ),
    ] = None
    clip: Annotated[
        str | None,
        option(
            "--clip", panel=FEATURES_PANEL, metavar="DIR|HUB", help="CLIP model: similarity of picture and caption."
        ),
    ] = None
    splits: Annotated[
        int,
        option(
            "--splits", panel=FEATURES_PANEL, min=1, metavar="N", help="Parts that an Inception Score is a mean of."
        ),
    ] = 1

    def open(self, items: Runner, evaluation: EvaluateOptions, device: str | None) -> Scoring:
        """Load the networks.

        Raises:
            UserError: one is not there.
        """
        from jointnet_cli.devices import choose_device
        from jointnet_cli.evaluation.judge.classifier import Judge
        from jointnet_cli.evaluation.metrics.captions import Clip
        from jointnet_cli.evaluation.metrics.features import EFFLITE, open_features
        from jointnet_cli.evaluation.picture_scores import Scoring

        names = dict.fromkeys([*(self.features or [EFFLITE]), *([str(self.judge)] if self.judge else [])])
        return Scoring(
            items,
            evaluation.watch(items),
            [open_features(name, device) for name in names],
            Clip(self.clip, choose_device(device)) if self.clip else None,
            Judge.load(self.judge) if self.judge else None,
            self.splits,
            evaluation.resamples,
        )


def generation(
    *,
    prompts: Annotated[
        Path | None,
        option(
            "--prompts",
            panel=PROMPT_PANEL,
            metavar="FILE",
            help="COCO captions (`.json`), a prompt a line (`.txt`), or a table with a column `prompt` (`.csv`, `.jsonl`).",
            show_default="the shards' captions, or 200 fixed prompts",
        ),
    ] = None,
    shards: Shards = None,
    reference: Reference = None,
    networks: FeatureOptions,
    sampling: SamplingOptions,
    place: DeviceOptions,
    evaluation: EvaluateOptions,
) -> None:
    """Quality of pictures made from captions: Fréchet distance, Inception Score, agreement with the captions (Table 1).

    Rows: `jointnet:MODEL` (of any architecture), `base:MODEL`, `ldm3d:ID`, `folder:PICTURES` (in the order of the captions).
    Without `--shards` or `--reference` there is no Fréchet distance.
    """
    from jointnet_cli.evaluation.generation_table import KINDS, measure_generation
    from jointnet_cli.evaluation.methods import Making, parse_rows
    from jointnet_cli.evaluation.runner import Runner

    rows = parse_rows(evaluation.rows or DEFAULT_ROWS, KINDS)
    given = open_shards(shards)
    captions, facts = _captions(prompts, given)
    real = open_reference(reference) or given
    folder = evaluation.folder("generation")
    items = Runner(folder, {"command": "generation", "captions": facts["digest"]})
    table = measure_generation(
        captions,
        rows,
        networks.open(items, evaluation, place.device),
        real=real,
        captioned=prompts is None and real is not None and real is given,
        how=Making(sampling.request(), place.device, place.dtype),
        count=evaluation.count(len(captions)),
        facts={"captions": facts},
    )
    conclude(table, items, folder, evaluation)


def open_shards(source: str | None) -> ShardPictures | None:
    """The shards that a flag names."""
    from jointnet_cli.evaluation.cases import ShardPictures

    return None if source is None else ShardPictures(source)


def open_reference(folder: Path | None) -> FolderPictures | None:
    """The folder that a flag names."""
    from jointnet_cli.evaluation.cases import FolderPictures

    return None if folder is None else FolderPictures(folder)


def _captions(prompts: Path | None, shards: ShardPictures | None) -> tuple[Sequence[Caption], dict[str, Any]]:
    """The captions, and what they are."""
    from jointnet_cli.evaluation.cases import Caption, fixed_captions, read_coco

    if prompts is not None and prompts.suffix.lower() == ".json":
        captions, source = read_coco(prompts), str(prompts)
    elif prompts is not None:
        captions, source = [Caption(_caption(row.values, row.place)) for row in read_rows(str(prompts))], str(prompts)
    elif shards is not None:
        captions, source = shards.captions, f"captions of {shards.facts['shards']}"
    else:
        captions, source = fixed_captions(), "fixed prompts"
    digest = text_digest("\n".join(caption.text for caption in captions))
    return captions, {"source": source, "count": len(captions), "digest": digest}


def _caption(values: Any, place: str) -> str:
    for column in CAPTION_COLUMNS:
        if column in values:
            return str(values[column])
    raise UserError(f"{place} has no caption", hint="name the column prompt")
