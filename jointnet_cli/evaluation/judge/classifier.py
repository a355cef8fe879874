"""A small classifier of worlds that judges generated pictures: biome, time of day, objects and their colours.

It is trained on pictures of training worlds and its accuracy on held-out worlds is stated beside everything it judges.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from jointnet_cli.data.shards.shard_set import ShardSet
from jointnet_cli.data.worlds import grammar
from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.judge.labels import BIOMES, COLOURS, KINDS, PAINTED, TIMES, UNKNOWN, label
from jointnet_cli.files.text import to_json
from jointnet_cli.progress import Progress

if TYPE_CHECKING:
    from jointnet_cli.evaluation.judge.prompts import Prompt

SIZE = 64
"""Pixels of a side that the classifier sees."""

FALSE_ALARMS = 0.02
"""The largest share of training pictures without a kind in which the classifier may claim it."""


@dataclass
class StackedLabels:
    """The labels of N pictures (see `labels`), stacked."""

    biome: Tensor
    """(N,)."""
    time: Tensor
    """(N,)."""
    present: Tensor
    """(N, kinds): 1, 0 or `UNKNOWN`."""
    colour: Tensor
    """(N, painted kinds): index or `UNKNOWN`."""


@dataclass
class Labelled:
    """Pictures with their labels."""

    images: Tensor
    """(N, 3, 64, 64) uint8 sRGB."""
    answers: StackedLabels
    keys: list[str]

    def __len__(self) -> int:
        return len(self.keys)


@dataclass
class Scores:
    """What the classifier makes of pictures, as logits."""

    biome: Tensor
    """(B, biomes)."""
    time: Tensor
    """(B, times)."""
    present: Tensor
    """(B, kinds): above 0 where the kind shows."""
    colour: Tensor
    """(B, painted kinds, colours); -inf for colours that a kind never has."""


class JudgeNet(nn.Module):
    """Plain convolutions; mean and maximum over the picture, so that a small object counts; one linear layer a question."""

    def __init__(self, widths: tuple[int, ...] = (32, 64, 96, 160)) -> None:
        super().__init__()
        blocks: list[nn.Module] = [_convolution(3, widths[0], stride=2)]
        for narrow, wide in pairwise(widths):
            blocks += [_convolution(narrow, wide), nn.MaxPool2d(2)]
        blocks.append(_convolution(widths[-1], widths[-1]))
        self.trunk = nn.Sequential(*blocks)
        self.counts = (len(BIOMES), len(TIMES), len(KINDS), len(PAINTED) * len(COLOURS))
        self.head = nn.Linear(2 * widths[-1], sum(self.counts))
        possible = torch.tensor([[colour in PAINTED[kind] for colour in COLOURS] for kind in PAINTED])
        self.register_buffer("impossible", ~possible, persistent=False)

    def forward(self, images: Tensor) -> Scores:
        """Judge pictures (B, 3, 64, 64) in [0, 1]."""
        features = self.trunk(images * 2 - 1)
        pooled = torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1)
        biome, time, present, colour = self.head(pooled).split(self.counts, dim=1)
        colour = colour.unflatten(1, (len(PAINTED), len(COLOURS)))
        return Scores(biome, time, present, colour.masked_fill(self.impossible, -torch.inf))


@dataclass
class Judge:
    """A trained classifier and what is known of it."""

    net: JudgeNet
    facts: dict[str, Any]
    """How it was trained, and `held_out`: its accuracy on worlds it has not seen."""

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Scores:
        """Judge pictures (B, 3, H, W) of any size, uint8 or in [0, 1]."""
        parts = [self.net(shrink(_fractions(batch))) for batch in images.split(128)]
        return Scores(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Scores)))

    def save(self, folder: Path) -> None:
        """Write the weights and facts into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.net.state_dict(), folder / "attributes.safetensors")
        (folder / "attributes.json").write_text(to_json(self.facts, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Judge:
        """Read what `save` wrote.

        Raises:
            UserError: nothing there.
        """
        weights = folder / "attributes.safetensors"
        if not weights.is_file():
            raise UserError(
                f"no classifier in {folder}",
                hint=f"python -m jointnet_cli.evaluation attributes --shards DIR --held-out DIR --judge {folder}",
            )
        net = JudgeNet()
        net.load_state_dict(load_file(weights))
        return cls(net.eval(), json.loads((folder / "attributes.json").read_text()))


def shrink(images: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) at the size the classifier sees."""
    if images.shape[-2:] == (SIZE, SIZE):
        return images
    return F.interpolate(images, (SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)


def load_labelled(shards: str | Path, limit: int | None = None, *, evaluation: bool = False) -> Labelled:
    """Read the pictures of shards and label them; with `evaluation` warn of training seeds.

    Raises:
        UserError: no shards there, or shards of another source than worlds.
    """
    images, labels, keys = [], [], []
    for sample in ShardSet.open(shards, evaluation=evaluation).samples(()):
        if "scene" not in sample.record:
            raise UserError(f"sample {sample.key} has no scene record", hint="labels come from shards of worlds")
        picture = torch.from_numpy(np.array(sample.image)).permute(2, 0, 1)[None].float() / 255
        images.append((shrink(picture)[0] * 255).round().byte())
        labels.append(label(sample.record["scene"], sample.caption))
        keys.append(sample.key)
        if len(keys) == limit:
            break
    columns = ((getattr(item, name) for item in labels) for name in ("biome", "time", "present", "colour"))
    return Labelled(torch.stack(images), StackedLabels(*(torch.tensor(list(column)) for column in columns)), keys)


def train_judge(
    training: Labelled,
    held_out: Labelled,
    *,
    epochs: int = 12,
    batch_size: int = 64,
    learning_rate: float = 4e-3,
    seed: int = 0,
    progress: Progress | None = None,
) -> Judge:
    """Train a classifier and measure it on held-out worlds.

    Raises:
        UserError: the two sets share worlds.
    """
    if shared := set(training.keys) & set(held_out.keys):
        raise UserError(f"{len(shared)} worlds are in both sets", hint="hold out shards of other worlds")
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = JudgeNet()
    steps = epochs * max(1, len(training) // batch_size)
    optimizer = torch.optim.AdamW(net.parameters(), learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps)
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
        "seed": seed,
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "held_out_images": len(held_out),
        "held_out": accuracy(judge(held_out.images), held_out.answers),
    }
    return judge


@torch.no_grad()
def set_thresholds(judge: Judge, training: Labelled) -> None:
    """Move the scores of kinds so that 0 decides fairly between them.

    Trained on scenes, a classifier holds a rare kind for unlikely. A prompt asks for all of them alike, so a kind counts
    as present where it is likelier than not at even odds, unless more than `FALSE_ALARMS` of the training pictures
    without it would then have it.
    """
    scores, present = judge(training.images).present, training.answers.present
    thresholds = []
    for score, answer in zip(scores.unbind(dim=1), present.unbind(dim=1), strict=True):
        absent = score[answer == 0]
        odds = ((answer == 1).sum() / max(1, len(absent))).clamp(1e-3, 1)
        strict = torch.quantile(absent, 1 - FALSE_ALARMS) if len(absent) else odds.log()
        thresholds.append(torch.maximum(odds.log(), strict).clamp(max=0))
    first = len(BIOMES) + len(TIMES)
    judge.net.head.bias[first : first + len(KINDS)] -= torch.stack(thresholds)


def accuracy(scores: Scores, truth: StackedLabels) -> dict[str, Any]:
    """How often the classifier is right.

    `biome`, `time` and `colour` are shares of right answers, `colour` over the painted kinds that are named and with the
    kind given. Of the objects, `objects_found` is the share of present ones found, `objects_imagined` the share of
    absent ones claimed.
    """
    present, absent = truth.present == 1, truth.present == 0
    claimed = scores.present > 0
    known = truth.colour != UNKNOWN
    biome, time = scores.biome.argmax(dim=1) == truth.biome, scores.time.argmax(dim=1) == truth.time
    right = scores.colour.argmax(dim=2) == truth.colour
    return {
        "biome": _share(biome),
        "time": _share(time),
        "objects_found": _share(claimed[present]),
        "objects_imagined": _share(claimed[absent]),
        "colour": _share(right[known]),
        "by_biome": {name: _share(biome[truth.biome == i]) for i, name in enumerate(BIOMES)},
        "by_time": {name: _share(time[truth.time == i]) for i, name in enumerate(TIMES)},
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
    """`steps` batches from permutation after permutation."""
    order = torch.randperm(size, generator=generator)
    for _ in range(steps):
        if len(order) < batch_size:
            order = torch.cat([order, torch.randperm(size, generator=generator)])
        yield order[:batch_size]
        order = order[batch_size:]


def _augment(images: Tensor, generator: Generator) -> Tensor:
    """Mirror half of the pictures; blur half and add noise, since a generated picture is softer than a rendered one."""
    mirrored, blurred = torch.rand(2, len(images), 1, 1, 1, generator=generator) < 0.5
    images = torch.where(mirrored, images.flip(3), images)
    soft = F.interpolate(F.avg_pool2d(images, 2), scale_factor=2.0, mode="bilinear", align_corners=False)
    images = torch.where(blurred, soft, images)
    return images + 0.02 * torch.randn(images.shape, generator=generator)


def _loss(scores: Scores, truth: StackedLabels, picked: Tensor) -> Tensor:
    present = truth.present[picked]
    objects = F.binary_cross_entropy_with_logits(scores.present, present.clamp(min=0).float(), reduction="none")
    known = (present != UNKNOWN).float()
    colour = truth.colour[picked].flatten()
    painted = F.cross_entropy(scores.colour.flatten(0, 1), colour, ignore_index=UNKNOWN, reduction="sum")
    return (
        F.cross_entropy(scores.biome, truth.biome[picked])
        + F.cross_entropy(scores.time, truth.time[picked])
        + 4 * (objects * known).sum() / known.sum().clamp(min=1)
        + painted / (colour != UNKNOWN).sum().clamp(min=1)
    )


def _share(right: Tensor) -> float | None:
    """The share of true values, `None` of none."""
    return round(right.float().mean().item(), 4) if right.numel() else None


def labels_of_prompts(prompts: Sequence[Prompt]) -> StackedLabels:
    """What the pictures of prompts must show."""
    present = torch.tensor([[_asked(prompt, kind) for kind in KINDS] for prompt in prompts])
    colour = torch.full((len(prompts), len(PAINTED)), UNKNOWN)
    for row, prompt in zip(colour, prompts, strict=True):
        if prompt.colour is not None:
            row[list(PAINTED).index(prompt.kind)] = COLOURS.index(prompt.colour)
    return StackedLabels(
        biome=torch.tensor([BIOMES.index(prompt.biome) for prompt in prompts]),
        time=torch.tensor([TIMES.index(prompt.time) for prompt in prompts]),
        present=present,
        colour=colour,
    )


def _asked(prompt: Prompt, kind: str) -> int:
    if kind == prompt.kind:
        return 1
    biome = grammar.BIOMES[prompt.biome]
    may_hold = {rule.kind for rule in biome.heroes + biome.company} | ({"pine"} if prompt.biome == "forest" else set())
    return UNKNOWN if kind in may_hold else 0
