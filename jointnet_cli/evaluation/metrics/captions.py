"""Prompt adherence: CLIP similarity and caption accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jointnet_cli.errors import UserError, reading
from jointnet_cli.evaluation.captions import Caption
from jointnet_cli.evaluation.intervals import share_estimate
from jointnet_cli.evaluation.judge.classifier import Judge, StackedLabels, accuracy
from jointnet_cli.evaluation.judge.labels import UNKNOWN, Labels
from jointnet_cli.evaluation.metrics.features import judge_key, weights_digest
from jointnet_cli.evaluation.metrics.metric import PerCase, Predictions
from jointnet_cli.evaluation.report import Cell, Column
from jointnet_cli.evaluation.runner import Record, Runner
from jointnet_cli.model.config import known_files
from jointnet_cli.model.hub import fetch_network, is_hub_id
from jointnet_cli.model.weights import without_progress_bars


class Clip:
    """A CLIP model.

    Args:
        source: a folder or a hub id, such as `openai/clip-vit-large-patch14`.
        device: where it computes.

    Raises:
        UserError: not there, or no CLIP model.
    """

    name: str
    """The name in tables: the hub id, or the name of the folder."""
    key: str
    """A digest of its weights."""

    def __init__(self, source: str, device: torch.device) -> None:
        from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

        hint = "give a folder in transformers' format, or a hub id while the network works; or leave out --clip"
        if not Path(source).is_dir() and not is_hub_id(source):
            raise UserError(f"no CLIP model in {source}: no such folder", hint=hint)
        try:
            folder = source if Path(source).is_dir() else fetch_network(source)
            with (
                reading(f"the CLIP model in {source}"),
                known_files(Path(folder), CLIPModel) as known,
                without_progress_bars(),
            ):
                self._model = (
                    CLIPModel.from_pretrained(known, weights_only=True).eval().requires_grad_(False).to(device)
                )
                self._words = AutoTokenizer.from_pretrained(known)
                self._resize = CLIPImageProcessor.from_pretrained(known)
        except UserError as fault:
            raise UserError(str(fault), hint=hint) from fault
        self.name = Path(source).resolve().name if Path(source).is_dir() else source
        self.key = weights_digest(self._model)
        self._device = device

    @torch.inference_mode()
    def similarity(self, image: Tensor, text: str) -> float:
        """Return 100 times the cosine between an image (1, 3, H, W) in [0, 1] and a text, which is cut to CLIP's length."""
        length = self._model.config.text_config.max_position_embeddings
        words = self._words([text], truncation=True, max_length=length, return_tensors="pt").to(self._device)
        pixels = (image[0].permute(1, 2, 0) * 255).round().byte().cpu().numpy()
        sized = self._resize(images=[pixels], return_tensors="pt")["pixel_values"].to(self._device)
        seen = self._model(input_ids=words["input_ids"], attention_mask=words["attention_mask"], pixel_values=sized)
        return 100 * float((seen.image_embeds[0] * seen.text_embeds[0]).sum())


def clip_similarity(clip: Clip, captions: Sequence[Caption], resamples: int) -> PerCase:
    """Return the metric of the similarity of an image and its caption."""

    def measure(predictions: Predictions, number: int) -> Record:
        return {"similarity": clip.similarity(predictions.tensor(number), captions[number].text)}

    columns = {"similarity": Column(f"CLIP similarity ({clip.name})", "higher", 2)}
    return PerCase(columns, resamples, measure, key=f"CLIP {clip.name} {clip.key}", title="CLIP")


QUESTIONS = ("biome", "time", "view", "objects", "colour", "imagined")
"""What a judge is asked; `imagined` are the kinds that it claims among those that must not be there."""


@dataclass(frozen=True)
class Counts:
    """Answers about N images, by question."""

    right: NDArray[np.int64]
    """(N, questions): right answers, or kinds imagined."""
    asked: NDArray[np.int64]
    """(N, questions)."""


class CaptionAccuracy:
    """How often an image shows what its caption asks for, by the answers of a judge.

    Args:
        judge: the classifier.
        captions: by number of the image; with labels where a judge can tell.
        asked: captions that decide which questions have a column.
        resamples: of the bootstrap.
    """

    def __init__(self, judge: Judge, captions: Sequence[Caption], asked: Sequence[Caption], resamples: int) -> None:
        self._judge, self._captions, self._resamples = judge, captions, resamples
        self._questions: list[int] = []
        self.accuracies: dict[str, dict[str, Any]] = {}
        """What `judge.classifier.accuracy` says, by method."""
        if labels := [caption.asked for caption in asked if caption.asked]:
            truth = StackedLabels.stack(labels)
            totals = count_correct(truth, truth).asked.sum(axis=0)
            self._questions = [number for number, total in enumerate(totals) if total]

    @property
    def columns(self) -> list[Column]:
        return [_column(QUESTIONS[number]) for number in self._questions]

    def __call__(self, predictions: Predictions, runner: Runner) -> Mapping[str, Cell]:
        """Return the share of right answers to every question."""
        asked = {
            number: labels
            for number in predictions.records
            if number < len(self._captions) and (labels := self._captions[number].asked)
        }

        def ask(number: int) -> Record:
            (answer,) = self._judge(predictions.tensor(number)).labels().unstack()
            return asdict(answer)

        key = f"{predictions.key} answers {judge_key(self._judge)}"
        records = runner.run(key, asked, ask, f"{predictions.name}, judge")
        if not records:
            return {}
        truth = StackedLabels.stack([asked[number] for number in records])
        found = StackedLabels.stack([Labels(**record) for record in records.values()])
        self.accuracies[predictions.name] = accuracy(found, truth)
        counts = count_correct(found, truth)
        return {
            _column(QUESTIONS[question]).name: share_estimate(
                counts.right[:, question], counts.asked[:, question], resamples=self._resamples
            )
            for question in self._questions
        }


def _column(question: str) -> Column:
    return Column(f"Judge {question}", "lower" if question == "imagined" else "higher", 1, percent=True)


def count_correct(found: StackedLabels, truth: StackedLabels) -> Counts:
    """Count the right answers about N images. Their sums are the shares of `judge.classifier.accuracy`."""
    named, absent, painted = truth.present == 1, truth.present == 0, truth.colour != UNKNOWN
    claimed = found.present == 1
    single = [(getattr(found, name), getattr(truth, name)) for name in QUESTIONS[:3]]
    right = [
        *((answer == told) & (told != UNKNOWN) for answer, told in single),
        (named & claimed).sum(dim=1),
        (painted & (found.colour == truth.colour)).sum(dim=1),
        (absent & claimed).sum(dim=1),
    ]
    asked = [*(told != UNKNOWN for _, told in single), *(each.sum(dim=1) for each in (named, painted, absent))]
    return Counts(*(torch.stack([part.long() for part in parts], dim=1).numpy() for parts in (right, asked)))
