"""The judge: a small classifier of images of worlds, by biome, time of day, view, objects and their colors.

It is trained on images of training worlds. Its accuracy on held-out worlds is stated beside everything it judges.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from jointnet_cli.data.shards.shard_set import EVALUATION_COMMAND, ShardSet
from jointnet_cli.errors import UserError, reading
from jointnet_cli.evaluation.judge.labels import (
    BIOMES,
    COLOURS,
    KINDS,
    PAINTED,
    TIMES,
    UNKNOWN,
    VIEWS,
    Labels,
    label_record,
)
from jointnet_cli.files.atomic import follow_umask
from jointnet_cli.files.text import load_json, to_json
from jointnet_cli.progress import Progress

SIZE = 128
"""Side of the images that the classifier sees, in pixels."""

SEED, LEARNING_RATE = 0, 4e-3

FALSE_ALARMS = 0.02
"""The largest share of training images without a kind in which the classifier may claim it."""


@dataclass
class StackedLabels:
    """The labels of N images, stacked."""

    biome: Tensor
    """(N,)."""
    time: Tensor
    """(N,)."""
    view: Tensor
    """(N,)."""
    present: Tensor
    """(N, kinds): 1, 0 or `UNKNOWN`."""
    colour: Tensor
    """(N, painted kinds): index or `UNKNOWN`."""

    @classmethod
    def stack(cls, labels: Sequence[Labels]) -> StackedLabels:
        """Stack the labels of N images."""
        columns = ([getattr(item, field.name) for item in labels] for field in fields(cls))
        return cls(*(torch.tensor(column) for column in columns))

    def unstack(self) -> list[Labels]:
        """Return the labels one by one."""
        columns = zip(*(getattr(self, field.name).tolist() for field in fields(self)), strict=True)
        return [
            Labels(biome, time, view, tuple(present), tuple(colour)) for biome, time, view, present, colour in columns
        ]


@dataclass
class Labelled:
    """Images with their labels."""

    images: Tensor
    """(N, 3, 128, 128) uint8 sRGB."""
    answers: StackedLabels
    keys: list[str]

    def __len__(self) -> int:
        return len(self.keys)


@dataclass
class Scores:
    """Logits of the classifier for B images."""

    biome: Tensor
    """(B, biomes)."""
    time: Tensor
    """(B, times)."""
    view: Tensor
    """(B, views)."""
    present: Tensor
    """(B, kinds): above 0 where the kind shows."""
    colour: Tensor
    """(B, painted kinds, colours); -inf for colours that a kind never has."""

    def labels(self) -> StackedLabels:
        """Return the likeliest labels; every kind has a color, whether it shows or not."""
        present = (self.present > 0).long()
        biome, time, view = (scores.argmax(dim=1) for scores in (self.biome, self.time, self.view))
        return StackedLabels(biome, time, view, present, self.colour.argmax(dim=2))


class JudgeNet(nn.Module):
    """Convolutions; mean and maximum over the image, so that a small object counts; one linear layer for all questions."""

    def __init__(self) -> None:
        super().__init__()
        widths = (32, 64, 96, 160)
        blocks: list[nn.Module] = [_convolution(3, widths[0], stride=2)]
        for narrow, wide in pairwise(widths):
            blocks += [_convolution(narrow, wide), nn.MaxPool2d(2)]
        blocks.append(_convolution(widths[-1], widths[-1]))
        self.trunk = nn.Sequential(*blocks)
        self.counts = (len(BIOMES), len(TIMES), len(VIEWS), len(KINDS), len(PAINTED) * len(COLOURS))
        self.head = nn.Linear(2 * widths[-1], sum(self.counts))
        possible = torch.tensor([[colour in PAINTED[kind] for colour in COLOURS] for kind in PAINTED])
        self.register_buffer("impossible", ~possible, persistent=False)

    def forward(self, images: Tensor) -> Scores:
        """Judge images (B, 3, 128, 128) in [0, 1]."""
        features = self.trunk(images * 2 - 1)
        pooled = torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1)
        biome, time, view, present, colour = self.head(pooled).split(self.counts, dim=1)
        colour = colour.unflatten(1, (len(PAINTED), len(COLOURS)))
        return Scores(biome, time, view, present, colour.masked_fill(self.impossible, -torch.inf))


@dataclass
class Judge:
    """A trained classifier and the facts about it."""

    net: JudgeNet
    facts: dict[str, Any]
    """How it was trained, and `held_out`: its accuracy on worlds it has not seen."""

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Scores:
        """Judge images (B, 3, H, W) of any size, uint8 or in [0, 1]."""
        parts = [self.net(shrink(_fractions(batch))) for batch in images.split(128)]
        return Scores(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Scores)))

    def save(self, folder: Path) -> None:
        """Write the weights and facts into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.net.state_dict(), folder / "attributes.safetensors")
        (folder / "attributes.json").write_text(to_json(self.facts, indent=2) + "\n")
        follow_umask(folder)

    @classmethod
    def load(cls, folder: Path) -> Judge:
        """Read what `save` wrote.

        Raises:
            UserError: nothing there, damaged, or of another version.
        """
        weights = folder / "attributes.safetensors"
        train = f"jointnet evaluate judge --training shards/worlds --held-out shards/evaluation --out {folder}"
        if not weights.is_file():
            raise UserError(f"no classifier in {folder}", hint=train)
        net = JudgeNet()
        with reading(f"the classifier in {folder}"):
            net.load_state_dict(load_file(weights))
            facts = dict(load_json(folder / "attributes.json"))
        if facts.get("side") != SIZE:
            raise UserError(f"the classifier in {folder} sees images of another size", hint=train)
        return cls(net.eval(), facts)


