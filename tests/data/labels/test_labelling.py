"""Labelling shards: maps are added, everything else stays, and a kill at any time loses nothing."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.shards import read_shards, write_shard, write_tar
from helpers.teachers import INVERTED, save_onnx
from PIL import Image
from torch import Tensor

from jointnet_cli.data.labels.labelling import label_shards, windows
from jointnet_cli.data.labels.teachers import Teacher, open_teacher
from jointnet_cli.data.shards.format import Sample, stats_path
from jointnet_cli.data.shards.latents import load_pixels
from jointnet_cli.data.shards.shard_set import ShardSet
from jointnet_cli.data.shards.writer import claim_shard
from jointnet_cli.errors import UserError
from jointnet_cli.files.paths import file_digest

COUNT = 7


def make_sample(number: int, size: tuple[int, int] = (24, 20), *, exact: bool = False) -> Sample:
    """A picture of one brightness, which grows with its number."""
    level = 20 * number
    image = np.full((*size, 3), level, np.uint8)
    depth = np.full(size, 0.5, np.float32) if exact else None
    return Sample(f"{number:012}", image, f"picture {number} 漁村", depth, None, {"seed": number, "depth_hint": "é"})


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    path = tmp_path / "shards" / "00000.tar"
    path.parent.mkdir()
    write_shard(path, [make_sample(number) for number in range(COUNT)])
    return path


@pytest.fixture(scope="module")
def inverting(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    path = save_onnx(tmp_path_factory.mktemp("onnx") / "inverted.onnx", *INVERTED)
    return open_teacher(f"depth=onnx:{path}?size=16&mean=0&std=1", "cpu")


@pytest.fixture(scope="module")
def facing(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    """Omnidata's own convention: every surface looks at the camera, tilted a little to the ground's side."""
    path = save_onnx(tmp_path_factory.mktemp("onnx") / "facing.onnx", [[0.0] * 3] * 3, [0.5, 0.2, 0.1])
    return open_teacher(f"normal=omnidata:{path}?size=16", "cpu")


def members(shard: Path) -> dict[str, bytes]:
    with tarfile.open(shard) as tar:
        return {info.name: file.read() for info in tar if (file := tar.extractfile(info))}


def stats(shard: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads(stats_path(shard).read_text())
    return content


def test_a_labeller_that_inverts_brightness_gives_known_depth(shard: Path, inverting: Teacher) -> None:
    tally = label_shards([shard], [inverting], batch=3)
    assert tally.made == {"depth": COUNT} and not tally.failed and tally.written == [shard]
    for number, sample in enumerate(read_shards([shard])):
        assert sample.inverse_depth is not None and sample.inverse_depth.shape == (24, 20)
        np.testing.assert_allclose(sample.inverse_depth, 1 - 20 * number / 255, atol=1e-4)
        facts = sample.record["depth"]
        assert (facts["teacher"], facts["hash"], facts["unit"]) == ("onnx:inverted.onnx", inverting.hash, "relative")


def test_normals_and_depth_in_one_pass_are_what_training_reads(
    shard: Path, inverting: Teacher, facing: Teacher
) -> None:
    tally = label_shards([shard], [inverting, facing])
    assert tally.made == {"depth": COUNT, "normal": COUNT}
    pixels = load_pixels(ShardSet.open(shard), ["rgb", "depth", "normal"])
    assert pixels.maps["depth"].shape == (COUNT, 1, 24, 20)
    normals = pixels.maps["normal"].float()
    assert normals[:, 1].min() > 0.55 and normals[:, 2].min() > 0.75 and normals[:, 0].abs().max() < 0.01


def test_the_rest_keeps_its_order_and_its_bytes(shard: Path, inverting: Teacher) -> None:
    before = members(shard)
    with tarfile.open(shard) as tar:
        headers = {info.name: (info.mtime, info.mode, info.uname) for info in tar}
    label_shards([shard], [inverting])
    after = members(shard)
    assert [name for name in after if not name.endswith("depth.png")] == list(before)
    for name, content in before.items():
        if name.endswith(".json"):
            assert json.loads(content).items() <= json.loads(after[name]).items()
        else:
            assert after[name] == content
    with tarfile.open(shard) as tar:
        assert {info.name: (info.mtime, info.mode, info.uname) for info in tar if info.name in before} == headers


def test_the_same_input_gives_the_same_bytes(shard: Path, tmp_path: Path, inverting: Teacher) -> None:
    other = tmp_path / "00007.tar"
    other.write_bytes(shard.read_bytes())
    stats_path(other).write_text(stats_path(shard).read_text())
    label_shards([shard], [inverting], batch=2)
    label_shards([other], [inverting], batch=5)
    assert other.read_bytes() == shard.read_bytes()


def test_the_stats_keep_what_they_said(shard: Path, inverting: Teacher) -> None:
    stats_path(shard).write_text(json.dumps(stats(shard) | {"successes": COUNT}))
    label_shards([shard], [inverting])
    labels = {"depth": {"teacher": inverting.name, "hash": inverting.hash, "labelled": COUNT, "failed": {}}}
    facts = {"count": COUNT, "shard": shard.name, "successes": COUNT, "sha256": file_digest(shard), "labels": labels}
    assert stats(shard) == facts


def test_what_is_labelled_is_left_alone(shard: Path, inverting: Teacher, facing: Teacher) -> None:
    label_shards([shard], [inverting])
    before = (shard.read_bytes(), shard.stat().st_mtime_ns)
    tally = label_shards([shard], [inverting])
    assert tally.skipped == [shard] and not tally.written
    assert (shard.read_bytes(), shard.stat().st_mtime_ns) == before
    depth = members(shard)["000000000003.depth.png"]
    assert label_shards([shard], [inverting, facing]).made == {"normal": COUNT}
    assert members(shard)["000000000003.depth.png"] == depth
    assert set(stats(shard)["labels"]) == {"depth", "normal"}  # type: ignore[call-overload]


def test_maps_of_another_origin_are_replaced_on_request_only(tmp_path: Path, inverting: Teacher) -> None:
    shard = tmp_path / "00000.tar"
    write_shard(shard, [make_sample(number, exact=True) for number in range(3)])
    before = shard.read_bytes()
    with pytest.raises(UserError, match=r"has depth maps from elsewhere$") as caught:
        label_shards([shard], [inverting])
    assert caught.value.hint is not None and "--relabel" in caught.value.hint
    assert shard.read_bytes() == before and not list(tmp_path.glob(".*"))
    assert label_shards([shard], [inverting], replace=True).made == {"depth": 3}
    found = [sample.inverse_depth for sample in read_shards([shard])]
    assert found[2] is not None and found[2].max() == pytest.approx(1 - 40 / 255, abs=1e-4)
    assert label_shards([shard], [inverting], replace=True).skipped == [shard]


def test_images_of_several_sizes_keep_theirs(tmp_path: Path, inverting: Teacher) -> None:
    shard = tmp_path / "00000.tar"
    sizes = [(24, 20), (16, 40), (24, 20), (30, 17), (16, 40)]
    write_shard(shard, [make_sample(number, size) for number, size in enumerate(sizes)])
    asked = []

    class Counting:
        modality, name, hash = inverting.modality, inverting.name, inverting.hash

        def __call__(self, images: Tensor) -> Tensor:
            asked.append(len(images))
            return inverting(images)

    label_shards([shard], [Counting()], batch=4)
    assert sorted(asked) == [1, 2, 2]
    for number, (sample, size) in enumerate(zip(read_shards([shard]), sizes, strict=True)):
        assert sample.inverse_depth is not None and sample.inverse_depth.shape == size
        assert sample.inverse_depth.max() == pytest.approx(1 - 20 * number / 255, abs=1e-4)


def downloads(path: Path, names: dict[str, bytes]) -> Path:
    """A shard as a download makes it, from its members."""
    write_tar(path, names)
    stats_path(path).write_text(json.dumps({"count": len({name.split(".")[0] for name in names})}))
    return path


def jpeg(level: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (32, 32), level).save(buffer, "JPEG")
    return buffer.getvalue()


def test_samples_that_fail_are_counted_and_left(tmp_path: Path, inverting: Teacher) -> None:
    names = {
        "000000000.jpg": jpeg(0), "000000000.txt": b"black", "000000000.json": b'{"url": "a"}',
        "000000001.jpg": b"<html>", "000000001.txt": b"no image", "000000001.json": b'{"url": "b"}',
        "000000002.txt": b"only words", "000000002.json": b"{}",
        "000000003.jpg": jpeg(9), "000000003.json": b"{damaged",
        "000000004.jpg": jpeg(255), "000000004.json": b'{"url": "e"}',
        "./000000005.jpg": jpeg(51),
    }  # fmt: skip
    shard = downloads(tmp_path / "00000.tar", names)
    tally = label_shards([shard], [inverting])
    assert tally.made == {"depth": 3}
    assert tally.failed == {"not_an_image": 1, "no_image": 1, "damaged_record": 1}
    assert any("000000001" in example and "not_an_image" in example for example in tally.examples)
    after = members(shard)
    assert [name for name in after if name not in names] == [
        "000000000.depth.png", "000000004.depth.png", "./000000005.depth.png", "./000000005.json",
    ]  # fmt: skip
    for name in ("000000001.json", "000000002.json", "000000003.json", "000000001.jpg"):
        assert after[name] == names[name]
    assert stats(shard)["labels"]["depth"]["failed"] == tally.failed  # type: ignore[index]
    assert label_shards([shard], [inverting]).skipped == [shard]


class Moody:
    """Fails on some images in all the ways a network can."""

    modality, name, hash = "depth", "moody", "0123456789ab"

    def __call__(self, images: Tensor) -> Tensor:
        depth = images.mean(dim=1)
        if (depth > 100 / 255).any():
            raise RuntimeError("too bright")
        depth[depth.amax(dim=(1, 2)) < 10 / 255] = torch.nan
        return depth


def test_one_image_does_not_cost_the_others_their_maps(shard: Path) -> None:
    tally = label_shards([shard], [Moody()], batch=4)
    assert tally.made == {"depth": 5} and tally.failed == {"not_finite": 1, "RuntimeError": 1}
    found = [sample.inverse_depth is not None for sample in read_shards([shard])]
    assert found == [False, True, True, True, True, True, False]


def test_a_shard_without_any_success_stays(tmp_path: Path) -> None:
    shard = downloads(tmp_path / "00000.tar", {"0.jpg": b"?", "0.json": b"{}", "1.jpg": jpeg(250), "1.json": b"{}"})
    before = shard.read_bytes(), stats(shard)
    tally = label_shards([shard], [Moody()])
    assert not tally.written and tally.failed.total() == 2
    assert (shard.read_bytes(), stats(shard)) == before and not list(tmp_path.glob(".*"))


def test_a_failure_takes_the_old_map_with_it(shard: Path, inverting: Teacher) -> None:
    label_shards([shard], [inverting])
    label_shards([shard], [Moody()], replace=True)
    samples = list(read_shards([shard]))
    assert samples[0].inverse_depth is None and "depth" not in samples[0].record
    assert {sample.record["depth"]["teacher"] for sample in samples if "depth" in sample.record} == {"moody"}


def test_long_names_keep_their_maps_beside_them(tmp_path: Path, inverting: Teacher) -> None:
    key = "漁村" * 30 + "/" + "x" * 120
    shard = downloads(tmp_path / "00000.tar", {f"{key}.jpg": jpeg(51), f"{key}.json": b"{}"})
    label_shards([shard], [inverting])
    assert list(members(shard)) == [f"{key}.jpg", f"{key}.json", f"{key}.depth.png"]


def test_progress_counts_samples_over_all_shards(tmp_path: Path, inverting: Teacher) -> None:
    shards = [tmp_path / f"{number:05}.tar" for number in range(2)]
    for shard in shards:
        write_shard(shard, [make_sample(number) for number in range(COUNT)])
    seen: list[tuple[int, int]] = []
    label_shards(shards, [inverting], progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (2 * COUNT, 2 * COUNT) and seen == sorted(seen)


OLD_STATS = json.dumps({"count": COUNT, "shard": "00000.tar"})
"""Of a version that recorded no hashes, and could be killed between tar and stats."""


def test_a_kill_between_tar_and_stats_is_mended(shard: Path, inverting: Teacher) -> None:
    stats_path(shard).write_text(OLD_STATS)
    label_shards([shard], [inverting])
    whole, tar = stats(shard), shard.read_bytes()
    assert whole.pop("sha256") == file_digest(shard)
    stats_path(shard).write_text(OLD_STATS)
    assert label_shards([shard], [inverting]).skipped == [shard]
    assert stats(shard) == whole and shard.read_bytes() == tar


def test_a_kill_before_the_stats_does_not_make_failures_of_a_shard_forgotten(shard: Path) -> None:
    label_shards([shard], [Moody()])
    whole, tar = stats(shard), shard.read_bytes()
    stats_path(shard).write_text(OLD_STATS)
    tally = label_shards([shard], [Moody()])
    assert not tally.made["depth"] and tally.failed.total() == 2
    assert stats(shard) == whole and shard.read_bytes() == tar


class Slow:
    """A labeller that takes its time, so that it can be killed at work."""

    modality, name, hash = "depth", "slow", "abcdefabcdef"

    def __call__(self, images: Tensor) -> Tensor:
        time.sleep(0.02)
        return images.mean(dim=1)


def test_killed_and_started_again_it_ends_like_a_run_that_was_not(tmp_path: Path) -> None:
    shards, whole = [tmp_path / f"{number:05}.tar" for number in range(3)], tmp_path / "whole"
    whole.mkdir()
    for shard in shards:
        write_shard(shard, [make_sample(number) for number in range(COUNT)])
        for path in (shard, stats_path(shard)):
            (whole / path.name).write_bytes(path.read_bytes())
    label_shards([whole / shard.name for shard in shards], [Slow()], batch=1)
    context = multiprocessing.get_context("fork")  # pictures so small keep torch on one thread
    for delay in (0.05, 0.2, 0.4):
        child = context.Process(target=label_shards, args=(shards, [Slow()]), kwargs={"batch": 1})
        child.start()
        time.sleep(delay)
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert [len(list(read_shards([shard]))) for shard in shards] == [COUNT] * 3
    tally = label_shards(shards, [Slow()], batch=1)
    assert len(tally.written) + len(tally.skipped) == 3
    for shard in shards:
        assert shard.read_bytes() == (whole / shard.name).read_bytes()
        assert stats(shard) == stats(whole / shard.name)
    assert not list(tmp_path.glob(".*"))


def halved(shard: Path) -> bytes:
    """Damage a header in the middle of a shard, where `tarfile` sees the end of the archive, and return its bytes."""
    data = bytearray(shard.read_bytes())
    with tarfile.open(shard) as tar:
        info = tar.getmembers()[len(tar.getmembers()) // 2]
    data[info.offset + 3] ^= 1
    shard.write_bytes(data)
    return bytes(data)


@pytest.mark.parametrize("hashed", [True, False])
def test_a_damaged_shard_stays_and_the_others_are_labelled(shard: Path, inverting: Teacher, hashed: bool) -> None:
    other = shard.with_name("00001.tar")
    write_shard(other, [make_sample(1)])
    damaged = halved(shard)
    if not hashed:
        stats_path(shard).write_text(OLD_STATS)
    before = stats(shard)
    tally = label_shards([shard, other], [inverting], replace=True)
    assert tally.written == [other] and len(tally.damaged) == 1
    assert str(tally.damaged[0]).startswith(f"{shard} is damaged")
    assert shard.read_bytes() == damaged and stats(shard) == before
    assert sorted(path.name for path in shard.parent.iterdir()) == [
        "00000.tar", "00000_stats.json", "00001.tar", "00001_stats.json"
    ]  # fmt: skip


def test_a_shard_with_fewer_samples_than_recorded_stays(shard: Path, inverting: Teacher) -> None:
    stats_path(shard).write_text('{"count": 8}')
    tar = shard.read_bytes()
    tally = label_shards([shard], [inverting])
    assert [str(fault) for fault in tally.damaged] == [f"{shard} is damaged: it has 7 samples rather than 8"]
    assert shard.read_bytes() == tar and stats(shard) == {"count": 8}


def test_a_flipped_bit_of_an_image_is_not_labelled_over(shard: Path, inverting: Teacher) -> None:
    tar = bytearray(shard.read_bytes())
    tar[tar.index(b"IDAT") + 10] ^= 1
    shard.write_bytes(tar)
    tally = label_shards([shard], [inverting])
    assert [str(fault) for fault in tally.damaged] == [f"{shard} is damaged: its SHA-256 differs from 00000_stats.json"]
    assert shard.read_bytes() == bytes(tar)


def test_an_interrupted_run_leaves_the_shard_as_it_was(shard: Path) -> None:
    class Interrupted(Slow):
        def __call__(self, images: Tensor) -> Tensor:
            raise KeyboardInterrupt

    before = shard.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        label_shards([shard], [Interrupted()])
    assert shard.read_bytes() == before and not list(shard.parent.glob(".*"))


def test_a_shard_in_another_process_hands_is_passed_over(shard: Path, inverting: Teacher) -> None:
    with claim_shard(shard) as held:
        assert held is not None
        held.write(held.entries())
        before = sorted(shard.parent.iterdir())
        assert label_shards([shard], [inverting]).busy == [shard]
        assert sorted(shard.parent.iterdir()) == before, "who is not the holder removes nothing"
    assert label_shards([shard], [inverting]).written == [shard]


def test_decoded_images_share_a_budget_of_bytes(monkeypatch: pytest.MonkeyPatch, shard: Path) -> None:
    monkeypatch.setattr("jointnet_cli.data.labels.labelling.DECODED_BYTES", 24 * 20 * 3)
    with claim_shard(shard) as own:
        assert own is not None
        sizes = [len(images) for _, images in windows(own.entries(), 128)]
        total = len(list(own.entries()))
    assert sizes == [2] * (total // 2) + [1] * (total % 2)
