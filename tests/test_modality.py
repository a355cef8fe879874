"""The table of modalities: a new entry is enough for maps, files and records; NumPy and torch versions agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from jointnet_cli import tensors
from jointnet_cli.files import maps
from jointnet_cli.files.exr import read_exr, write_exr
from jointnet_cli.files.metadata import convention
from jointnet_cli.modality import MODALITIES, RGB, SKY_LENGTH, Modality
from jointnet_cli.projection import Projection

SEGMENTS = Modality("color", ("segments.R", "segments.G", "segments.B"), "Segment map: PNG.")


@pytest.fixture
def segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODALITIES, "segments", SEGMENTS)


def test_rgb_is_the_first_modality_and_channels_are_unique() -> None:
    assert next(iter(MODALITIES)) == RGB
    channels = [channel for modality in MODALITIES.values() for channel in modality.channels]
    assert len(set(channels)) == len(channels)


@pytest.mark.usefixtures("segments")
def test_a_new_modality_of_colors_needs_one_entry(tmp_path: Path) -> None:
    values = torch.tensor([[0.0, 0.25], [0.5, 1.0]]).expand(1, 3, 2, 2)
    encoded = tensors.to_map(values, "segments")
    assert torch.equal(encoded, values * 2 - 1)
    assert torch.equal(tensors.from_map(encoded, "segments"), values)
    assert torch.equal(tensors.flip(values, "segments"), values.flip(-1))
    assert tensors.resize(values, (4, 4), "segments").shape == (1, 3, 4, 4)
    median, spread = tensors.align_members([values, values, 1 - values], "segments")
    assert torch.equal(median, values)
    expected = torch.stack([values, values, 1 - values]).std(dim=0, correction=0)[:, 0]
    assert torch.allclose(spread, expected)
    picture = values[0].permute(1, 2, 0).numpy()
    write_exr(tmp_path / "a.exr", picture, {"segments": picture}, {}, Projection("perspective", 60.0))
    assert np.array_equal(read_exr(tmp_path / "a.exr").channels["segments.G"], picture[..., 1])
    assert (
        convention("segments", Projection("perspective", 60.0))["exr"] == "segments.R, segments.G, segments.B, float32"
    )


@pytest.mark.usefixtures("segments")
def test_a_result_writes_a_new_modality(tmp_path: Path) -> None:
    from jointnet_cli.progress import Timer
    from jointnet_cli.results import Result
    from jointnet_cli.tasks import Generate

    picture = np.full((2, 3, 3), 0.2, np.float32)
    result = Result(
        Generate(prompt="sea", seed=1),
        picture,
        {"segments": 2 * picture},
        Projection("perspective", 60.0),
        {},
        Timer(),
        {"segments": picture[..., 0]},
    )
    paths = result.save(tmp_path)
    assert list(paths) == ["image", "segments", "segments_uncertainty", "exr", "metadata"]
    assert np.asarray(Image.open(paths["segments"])).tolist() == [[[102] * 3] * 3] * 2
    assert np.asarray(Image.open(paths["segments_uncertainty"])).tolist() == [[13107] * 3] * 2


@settings(max_examples=50, deadline=None)
@given(arrays.arrays("float32", (6, 7), elements=st.floats(0, 2, width=32)))
def test_disparity_of_numpy_and_torch_differs_by_rounding_alone(inverse: np.ndarray) -> None:
    ours = maps.relative_disparity(inverse)
    assert np.abs(ours - tensors.relative_disparity(torch.from_numpy(inverse)[None])[0].numpy()).max() <= 2e-6


@settings(max_examples=50, deadline=None)
@given(arrays.arrays("float32", (4, 5, 3), elements=st.floats(-1, 1, width=32)))
@example(np.full((4, 5, 3), [SKY_LENGTH, 0, 0], np.float32))
def test_normals_of_numpy_and_torch_differ_by_less_than_the_tolerance_of_lengths(vectors: np.ndarray) -> None:
    """NumPy keeps vectors whose length is within `UNIT_TOLERANCE` of 1, so that files of 8 bits keep their values."""
    ours = maps.unit_normals(vectors)
    theirs = tensors.unit_normals(torch.from_numpy(vectors).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
    assert np.abs(ours - theirs).max() <= maps.UNIT_TOLERANCE + 1e-5


@pytest.mark.usefixtures("segments")
def test_shards_hold_a_new_modality(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from helpers.shards import write_shard

    from jointnet_cli.data.shards import format
    from jointnet_cli.data.shards.samples import crop_sample, sample_map
    from jointnet_cli.data.shards.shard_set import ShardSet

    monkeypatch.setitem(format.MAP_SUFFIXES, "segments", "segments.png")
    image = np.zeros((4, 6, 3), np.uint8)
    colors = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)
    write_shard(tmp_path / "00000.tar", [format.Sample("a", image, "sea", None, None, {}, {"segments": colors})])
    shards = ShardSet.open(tmp_path)
    (sample,) = shards.samples(("segments",))
    (raw,) = shards.raw()
    assert np.array_equal(sample.colors["segments"], colors)
    expected = torch.from_numpy(colors).permute(2, 0, 1) / 255 * 2 - 1
    assert torch.allclose(sample_map(sample, "segments"), expected, atol=1e-6)
    crop = crop_sample(raw, ("segments",), 4)
    assert np.allclose(crop.maps["segments"], expected[:, :, 1:5].half(), atol=1e-3)


def test_recipes_take_the_modalities_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    from pydantic import ValidationError

    from jointnet_cli.training.recipe import Data

    with pytest.raises(ValidationError, match="segments is none of rgb, depth, normal"):
        Data(shards="s", maps=["rgb", "segments"])
    monkeypatch.setitem(MODALITIES, "segments", SEGMENTS)
    assert Data(shards="s", maps=["rgb", "segments"]).maps == ["rgb", "segments"]