def shrink(images: Tensor) -> Tensor:
    """Resize images (B, 3, H, W) to the size that the classifier sees."""
    if images.shape[-2:] == (SIZE, SIZE):
        return images
    return F.interpolate(images, (SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)


def load_labelled(shards: str | Path, limit: int | None = None, *, evaluation: bool = False) -> Labelled:
    """Read the images of shards and label them; with `evaluation` warn of training seeds.

    Raises:
        UserError: no shards there, or shards of another source than worlds.
    """
    images, labels, keys = [], [], []
    for sample in ShardSet.open(shards, evaluation=evaluation).samples(()):
        if (answers := label_record(sample.record, sample.caption)) is None:
            raise UserError(f"sample {sample.key} has no scene record", hint="labels come from shards of worlds")
        image = torch.from_numpy(np.array(sample.image)).permute(2, 0, 1)[None].float() / 255
        images.append((shrink(image)[0] * 255).round().byte())
        labels.append(answers)
        keys.append(sample.key)
        if len(keys) == limit:
            break
    return Labelled(torch.stack(images), StackedLabels.stack(labels), keys)


def train_judge(
    training: Labelled,
    held_out: Labelled,
    *,
    epochs: int,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> Judge:
    """Train a classifier and measure it on held-out worlds.

    Raises:
        UserError: the two sets share worlds.
    """
    if shared := set(training.keys) & set(held_out.keys):
        raise UserError(f"{len(shared)} worlds are in both sets", hint=f"hold out other worlds: {EVALUATION_COMMAND}")
    generator = torch.Generator().manual_seed(SEED)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        net = JudgeNet()
    steps = epochs * max(1, len(training) // batch_size)
    optimizer = torch.optim.AdamW(net.parameters(), LEARNING_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for step, picked in enumerate(_batches(len(training), batch_size, steps, generator)):
        images = _augment(_fractions(training.images[picked]), generator)
        loss = _loss(net(images), training.answers, picked)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if progress:
            progress(step + 1, steps)
    judge = Judge(net.eval(), {})
    set_thresholds(judge, training)
    judge.facts = {
        "training_images": len(training),
        "epochs": epochs,
        "seed": SEED,
        "side": SIZE,
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "held_out_images": len(held_out),
        "held_out": accuracy(judge(held_out.images).labels(), held_out.answers),
    }
    return judge


@torch.no_grad()
def set_thresholds(judge: Judge, training: Labelled) -> None:
    """Move the scores of kinds so that 0 decides fairly between them.

    Trained on scenes, a classifier considers a rare kind unlikely. Prompts ask for all kinds alike, so a kind counts as
    present where it is likelier than not at even odds, unless more than `FALSE_ALARMS` of the training images without it
    would then have it.
    """
    scores, present = judge(training.images).present, training.answers.present
    thresholds = []
    for score, answer in zip(scores.unbind(dim=1), present.unbind(dim=1), strict=True):
        absent = score[answer == 0]
        odds = ((answer == 1).sum() / max(1, len(absent))).clamp(1e-3, 1)
        strict = torch.quantile(absent, 1 - FALSE_ALARMS) if len(absent) else odds.log()
        thresholds.append(torch.maximum(odds.log(), strict).clamp(max=0))
    first = sum(judge.net.counts[:3])
    judge.net.head.bias[first : first + len(KINDS)] -= torch.stack(thresholds)


def accuracy(found: StackedLabels, truth: StackedLabels) -> dict[str, Any]:
    """Return how often the classifier is right.

    `biome`, `time`, `view` and `colour` are shares of right answers, `colour` over the painted kinds that are named and with
    the kind given. `objects_found` is the share of present objects found, `objects_imagined` the share of absent ones claimed.
    """
    present, absent = truth.present == 1, truth.present == 0
    claimed, known = found.present == 1, truth.colour != UNKNOWN
    biome, time, right = found.biome == truth.biome, found.time == truth.time, found.colour == truth.colour
    view = found.view == truth.view
    return {
        "biome": _share(biome[truth.biome != UNKNOWN]),
        "time": _share(time[truth.time != UNKNOWN]),
        "view": _share(view[truth.view != UNKNOWN]),
        "objects_found": _share(claimed[present]),
        "objects_imagined": _share(claimed[absent]),
        "colour": _share(right[known]),
        "by_biome": {name: _share(biome[truth.biome == i]) for i, name in enumerate(BIOMES)},
        "by_time": {name: _share(time[truth.time == i]) for i, name in enumerate(TIMES)},
        "by_view": {name: _share(view[truth.view == i]) for i, name in enumerate(VIEWS)},
        "found_by_kind": {kind: _share(claimed[present[:, i], i]) for i, kind in enumerate(KINDS)},
        "imagined_by_kind": {kind: _share(claimed[absent[:, i], i]) for i, kind in enumerate(KINDS)},
        "colour_by_kind": {kind: _share(right[known[:, i], i]) for i, kind in enumerate(PAINTED)},
    }


def _fractions(images: Tensor) -> Tensor:
    return images.float() / 255 if images.dtype == torch.uint8 else images


def _convolution(narrow: int, wide: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(narrow, wide, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(wide), nn.ReLU(inplace=True)
    )


def _batches(size: int, batch_size: int, steps: int, generator: Generator) -> Iterable[Tensor]:
    """Yield `steps` batches from permutation after permutation."""
    order = torch.randperm(size, generator=generator)
    for _ in range(steps):
        if len(order) < batch_size:
            order = torch.cat([order, torch.randperm(size, generator=generator)])
        yield order[:batch_size]
        order = order[batch_size:]


def _augment(images: Tensor, generator: Generator) -> Tensor:
    """Mirror half of the images; blur half and add noise, because generated images are softer than rendered ones."""
    mirrored, blurred = torch.rand(2, len(images), 1, 1, 1, generator=generator) < 0.5
    images = torch.where(mirrored, images.flip(3), images)
    soft = F.interpolate(F.avg_pool2d(images, 2), scale_factor=2.0, mode="bilinear", align_corners=False)
    images = torch.where(blurred, soft, images)
    return images + 0.02 * torch.randn(images.shape, generator=generator)


def _loss(scores: Scores, truth: StackedLabels, picked: Tensor) -> Tensor:
    present, biome = truth.present[picked], truth.biome[picked]
    objects = F.binary_cross_entropy_with_logits(scores.present, present.clamp(min=0).float(), reduction="none")
    known = (present != UNKNOWN).float()
    colour = truth.colour[picked].flatten()
    painted = F.cross_entropy(scores.colour.flatten(0, 1), colour, ignore_index=UNKNOWN, reduction="sum")
    return (
        F.cross_entropy(scores.biome, biome, ignore_index=UNKNOWN, reduction="sum")
        / (biome != UNKNOWN).sum().clamp(min=1)
        + F.cross_entropy(scores.time, truth.time[picked])
        + F.cross_entropy(scores.view, truth.view[picked])
        + 4 * (objects * known).sum() / known.sum().clamp(min=1)
        + painted / (colour != UNKNOWN).sum().clamp(min=1)
    )


def _share(right: Tensor) -> float | None:
    """Return the share of true values, `None` if there are none."""
    return round(right.float().mean().item(), 4) if right.numel() else None
