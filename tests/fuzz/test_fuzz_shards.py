"""Damaged shards at every reader of them: their records, captions, maps and tar headers."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from helpers.fuzzing import attempt, changed_record, damaged, read_shard, some
from hypothesis import given
from hypothesis import strategies as st

from jointnet_cli.data.shards.archive import Entry, Member, write_entry
from jointnet_cli.data.shards.format import Sample, pack, read_stats, stats_path

IMAGE = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
GREY = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
RECORD = {
    "caption": "a hut",
    "url": "http://a.example/1.jpg",
    "seed": 3,
    "scene": {"sky": 0.5},
    "key": "0",
    "original_height": 16,
    "original_width": 9,
}
STATS = {"count": 1, "successes": 1, "status_dict": {"success": 1}, "received": 9, "duration": 0.5, "sha256": "0" * 64}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shards")


def whole(key: str = "000") -> Entry:
    return pack(Sample(key, IMAGE, "a hut", GREY, np.stack([GREY * 0, GREY * 0, GREY * 0 + 1], -1), RECORD))


def archive(*entries: Entry, form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for entry in entries:
            write_entry(tar, entry)
    return buffer.getvalue()


@some
@given(st.data())
def test_records(folder: Path, draw: st.DataObject) -> None:
    entry, shard = whole(), folder / "records.tar"
    text = json.dumps(changed_record(draw, entry.record)).encode()
    entry.put("json", damaged(draw, text) if draw.draw(st.booleans()) else text)
    shard.write_bytes(archive(entry))
    read_shard(shard)


@some
@given(st.data())
def test_members(folder: Path, draw: st.DataObject) -> None:
    entry, shard = whole(), folder / "members.tar"
    member = draw.draw(st.sampled_from(entry.members))
    member.content = damaged(draw, member.content or b"")
    shard.write_bytes(archive(entry))
    read_shard(shard)


@some
@given(st.data())
def test_headers(folder: Path, draw: st.DataObject) -> None:
    shard, odd = folder / "headers.tar", whole("001")
    odd.members.append(Member(tarfile.TarInfo("n" * 200 + "\u00e9.txt"), b"a header of its own for the name"))
    form = draw.draw(st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT][:2]))
    data = bytearray(archive(whole(), odd, form=form))
    header = draw.draw(st.sampled_from(range(0, len(data) - 512, 512)))
    for _ in range(draw.draw(st.integers(0, 3))):
        data[header + draw.draw(st.integers(0, 511))] = draw.draw(st.integers(0, 255))
    if draw.draw(st.booleans()):  # such a header counts: its sum is right again
        data[header + 148 : header + 156] = b" " * 8
        data[header + 148 : header + 156] = b"%06o\0 " % sum(data[header : header + 512])
    shard.write_bytes(damaged(draw, bytes(data)))
    read_shard(shard)


@some
@given(st.data())
def test_stats(folder: Path, draw: st.DataObject) -> None:
    shard = folder / "stats.tar"
    shard.write_bytes(archive(whole()))
    text = json.dumps(changed_record(draw, STATS)).encode()
    stats_path(shard).write_bytes(damaged(draw, text) if draw.draw(st.booleans()) else text)
    attempt(lambda: read_stats(shard))
    read_shard(shard)
