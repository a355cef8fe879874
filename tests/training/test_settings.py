"""Every setting of `[train]` does what it names: two weights trained by the trainer, and by NumPy."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from jointnet_cli.training.batches import Batch
from jointnet_cli.training.determinism import RankSampler, SampleRNG
from jointnet_cli.training.optimizers import MuonWithAdamW
from jointnet_cli.training.previews import Pictures
from jointnet_cli.training.recipe import Train
from jointnet_cli.training.trainer import Trainer

from .conftest import log_of

START = [[1.5, -0.5]]
TRAIN = Train(batch_size=2, learning_rate=0.1, max_steps=4, warmup_steps=3, ema=0.25, log_every=1, preview_minutes=None)
Values = NDArray[np.float64]


class TypesOfNorms(TorchDispatchMode):
    """Notes the types of what group norms compute on while entered."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.native_group_norm.default:
            self.found.add(args[0].dtype)
        return func(*args, **(kwargs or {}))


class Regression:
    """A stage of two weights w: the error of the sample at place p is half of (w x - y) squared.

    x is (1, p mod 3), and y is drawn.
    """

    def __init__(self, settings: Train) -> None:
        self.settings = settings
        self.network = nn.Linear(2, 1, bias=False)
        self.network.weight.data = torch.tensor(START)
        self.batch_sizes: list[int] = []
        self.autocast: set[torch.dtype | None] = set()
        self.norms: set[torch.dtype] = set()
        """Types in which group norms of bfloat16 are computed."""
        self.made: list[tuple[str, list[float]]] = []
        """Every preview and export in order, with the weights that it was made with."""

    def batches(self, sampler: RankSampler, step: int) -> Iterator[Batch]:
        for number in count(step):
            for micro in range(sampler.accumulation):
                places = sampler.positions(number, micro)
                yield Batch(places, torch.tensor([[1.0, place % 3] for place in places]), [])

    def conditioning(self, batch: Batch, rng: SampleRNG | None) -> None:
        return None

    def loss(self, network: nn.Module, batch: Batch, conditioning: None, rng: SampleRNG) -> dict[str, Tensor]:
        self.batch_sizes.append(len(batch.positions))
        self.autocast.add(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None)
        with TypesOfNorms() as types:
            F.group_norm(torch.ones(1, 2, 4, dtype=torch.bfloat16), 1)
        self.norms |= types.found
        difference = network(batch.clean)[:, 0].float() - rng.uniform()
        return {"error": difference.square().mean() / 4, "other": difference.square().mean() / 4}

    def preview(self) -> Pictures:
        """One picture, of which red is the number of what was made so far."""
        self.made.append(("preview", self.weights))
        picture = torch.zeros(1, 3, 4, 8)
        picture[:, 0] = len(self.made) / 255
        return Pictures([picture], columns=1)

    def export(self, folder: Path, facts: dict[str, object]) -> None:
        self.made.append((folder.name, self.weights))
        folder.mkdir(parents=True)
        (folder / "facts.json").write_text(json.dumps(facts))

    @property
    def weights(self) -> list[float]:
        return self.network.weight.detach().flatten().tolist()


class ByHand:
    """The same training in float64; lists begin with what is there before the first step."""

    def __init__(self, train: Train) -> None:
        weights, first, second = np.array(START[0]), np.zeros(2), np.zeros(2)
        self.weights, self.averages = [weights], [weights]
        self.rates: list[float] = []
        self.losses: list[float] = []
        self.norms: list[float] = []
        total = train.batch_size * train.accumulation
        for step in range(1, train.max_steps + 1):
            places = range((step - 1) * total, step * total)
            inputs = np.array([[1.0, place % 3] for place in places])
            difference = inputs @ weights - SampleRNG(train.seed, places).uniform().double().numpy()
            self.losses.append(float(np.square(difference).mean() / 2))
            gradient = difference @ inputs / total
            self.norms.append(float(np.linalg.norm(gradient)))
            gradient = gradient * min(1, train.gradient_clip / self.norms[-1])
            rate = train.learning_rate * min(1, step / train.warmup_steps)
            if train.schedule == "cosine":
                cosine = (1 + math.cos(math.pi * (step - 1) / train.max_steps)) / 2
                rate *= train.final_learning_rate + (1 - train.final_learning_rate) * cosine
            self.rates.append(rate)
            # AdamW (Loshchilov & Hutter, 2019, algorithm 2).
            one, two = train.betas
            first, second = one * first + (1 - one) * gradient, two * second + (1 - two) * gradient**2
            adam = first / (1 - one**step) / (np.sqrt(second / (1 - two**step)) + 1e-8)
            weights = weights - rate * (adam + train.weight_decay * weights)
            self.weights.append(weights)
            # The first step replaces the average; its decay then rises to that of the recipe.
            decay = min(train.ema or 0, step / (9 + step)) if step > 1 else 0
            self.averages.append(decay * self.averages[-1] + (1 - decay) * weights)


