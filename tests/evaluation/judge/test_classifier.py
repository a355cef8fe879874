"""The classifier: it learns, keeps, and is scored rightly."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from helpers.tables import evaluate

from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.judge.classifier import (
    FALSE_ALARMS,
    Judge,
    JudgeNet,
    Labelled,
    Scores,
    StackedLabels,
    accuracy,
    load_labelled,
    train_judge,
)
from jointnet_cli.evaluation.judge.labels import BIOMES, COLOURS, KINDS, PAINTED, TIMES, UNKNOWN, VIEWS


@pytest.fixture(scope="module")
def training(training_shards: Path) -> Labelled:
    return load_labelled(training_shards)


@pytest.fixture(scope="module")
def held_out(evaluation_shards: Path) -> Labelled:
    return load_labelled(evaluation_shards)


@pytest.fixture(scope="module")
def judge(training: Labelled, held_out: Labelled) -> Judge:
    return train_judge(training, held_out, epochs=25, batch_size=16)


def test_small() -> None:
    assert sum(parameter.numel() for parameter in JudgeNet().parameters()) < 1_000_000


def test_labelled_pictures(training: Labelled) -> None:
    assert training.images.shape == (32, 3, 128, 128)
    assert training.images.dtype == torch.uint8
    assert training.answers.present.shape == (32, len(KINDS))
    assert training.answers.colour.shape == (32, len(PAINTED))
    assert set(training.answers.present.unique().tolist()) <= {0, 1, UNKNOWN}


def test_learns_its_training_set(judge: Judge, training: Labelled) -> None:
    learned = accuracy(judge(training.images).labels(), training.answers)
    assert learned["biome"] > 0.6
    assert learned["time"] > 0.6


def test_states_held_out_accuracy(judge: Judge, held_out: Labelled) -> None:
    assert judge.facts["training_images"] == 32
    assert judge.facts["held_out_images"] == 8
    assert judge.facts["held_out"] == accuracy(judge(held_out.images).labels(), held_out.answers)


def test_thresholds_bound_false_alarms(training: Labelled, judge: Judge) -> None:
    claimed = accuracy(judge(training.images).labels(), training.answers)
    assert claimed["objects_imagined"] <= FALSE_ALARMS + 1 / len(training)
    assert claimed["objects_found"] > 0.8


def test_never_names_a_colour_that_a_kind_does_not_have(judge: Judge) -> None:
    scores = judge(torch.rand(20, 3, 128, 128, generator=torch.Generator().manual_seed(0)))
    for kind, logits in zip(PAINTED, scores.colour.unbind(dim=1), strict=True):
        assert {COLOURS[index] for index in logits.argmax(dim=1).tolist()} <= set(PAINTED[kind])


def test_cache_round_trip(judge: Judge, held_out: Labelled, tmp_path: Path) -> None:
    judge.save(tmp_path / "judge")
    loaded = Judge.load(tmp_path / "judge")
    assert loaded.facts == judge.facts
    images = held_out.images
    assert torch.equal(loaded(images).biome, judge(images).biome)
    assert torch.equal(loaded(images).colour, judge(images).colour)


def test_same_seed_same_weights(training: Labelled, held_out: Labelled) -> None:
    first, second = (train_judge(training, held_out, epochs=1, batch_size=16) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.net.parameters(), second.net.parameters(), strict=True))


def test_refusals(training: Labelled, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no classifier"):
        Judge.load(tmp_path)
    Judge(JudgeNet(), {"side": 64}).save(tmp_path)
    with pytest.raises(UserError, match="sees images of another size"):
        Judge.load(tmp_path)
    for name, content in {"attributes.json": b"3", "attributes.safetensors": b"x" * 99}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=r"the classifier in .* cannot be read: "):
            Judge.load(tmp_path)
    with pytest.raises(UserError, match="both sets"):
        train_judge(training, training, epochs=1)


def test_a_file_in_place_of_the_folder_is_refused_before_training(
    tmp_path: Path, training_shards: Path, evaluation_shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "judge").touch()
    monkeypatch.setitem(sys.modules, "torch", None)
    result = evaluate(
        *("judge", "--training", training_shards, "--held-out", evaluation_shards, "--out", tmp_path / "judge")
    )
    assert result.exit_code == 2 and result.stderr.startswith(f"error: {tmp_path}/judge is not a folder"), result.stderr


def test_accuracy_by_hand() -> None:
    answers = StackedLabels(
        biome=torch.tensor([0, 1]),
        time=torch.tensor([2, 2]),
        view=torch.tensor([UNKNOWN, 1]),
        present=torch.full((2, len(KINDS)), UNKNOWN),
        colour=torch.full((2, len(PAINTED)), UNKNOWN),
    )
    answers.present[0, :4] = torch.tensor([1, 1, 0, 0])
    answers.present[1, 0] = 1
    answers.colour[:, 0] = torch.tensor([3, 3])
    scores = Scores(
        biome=torch.eye(len(BIOMES))[[0, 5]],
        time=torch.eye(len(TIMES))[[2, 2]],
        view=torch.eye(len(VIEWS))[[0, 2]],
        present=torch.full((2, len(KINDS)), -1.0),
        colour=torch.eye(len(COLOURS))[[3, 4]][:, None].expand(-1, len(PAINTED), -1),
    )
    scores.present[0, [0, 3]] = 1
    report = accuracy(scores.labels(), answers)
    assert report["biome"] == 0.5
    assert report["time"] == 1
    assert report["view"] == report["by_view"]["up"] == 0
    assert report["by_view"]["down"] is None
    assert report["objects_found"] == pytest.approx(1 / 3, abs=1e-4)
    assert report["objects_imagined"] == 0.5
    assert report["colour"] == 0.5
    assert report["found_by_kind"][KINDS[0]] == 0.5
    assert report["found_by_kind"][KINDS[9]] is None
