"""Shards: what is written is what is read, and a shard is complete or does not count."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.shards import find_shards, read_shards, write_shard

from jointnet_cli.data.shards.format import Sample, is_complete, png, stats_path, unpack
from jointnet_cli.data.shards.shard_set import ShardSet
from jointnet_cli.errors import UserError

HEIGHT, WIDTH = 12, 20


def make_sample(number: int, **changes: Any) -> Sample:
    """A random sample whose upper quarter is sky."""
    random = np.random.default_rng(number)
    inverse_depth = random.uniform(0.004, 0.4 * (number + 1), (HEIGHT, WIDTH)).astype(np.float32)
    normal = random.standard_normal((HEIGHT, WIDTH, 3), np.float32)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    inverse_depth[: HEIGHT // 4] = 0
    normal[: HEIGHT // 4] = 0
    fields = {
        "key": f"{number:012}",
        "image": random.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8),
        "caption": f"a village 漁村 by the sea – ünïcode 🐚 {number}",
        "inverse_depth": inverse_depth,
        "normal": normal,
        "record": {"seed": number, "scene": {"biome": "café", "objects": [{"kind": "hut", "at": [0.5, -2]}]}},
    }
    return Sample(**{**fields, **changes})


@pytest.fixture
def samples() -> list[Sample]:
    return [make_sample(number) for number in range(3)]


@pytest.fixture
def shard(tmp_path: Path, samples: list[Sample]) -> Path:
    path = tmp_path / "00000.tar"
    assert write_shard(path, samples) == len(samples)
    return path


def test_round_trip(shard: Path, samples: list[Sample]) -> None:
    found = list(read_shards([shard]))
    assert [sample.key for sample in found] == [sample.key for sample in samples]
    for before, after in zip(samples, found, strict=True):
        assert np.array_equal(after.image, before.image) and after.image.dtype == np.uint8
        assert after.caption == before.caption
        assert before.record.items() <= after.record.items()
        assert before.inverse_depth is not None and after.inverse_depth is not None
        step = before.inverse_depth.max() / 65535
        assert np.abs(after.inverse_depth - before.inverse_depth).max() <= 0.51 * step
        sky = before.inverse_depth == 0
        assert sky.any() and (after.inverse_depth[sky] == 0).all() and (after.inverse_depth[~sky] > 0).all()
        assert before.normal is not None and after.normal is not None
        assert np.abs(after.normal - before.normal).max() <= 0.51 / 127.5


def test_the_record_says_how_depth_is_stored(shard: Path, samples: list[Sample]) -> None:
    with tarfile.open(shard) as tar:
        assert {name.partition(".")[2] for name in tar.getnames()} == {
            "png",
            "depth.png",
            "normal.png",
            "txt",
            "json",
        }
    for sample, found in zip(samples, read_shards([shard]), strict=True):
        assert sample.inverse_depth is not None
        assert found.record["depth"]["unit"] == "1/m"
        assert found.record["depth"]["scale"] == pytest.approx(sample.inverse_depth.max() / 65535)


def test_only_the_maps_asked_for_are_decoded(shard: Path) -> None:
    for wanted in ((), ("depth",), ("normal",)):
        sample = next(read_shards([shard], wanted))
        assert (sample.inverse_depth is not None) == ("depth" in wanted)
        assert (sample.normal is not None) == ("normal" in wanted)


def test_a_sample_may_lack_its_maps(tmp_path: Path) -> None:
    path = tmp_path / "00000.tar"
    write_shard(path, [make_sample(1, inverse_depth=None, normal=None)])
    found = next(read_shards([path]))
    assert found.inverse_depth is None and found.normal is None
    assert found.image.shape == (HEIGHT, WIDTH, 3)


def test_a_picture_of_sky_alone(tmp_path: Path) -> None:
    path = tmp_path / "00000.tar"
    write_shard(path, [make_sample(1, inverse_depth=np.zeros((HEIGHT, WIDTH), np.float32))])
    found = next(read_shards([path]))
    assert found.inverse_depth is not None and not found.inverse_depth.any()


def test_reading_does_not_split_shards_between_processes(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert len(list(read_shards([shard]))) == 3


def test_the_stats_file_makes_a_shard_complete(shard: Path) -> None:
    assert stats_path(shard) == shard.with_name("00000_stats.json")
    assert json.loads(stats_path(shard).read_text())["count"] == 3
    assert is_complete(shard) and find_shards(shard.parent) == [shard]
    stats_path(shard).unlink()
    assert not is_complete(shard)
    with pytest.raises(UserError, match="no complete shards in") as caught:
        find_shards(shard.parent)
    assert "00000.tar has no 00000_stats.json" in (caught.value.hint or "")
    assert '{"count": SAMPLES}' in (caught.value.hint or "")
    stats_path(shard).write_text('{"count": 3}')
    assert [sample.key for sample in ShardSet.open(shard.parent).samples(())] == [make_sample(n).key for n in range(3)]


def test_shards_are_found_in_order_without_the_unfinished(tmp_path: Path) -> None:
    for number in (2, 0, 1):
        write_shard(tmp_path / f"{number:05}.tar", [make_sample(number)])
    stats_path(tmp_path / "00001.tar").unlink()
    assert [path.name for path in find_shards(str(tmp_path))] == ["00000.tar", "00002.tar"]
    assert find_shards(tmp_path / "00002.tar") == [tmp_path / "00002.tar"]


@pytest.mark.parametrize("place", ["missing", "missing.tar", "."])
def test_no_shards_says_how_to_make_some(tmp_path: Path, place: str) -> None:
    with pytest.raises(UserError, match=r"^no complete shards in ") as caught:
        find_shards(tmp_path / place)
    assert str(tmp_path / place) in str(caught.value)
    assert caught.value.hint is not None and "jointnet prepare" in caught.value.hint


def test_an_interrupted_write_leaves_no_shard(tmp_path: Path) -> None:
    path = tmp_path / "00000.tar"

    def samples() -> Iterator[Sample]:
        yield make_sample(0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shard(path, samples())
    assert not list(tmp_path.glob("*.tar")) and not stats_path(path).exists()
    write_shard(path, [make_sample(0)])
    assert is_complete(path) and sorted(file.name for file in tmp_path.iterdir()) == ["00000.tar", "00000_stats.json"]


NO_SCALE = "the depth map of sample 7 cannot be read: its record does not state its scale"

NO_SCALES = (b'"x"', b"1" + b"0" * 400, b"1e400", b"NaN", b"0", b"-1", b"null", b"[1]")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"txt": b"caf\xe9", "json": b'{"depth": {"scale": 1}}'}, "the caption of sample 7 is not UTF-8 text"),
        ({"json": b"{"}, "the record of sample 7 is not JSON"),
        ({"json": b"\xe9"}, "the record of sample 7 is not JSON"),
        ({"json": b"[]"}, "the record of sample 7 is not a JSON object"),
        ({"json": b"{}"}, NO_SCALE),
        *(({"json": b'{"depth": {"scale": %s}}' % value}, NO_SCALE) for value in NO_SCALES),
    ],
)
def test_samples_that_are_damaged_are_refused_by_name(members: dict[str, bytes], message: str) -> None:
    pixels = np.zeros((2, 2, 3), np.uint8)
    sample = {"__key__": "7", "png": png(pixels), "depth.png": png(np.zeros((2, 2), np.uint16)), **members}
    with pytest.raises(UserError, match=message):
        unpack(sample, ("depth",))
