"""Samples in memory: batches that depend on the step alone, and latents that are encoded once."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.shards import write_shard
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional as F

from jointnet_cli.data.shards.format import Sample, stats_path
from jointnet_cli.data.shards.latents import load_latents, load_pixels
from jointnet_cli.data.shards.order import order
from jointnet_cli.data.shards.samples import sample_map
from jointnet_cli.data.shards.shard_set import ShardSet
from jointnet_cli.errors import UserError

SIZE, FACTOR = 16, 4


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two shards of three samples."""
    for number in range(2):
        write_shard(tmp_path / f"{number:05}.tar", [make_sample(3 * number + item) for item in range(3)])
    return tmp_path


def make_sample(number: int) -> Sample:
    random = np.random.default_rng(number)
    normal = random.standard_normal((SIZE, SIZE, 3), np.float32)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    image = random.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    depth = random.uniform(0, 1, (SIZE, SIZE)).astype(np.float32)
    return Sample(f"{number:012}", image, f"scene {number}", depth, normal, {"seed": number})


class Encoder:
    """Maps (B, 3, H, W) to latents (B, 3, H/4, W/4) by a fixed convolution; counts the maps it sees."""

    def __init__(self, seed: int = 0) -> None:
        self.weight = torch.randn(3, 3, FACTOR, FACTOR, generator=torch.Generator().manual_seed(seed))
        self.maps = 0

    def __call__(self, maps: Tensor) -> Tensor:
        self.maps += len(maps)
        return F.conv2d(maps, self.weight, stride=FACTOR)