def trained(train: Train, run: Path) -> tuple[Regression, Trainer]:
    stage = Regression(train)
    trainer = Trainer(stage, run, lambda line: None)
    assert trainer.fit() == run / "model"
    return stage, trainer


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"batch_size": 3},
        {"accumulation": 3},
        {"learning_rate": 0.2},
        {"max_steps": 3},
        {"warmup_steps": 1},
        {"schedule": "cosine"},
        {"schedule": "cosine", "final_learning_rate": 0.5},
        {"weight_decay": 0.5},
        {"betas": (0.5, 0.999)},
        {"betas": (0.9, 0.9)},
        {"gradient_clip": 0.3},
        {"ema": 0.1},
        {"ema": 0.9},
        {"ema": None},
        {"seed": 1},
    ],
    ids=str,
)
def test_a_setting_changes_the_weights_as_by_hand(tmp_path: Path, changed: dict[str, Any]) -> None:
    train = TRAIN.model_copy(update=changed)
    hand, plain = ByHand(train), ByHand(TRAIN)
    stage, _ = trained(train, tmp_path)
    exported = dict(stage.made)["model.partial"]
    assert stage.weights == pytest.approx(hand.weights[-1], abs=1e-5)
    assert exported == pytest.approx(hand.averages[-1] if train.ema else hand.weights[-1], abs=1e-5)
    if changed:
        assert exported != pytest.approx(plain.averages[-1], abs=1e-3), "the setting has an effect"
    assert stage.batch_sizes == [train.batch_size] * train.accumulation * train.max_steps
    lines = log_of(tmp_path)
    assert [line["learning_rate"] for line in lines] == pytest.approx(hand.rates) and min(hand.rates) > 0
    assert [line["loss"] for line in lines] == pytest.approx(hand.losses, abs=2e-6)
    assert [line["error"] for line in lines] == pytest.approx([loss / 2 for loss in hand.losses], abs=2e-6)
    assert [line["gradient_norm"] for line in lines] == pytest.approx(hand.norms, abs=2e-6)


def test_pictures_and_exports_are_made_with_the_averaged_weights(tmp_path: Path) -> None:
    train = TRAIN.model_copy(update={"max_steps": 3, "export_steps": [0, 2], "preview_steps": 2})
    stage, _ = trained(train, tmp_path)
    hand = ByHand(train)
    wanted = [
        ("preview", 0),
        ("0000000.partial", 0),
        ("0000002.partial", 2),
        ("preview", 2),
        ("model.partial", 3),
        ("preview", 3),
    ]
    assert [name for name, _ in stage.made] == [name for name, _ in wanted]
    for (name, weights), (_, step) in zip(stage.made, wanted, strict=True):
        assert weights == pytest.approx(hand.averages[step], abs=1e-5), name
    assert stage.weights == pytest.approx(hand.weights[3], abs=1e-5), "which go on training"
    for folder, steps in (("models/0000000", 0), ("models/0000002", 2), ("model", 3)):
        facts = json.loads((tmp_path / folder / "facts.json").read_text())
        assert facts["steps"] == steps and facts["samples"] == 2 * steps
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize(
    ("changed", "checkpoints", "previews", "logged"),
    [
        ({}, [5], [5], [1, 2, 3, 4, 5]),
        ({"log_every": 2}, [5], [5], [2, 4, 5]),
        ({"checkpoint_minutes": 1e-9}, [4, 5], [5], [1, 2, 3, 4, 5]),
        ({"checkpoint_minutes": 1e-9, "keep_checkpoints": 3}, [3, 4, 5], [5], [1, 2, 3, 4, 5]),
        ({"preview_minutes": 1e-9}, [5], [1, 2, 3, 4, 5], [1, 2, 3, 4, 5]),
        ({"max_minutes": 1e-9}, [1], [1], [1]),
    ],
    ids=str,
)
def test_what_is_written_when(
    tmp_path: Path, changed: dict[str, Any], checkpoints: list[int], previews: list[int], logged: list[int]
) -> None:
    trained(TRAIN.model_copy(update={"max_steps": 5, **changed}), tmp_path)
    assert sorted(int(path.name) for path in (tmp_path / "state").iterdir()) == checkpoints
    assert sorted(path.name for path in (tmp_path / "previews").iterdir()) == [f"{step:07}.png" for step in previews]
    assert [line["step"] for line in log_of(tmp_path)] == logged


def test_the_optimizer_is_the_one_named(tmp_path: Path) -> None:
    for name, kind in (("adamw", torch.optim.AdamW), ("muon", MuonWithAdamW)):
        trainer = Trainer(Regression(TRAIN.model_copy(update={"optimizer": name})), tmp_path, lambda line: None)
        assert type(trainer.optimizer.optimizer) is kind


@pytest.fixture
def _other_precision() -> Iterator[None]:
    """A process has one precision; this lets a test choose it."""
    AcceleratorState._reset_state()
    yield
    AcceleratorState._reset_state()


@pytest.mark.usefixtures("_other_precision")
@pytest.mark.parametrize(("name", "dtype"), [("no", None), ("bf16", torch.bfloat16)])
def test_losses_are_computed_in_the_precision_named(tmp_path: Path, name: str, dtype: torch.dtype | None) -> None:
    stage, _ = trained(TRAIN.model_copy(update={"mixed_precision": name, "max_steps": 1}), tmp_path)
    assert stage.autocast == {dtype}
    assert stage.norms == {torch.bfloat16 if dtype is None else torch.float32}  # which is faster on a CPU
