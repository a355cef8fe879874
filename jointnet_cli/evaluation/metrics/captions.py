"""Prompt adherence: CLIP similarity and caption accuracy."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.judge.classifier import Judge, Scores, StackedLabels, shrink
from jointnet_cli.evaluation.judge.labels import UNKNOWN, Labels
from jointnet_cli.evaluation.metrics.features import FeatureSpace


class Clip:
    """A CLIP model.

    Args:
        source: a folder or a hub id, such as `openai/clip-vit-large-patch14`.
        device: where it computes.

    Raises:
        UserError: not there, or no CLIP model.
    """

    name: str
    """As tables state it: the hub id, or the folder's name."""

    def __init__(self, source: str, device: torch.device) -> None:
        from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        try:
            self._model = CLIPModel.from_pretrained(source).eval().requires_grad_(False).to(device)
            self._words = AutoTokenizer.from_pretrained(source)
            self._resize = CLIPImageProcessor.from_pretrained(source)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(
                f"no CLIP model in {source}: {reason}", hint="a folder in transformers' format, or a hub id"
            ) from error
        self.name = Path(source).resolve().name if Path(source).is_dir() else source
        self._device = device

    @torch.inference_mode()
    def similarity(self, picture: Tensor, text: str) -> float:
        """100 times the cosine between a picture (1, 3, H, W) in [0, 1] and a text, which is cut to CLIP's length."""
        length = self._model.config.text_config.max_position_embeddings
        words = self._words([text], truncation=True, max_length=length, return_tensors="pt").to(self._device)
        pixels = (picture[0].permute(1, 2, 0) * 255).round().byte().cpu().numpy()
        sized = self._resize(images=[pixels], return_tensors="pt")["pixel_values"].to(self._device)
        seen = self._model(input_ids=words["input_ids"], attention_mask=words["attention_mask"], pixel_values=sized)
        return 100 * float((seen.image_embeds[0] * seen.text_embeds[0]).sum())


QUESTIONS = ("biome", "time", "objects", "colour")


@dataclass(frozen=True)
class Counts:
    """Answers of one picture, by question."""

    right: tuple[int, ...]
    asked: tuple[int, ...]
    """Each at least as many as are right."""


def judge_features(judge: Judge) -> FeatureSpace:
    """The judge's 160 last features."""
    return FeatureSpace(
        "Judge", judge_key(judge), lambda pictures: (last_features(judge, pictures.cpu()), None), classifies=False
    )


@torch.inference_mode()
def last_features(judge: Judge, pictures: Tensor) -> Tensor:
    """The judge's last features before its questions, averaged over the picture: (B, 3, H, W) in [0, 1] to (B, 160)."""
    features: Tensor = judge.net.trunk(shrink(pictures.float()) * 2 - 1)
    return features.mean(dim=(2, 3)).double()


def judge_key(judge: Judge) -> str:
    """What tells its weights from another's."""
    digest = hashlib.sha256()
    for name, weights in judge.net.state_dict().items():
        digest.update(name.encode() + weights.contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def count_answers(judge: Judge, picture: Tensor, asked: Labels) -> Counts:
    """Ask the judge whether a picture (1, 3, H, W) in [0, 1] shows what is asked for.

    Biome, time of day, every kind of object that has to be there, and the colour of those that have to have one.
    """
    return count_scores(judge(picture), stack([asked]))[0]


def count_scores(scores: Scores, truth: StackedLabels) -> list[Counts]:
    """The same for scores of N pictures. Their sums are the shares of `attributes.accuracy`."""
    named = truth.present == 1
    painted = truth.colour != UNKNOWN
    asked = [truth.biome != UNKNOWN, truth.time != UNKNOWN, named.sum(dim=1), painted.sum(dim=1)]
    right = [
        scores.biome.argmax(dim=1) == truth.biome,
        scores.time.argmax(dim=1) == truth.time,
        (named & (scores.present > 0)).sum(dim=1),
        (painted & (scores.colour.argmax(dim=2) == truth.colour)).sum(dim=1),
    ]
    table = torch.stack([torch.stack([part.long() for part in parts], dim=1) for parts in (right, asked)])
    return [Counts(tuple(hits), tuple(all_)) for hits, all_ in zip(*table.tolist(), strict=True)]


def stack(labels: Sequence[Labels]) -> StackedLabels:
    """Labels of N pictures as tensors."""
    columns = ([getattr(item, name) for item in labels] for name in ("biome", "time", "present", "colour"))
    return StackedLabels(*(torch.tensor(column) for column in columns))
