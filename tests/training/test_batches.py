"""Samples streamed while training: mirrored as the cached ones are, labelled, encoded."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.shards import write_shard
from helpers.teachers import INVERTED, save_onnx
from torch import Tensor
from torch.nn import functional as F

from jointnet_cli.data.shards.format import Sample
from jointnet_cli.data.shards.latents import load_latents
from jointnet_cli.data.shards.shard_set import ShardSet
from jointnet_cli.errors import UserError
from jointnet_cli.tensors import relative_disparity, to_map
from jointnet_cli.training.batches import Batch, CachedSource, StreamedSource
from jointnet_cli.training.determinism import RankSampler, SampleRNG
from jointnet_cli.training.recipe import Data

SIZE = 16
CPU = torch.device("cpu")
NAMES = ["rgb", "depth", "normal"]


def sample(number: int, depth: bool = True, white: bool = False) -> Sample:
    random = np.random.default_rng(number)
    normal = random.standard_normal((SIZE, SIZE, 3), np.float32)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    image = np.full((SIZE, SIZE, 3), 255, np.uint8) if white else random.integers(0, 120, (SIZE, SIZE, 3), np.uint8)
    inverse_depth = random.uniform(0, 1, (SIZE, SIZE)).astype(np.float32) if depth else None
    record = {"original_height": 2 * SIZE, "original_width": 4 * SIZE}
    return Sample(f"{number:03}", image, f"scene {number}", inverse_depth, normal, record)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two shards of five samples with all maps."""
    for shard in range(2):
        write_shard(tmp_path / f"{shard:05}.tar", [sample(5 * shard + number) for number in range(5)])
    return tmp_path


@pytest.fixture
def inverted(tmp_path: Path) -> str:
    """A teacher that takes the dark for near."""
    path = save_onnx(tmp_path / "inverted.onnx", *INVERTED, shape=("batch", 3, SIZE, SIZE))
    return f"onnx:{path}?mean=0&std=1"


def source(shards: Path, encode: Any = lambda maps: maps, warn: Any = pytest.fail, **data: Any) -> StreamedSource:
    table = Data.model_validate({"shards": str(shards), "maps": NAMES, "workers": 0, "shuffle": 4, **data})
    return StreamedSource(table, ShardSet.open(shards, table.limit), 3, SIZE, encode, CPU, warn)


def batches(found: StreamedSource, sampler: RankSampler, count: int, step: int = 0) -> list[Batch]:
    return list(islice(found.batches(sampler, step), count))


def convolve(maps: Tensor) -> Tensor:
    return F.conv2d(maps, torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(0)), stride=4)


