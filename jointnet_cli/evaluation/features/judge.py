"""The judge of worlds (`attributes`) as a feature space, and how many of the things asked for it finds."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from jointnet_cli.evaluation.attributes import Answers, Judge, Scores, shrink
from jointnet_cli.evaluation.features.space import FeatureSpace
from jointnet_cli.evaluation.labels import UNKNOWN, Labels

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


def count_scores(scores: Scores, truth: Answers) -> list[Counts]:
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


def stack(labels: Sequence[Labels]) -> Answers:
    """Labels of N pictures as tensors."""
    columns = ([getattr(item, name) for item in labels] for name in ("biome", "time", "present", "colour"))
    return Answers(*(torch.tensor(column) for column in columns))