@given(
    size=st.integers(1, 40),
    batch_size=st.integers(1, 60),
    seed=st.integers(0, 1000),
    epoch=st.integers(0, 3),
)
def test_every_epoch_is_a_permutation(size: int, batch_size: int, seed: int, epoch: int) -> None:
    steps = range(epoch * size // batch_size, ((epoch + 1) * size - 1) // batch_size + 1)
    drawn = torch.cat([order(size, range(step * batch_size, (step + 1) * batch_size), seed) for step in steps])
    start = epoch * size - steps[0] * batch_size
    assert sorted(drawn[start : start + size].tolist()) == list(range(size))
    backwards = [order(size, range(step * batch_size, (step + 1) * batch_size), seed) for step in reversed(steps)]
    assert torch.equal(torch.cat(backwards[::-1]), drawn)


def test_epochs_and_seeds_shuffle_anew() -> None:
    orders = [order(50, range(step * 50, (step + 1) * 50), seed).tolist() for step, seed in [(0, 0), (1, 0), (0, 1)]]
    assert orders[0] != orders[1] and orders[0] != orders[2] and orders[0] != list(range(50))


def test_maps_of_a_sample() -> None:
    sample = make_sample(1)
    assert sample.inverse_depth is not None and sample.normal is not None
    rgb = torch.from_numpy(sample.image.astype(np.float32)).permute(2, 0, 1) / 127.5 - 1
    assert torch.allclose(sample_map(sample, "rgb"), rgb, atol=1e-6)
    depth = sample_map(sample, "depth")
    assert depth.shape == (3, SIZE, SIZE) and depth.min() == -1 and depth.max() == 1
    near, far = np.unravel_index([sample.inverse_depth.argmax(), sample.inverse_depth.argmin()], (SIZE, SIZE))
    assert depth[0, near[0], far[0]] == 1 and depth[0, near[1], far[1]] == -1
    assert torch.equal(sample_map(sample, "normal"), torch.from_numpy(sample.normal).permute(2, 0, 1))


def test_pixels(shards: Path) -> None:
    pixels = load_pixels(ShardSet.open(shards, 4), ["rgb", "depth", "normal"])
    assert pixels.captions == [f"scene {number}" for number in range(4)]
    assert {name: tuple(maps.shape) for name, maps in pixels.maps.items()} == {
        "rgb": (4, 3, SIZE, SIZE),
        "depth": (4, 1, SIZE, SIZE),
        "normal": (4, 3, SIZE, SIZE),
    }
    for name, maps in pixels.maps.items():
        expected = sample_map(make_sample(3), name)[: maps.shape[1]]
        assert torch.allclose(maps[3].float(), expected, atol=0.005), name


def test_a_missing_map_is_named(tmp_path: Path) -> None:
    sample = make_sample(0)
    sample.normal = None
    write_shard(tmp_path / "00000.tar", [sample])
    with pytest.raises(UserError, match="000000000000 has no normal map"):
        load_pixels(ShardSet.open(tmp_path), ["rgb", "normal"])


def test_the_next_usable_sample_stands_in_for_a_bad_one(shards: Path, tmp_path: Path) -> None:
    """The second and the last sample lack normals; the modalities stay together."""
    samples = [make_sample(number) for number in range(6)]
    samples[1].normal = samples[5].normal = None
    place = tmp_path / "mended"
    place.mkdir()
    write_shard(place / "00000.tar", samples)
    names, sources = ["rgb", "normal"], [0, 2, 2, 3, 4, 0]
    shard_set = ShardSet.open(place)
    pixels = load_pixels(shard_set, names)
    assert pixels.captions == [f"scene {number}" for number in sources]
    assert pixels.replaced == [("no normal map", f"{number:012} of {place}/00000.tar") for number in (1, 5)]
    alone = load_latents(shard_set, ["rgb"], Encoder(), "a", mirrored=False)
    assert alone.replaced == [] and alone.captions == [f"scene {number}" for number in range(6)]
    for _ in range(2):  # nothing of the mended set is kept
        both = load_latents(shard_set, names, Encoder(), "a", mirrored=False)
        assert both.captions == pixels.captions and both.replaced == pixels.replaced
        assert torch.equal(both.latents[0, :, 0], alone.latents[0, sources, 0])
    assert torch.equal(load_latents(shard_set, ["rgb"], Encoder(), "a", mirrored=False).latents, alone.latents)


def test_latents_plain_and_mirrored(shards: Path) -> None:
    encoder = Encoder()
    names = ["rgb", "depth", "normal"]
    found = load_latents(ShardSet.open(shards), names, encoder, "a")
    assert found.latents.shape == (2, 6, 3, 3, SIZE // FACTOR, SIZE // FACTOR)
    assert found.captions == [f"scene {number}" for number in range(6)] and len(found) == 6
    pixels = load_pixels(ShardSet.open(shards), names)
    for branch, name in enumerate(names):
        maps = pixels.maps[name].float().expand(-1, 3, -1, -1)
        mirrored = maps.flip(-1)
        if name == "normal":
            mirrored = mirrored * torch.tensor([-1.0, 1, 1]).view(3, 1, 1)
        for side, picture in enumerate((maps, mirrored)):
            expected = encoder(picture)
            assert torch.allclose(found.latents[side, :, branch].float(), expected, atol=0.02), (name, side)
        assert not torch.allclose(found.latents[0, :, branch], found.latents[1, :, branch], atol=0.5)


def test_latents_are_encoded_once(shards: Path) -> None:
    encoder = Encoder()
    first = load_latents(ShardSet.open(shards), ["rgb", "depth"], encoder, "a")
    assert encoder.maps == 6 * 2 * 2
    again = load_latents(ShardSet.open(shards), ["rgb", "depth"], encoder, "a")
    assert encoder.maps == 6 * 2 * 2
    assert torch.equal(first.latents, again.latents) and first.captions == again.captions


def copy_shard(shard: Path, folder: Path) -> None:
    """What `cp -p` does with a shard and its record."""
    for path in (shard, stats_path(shard)):
        shutil.copy2(path, folder / path.name)


@pytest.mark.parametrize("record", [True, False], ids=["with its record", "alone"])
def test_an_older_shard_that_is_copied_back_is_encoded_again(shards: Path, tmp_path: Path, record: bool) -> None:
    """The copy keeps date and size."""
    older, shard = tmp_path / "older", shards / "00000.tar"
    older.mkdir()
    copy_shard(shard, older)
    before = load_latents(ShardSet.open(shards), ["rgb"], Encoder(), "a", mirrored=False)
    write_shard(shard, [make_sample(number) for number in (13, 14, 15)])
    assert shard.stat().st_size == (older / shard.name).stat().st_size
    changed = load_latents(ShardSet.open(shards), ["rgb"], Encoder(), "a", mirrored=False)
    assert changed.captions[:3] == ["scene 13", "scene 14", "scene 15"]
    shutil.copy2(older / shard.name, shard)
    if record:
        copy_shard(older / shard.name, shards)
    else:
        stats_path(shard).write_text('{"count": 3}')
    after = load_latents(ShardSet.open(shards), ["rgb"], Encoder(), "a", mirrored=False)
    assert after.captions == before.captions and torch.equal(after.latents, before.latents)


def test_latents_of_a_set_that_moved_are_kept(shards: Path, tmp_path: Path) -> None:
    load_latents(ShardSet.open(shards), ["rgb"], Encoder(), "a")
    moved = tmp_path / "moved"
    shutil.copytree(shards, moved, ignore=shutil.ignore_patterns("moved"))
    encoder = Encoder()
    load_latents(ShardSet.open(moved), ["rgb"], encoder, "a")
    assert encoder.maps == 0


CACHE_DAMAGES = {
    "empty": lambda data: b"",
    "cut": lambda data: data[:-9],
    "a bit of a value": lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:],
    "a caption": lambda data: data.replace(b"scene 1", b"scene 7"),
    "no metadata": lambda data: save({"rgb": torch.zeros(3, 3, 4, 4)}),
    "a header that is not JSON": lambda data: data[:8] + b"x" + data[9:],
}


@pytest.mark.parametrize("damage", CACHE_DAMAGES)
def test_a_damaged_cache_is_made_again(shards: Path, damage: str) -> None:
    before = load_latents(ShardSet.open(shards), ["rgb"], Encoder(), "a", mirrored=False)
    cache = shards / ".latents/00000-a.safetensors"
    whole = cache.read_bytes()
    cache.write_bytes(CACHE_DAMAGES[damage](whole))
    encoder = Encoder()
    after = load_latents(ShardSet.open(shards), ["rgb"], encoder, "a", mirrored=False)
    assert encoder.maps == 3 and cache.read_bytes() == whole
    assert after.captions == before.captions and torch.equal(after.latents, before.latents)


def test_a_damaged_shard_is_not_encoded(shards: Path) -> None:
    shard = shards / "00001.tar"
    data = bytearray(shard.read_bytes())
    data[data.index(b"scene 4")] ^= 1
    shard.write_bytes(data)
    with pytest.raises(UserError, match=f"^{shard} is damaged: its SHA-256 differs from 00001_stats.json$"):
        load_latents(ShardSet.open(shards), ["rgb"], Encoder(), "a")


def test_a_shard_with_fewer_samples_than_recorded_is_not_encoded(shards: Path) -> None:
    stats_path(shards / "00001.tar").write_text('{"count": 4}')
    with pytest.raises(UserError, match=r"00001\.tar has 3 samples with an image rather than 4"):
        load_latents(ShardSet.open(shards), ["rgb"], Encoder(), "a")


def test_only_a_further_modality_is_encoded(shards: Path) -> None:
    encoder = Encoder()
    first = load_latents(ShardSet.open(shards), ["rgb"], encoder, "a", mirrored=False)
    assert encoder.maps == 6
    found = load_latents(ShardSet.open(shards), ["depth", "rgb"], encoder, "a", mirrored=False)
    assert encoder.maps == 12
    assert torch.equal(found.latents[:, :, 1], first.latents[:, :, 0])
    load_latents(ShardSet.open(shards), ["rgb"], encoder, "a", mirrored=True)
    assert encoder.maps == 18


def test_another_encoder_has_latents_of_its_own(shards: Path) -> None:
    first, second = Encoder(0), Encoder(1)
    of_first = load_latents(ShardSet.open(shards), ["rgb"], first, "a")
    of_second = load_latents(ShardSet.open(shards), ["rgb"], second, "b")
    assert second.maps == 12 and not torch.allclose(of_first.latents, of_second.latents, atol=0.1)
    assert torch.equal(load_latents(ShardSet.open(shards), ["rgb"], first, "a").latents, of_first.latents)
    assert first.maps == 12


def test_a_shard_that_was_rendered_again_is_encoded_again(shards: Path) -> None:
    encoder = Encoder()
    before = load_latents(ShardSet.open(shards), ["rgb"], encoder, "a", mirrored=False)
    changed = shards / "00001.tar"
    write_shard(changed, [make_sample(number) for number in (13, 14, 15)])
    later = max(path.stat().st_mtime for path in (shards / ".latents").iterdir()) + 1
    os.utime(changed, (later, later))
    after = load_latents(ShardSet.open(shards), ["rgb"], encoder, "a", mirrored=False)
    assert encoder.maps == 6 + 3
    assert after.captions[3:] == ["scene 13", "scene 14", "scene 15"]
    assert torch.equal(after.latents[:, :3], before.latents[:, :3])
    assert not torch.equal(after.latents[:, 3:], before.latents[:, 3:])


def test_a_limit_takes_the_first_samples_and_reads_no_further(shards: Path) -> None:
    encoder = Encoder()
    seen: list[tuple[int, int]] = []
    few = load_latents(
        ShardSet.open(shards, 2),
        ["rgb"],
        encoder,
        "a",
        mirrored=False,
        progress=lambda done, count: seen.append((done, count)),
    )
    assert few.latents.shape[:2] == (1, 2) and few.captions == ["scene 0", "scene 1"]
    assert encoder.maps == 3 and seen == [(1, 1)]
    more = load_latents(ShardSet.open(shards, 5), ["rgb"], encoder, "a", mirrored=False)
    assert more.captions[-1] == "scene 4" and more.latents.shape[1] == 5
    assert torch.equal(more.latents[:, :2], few.latents)


@pytest.mark.parametrize("source", ["{}/{{00000..00001}}.tar", "file://{}"])
def test_patterns_and_urls(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    encoder, place = Encoder(), source.format(shards)
    found = load_latents(ShardSet.open(place), ["rgb"], encoder, "a", mirrored=False)
    expected = load_latents(ShardSet.open(shards), ["rgb"], Encoder(), "a", mirrored=False)
    assert torch.equal(found.latents, expected.latents) and found.captions == expected.captions
    asked = encoder.maps
    assert torch.equal(load_latents(ShardSet.open(place), ["rgb"], encoder, "a", mirrored=False).latents, found.latents)
    assert encoder.maps == asked == 6, "kept"


def test_one_shard_by_its_file(shards: Path) -> None:
    found = load_latents(ShardSet.open(shards / "00001.tar"), ["rgb"], Encoder(), "a", mirrored=False)
    assert found.captions == ["scene 3", "scene 4", "scene 5"]