@pytest.mark.parametrize("mirrored", [True, False])
def test_latents_are_those_of_a_cached_set(shards: Path, mirrored: bool) -> None:
    """Also which of them are mirrored."""
    cached = load_latents(ShardSet.open(shards), NAMES, convolve, "a", mirrored=mirrored)
    sampler = RankSampler(4)
    for batch in batches(source(shards, convolve, flip=mirrored), sampler, 5):
        assert batch.clean.shape == (4, 3, 4, SIZE // 4, SIZE // 4)
        rows = [int(caption.split()[1]) for caption in batch.captions]
        sides = SampleRNG(3, batch.positions, "mirrored").integers(len(cached.latents))
        assert torch.allclose(batch.clean, cached.latents[sides, rows].float(), atol=5e-3)
        assert (
            batch.crop_conditioning is not None
            and batch.crop_conditioning.tolist() == [[2 * SIZE, 4 * SIZE, 0, SIZE // 2]] * 4
        )
    expected = next(CachedSource(cached, 3).batches(sampler, 0))
    assert (expected.positions, expected.clean.shape) == (range(4), batch.clean.shape) and batch.positions == range(
        16, 20
    )


def test_a_source_goes_on_where_it_was(shards: Path) -> None:
    sampler = RankSampler(2, accumulation=2)
    whole = batches(source(shards), sampler, 12)
    assert [batch.positions for batch in whole] == [range(start, start + 2) for start in range(0, 24, 2)]
    later = batches(source(shards), sampler, 6, step=3)
    for first, second in zip(whole[6:], later, strict=True):
        assert first.positions == second.positions and first.captions == second.captions
        assert torch.equal(first.clean, second.clean)


def test_latents_made_in_inference_mode_can_be_trained_on(shards: Path) -> None:
    encode = torch.inference_mode()(lambda maps: maps * 2)
    [batch] = batches(source(shards, encode), RankSampler(1), 1)
    weight = torch.ones(1, requires_grad=True)
    (weight * batch.clean).sum().backward()
    assert weight.grad is not None and weight.grad.isfinite()


def test_the_recipe_names_the_size_or_the_model_does(shards: Path) -> None:
    assert [batches(source(shards, size=size), RankSampler(1), 1)[0].clean.shape[-1] for size in (None, 8)] == [SIZE, 8]


def test_maps_are_made_while_training(shards: Path, inverted: str) -> None:
    plain = batches(source(shards, maps=["rgb", "normal"]), RankSampler(4), 3)
    labelled = batches(source(shards, label={"depth": inverted}), RankSampler(4), 3)
    for first, second in zip(plain, labelled, strict=True):
        assert torch.equal(first.clean, second.clean[:, [0, 2]]) and first.captions == second.captions
        for row, place in enumerate(second.positions):
            brightness = (second.clean[row, 0].mean(dim=0, keepdim=True) + 1) / 2
            expected = to_map(relative_disparity(1 - brightness), "depth")[0]
            assert torch.allclose(second.clean[row, 1], expected, atol=1e-4), place


def test_normals_are_made_from_the_picture_as_it_is(shards: Path, tmp_path: Path) -> None:
    """Mirrored afterwards: what points right then points left."""
    right = save_onnx(tmp_path / "right.onnx", [[0.0] * 3] * 3, [1.0, 0.0, 0.0], shape=("batch", 3, SIZE, SIZE))
    found = batches(source(shards, label={"normal": f"onnx:{right}?mean=0&std=1"}), RankSampler(8), 1)[0]
    sides = SampleRNG(3, found.positions, "mirrored").integers(2)
    assert 0 < sides.sum() < 8
    x = found.clean[:, 2, 0]
    assert torch.allclose(x, (1 - 2.0 * sides).view(-1, 1, 1).expand_as(x))


def test_without_numbers_from_a_teacher_another_sample_of_the_batch_stands_in(tmp_path: Path) -> None:
    """A teacher that overflows on white."""
    folder = tmp_path / "set"
    folder.mkdir()
    write_shard(folder / "00000.tar", [sample(number, white=number == 1) for number in range(4)])
    loud = save_onnx(tmp_path / "loud.onnx", [[2e38] * 3], [0.0], shape=("batch", 3, SIZE, SIZE))
    words: list[str] = []
    found = source(
        folder, warn=words.append, maps=["rgb", "depth"], label={"depth": f"onnx:{loud}?mean=0&std=1"}, flip=False
    )
    for batch in batches(found, RankSampler(4), 3):
        assert batch.clean.isfinite().all() and (batch.clean[:, 0] < 0).all(), "the white one is gone"
        assert len(set(batch.captions)) == 3 and "scene 1" not in batch.captions
    assert found.replaced == {"a teacher gives no numbers for it": 3} and len(words) == 1
    with pytest.raises(UserError, match="no numbers for a whole micro-batch"):
        batches(found, RankSampler(1), 4)


def test_replaced_samples_are_said_once_and_counted(tmp_path: Path) -> None:
    write_shard(tmp_path / "00000.tar", [sample(number, depth=number > 1) for number in range(6)])
    words: list[str] = []
    found = source(tmp_path, warn=words.append, shuffle=6)
    batches(found, RankSampler(1), 12)
    assert found.replaced == {"no depth map": 4}
    assert len(words) == 1 and "no depth map" in words[0] and "00000.tar" in words[0]


def test_a_limit(shards: Path) -> None:
    seen = {caption for batch in batches(source(shards, limit=7), RankSampler(2), 14) for caption in batch.captions}
    assert seen == {f"scene {number}" for number in range(7)}


def test_what_a_set_holds(shards: Path, tmp_path: Path, inverted: str) -> None:
    members = "depth.png, json, normal.png, png, txt"
    assert ShardSet.open(shards).describe(NAMES) == f"10 samples in 2 shards; the first is 16x16 with {members}"
    assert ShardSet.open(shards, 4).describe(NAMES) == f"4 samples in 1 shards; the first is 16x16 with {members}"
    write_shard(tmp_path / "00000.tar", [sample(0, depth=False)])
    with pytest.raises(UserError, match=r"00000\.tar has no depth maps: its first sample, 000, holds json") as caught:
        ShardSet.open(shards).describe(NAMES)
    assert "data.label.depth" in str(caught.value.hint) and "prepare --label" in str(caught.value.hint)
    assert ShardSet.open(shards).describe(["rgb", "normal"]).startswith("6 samples")
