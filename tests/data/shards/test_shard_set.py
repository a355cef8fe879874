"""Shards on disk and on the web: found, counted and read from any sample on."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem
from helpers.shard_web import ShardWeb, serving
from helpers.shards import write_shard, write_tar
from helpers.web import Answer, Web, drip, flood, head, heals, raw, redirect, running

import jointnet_cli.data.shards.index as shard_files
import jointnet_cli.data.shards.remote as remote_file
from jointnet_cli.data.shards.archive import open_tar, read_entries
from jointnet_cli.data.shards.format import Sample, stats_path
from jointnet_cli.data.shards.index import Shard, count_samples, list_shards, read_samples
from jointnet_cli.data.shards.shard_set import ShardSet
from jointnet_cli.errors import UserError
from jointnet_cli.files.paths import text_digest

COUNTS = (5, 3)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(remote_file, "FIRST_PAUSE", 0.01)
    for module in (remote_file, shard_files):
        monkeypatch.setattr(module, "BLOCK", 4096)  # several requests a shard


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two shards."""
    place = tmp_path / "set"
    place.mkdir()
    for number, count in enumerate(COUNTS):
        write_shard(place / f"{number:05}.tar", [sample(10 * number + item) for item in range(count)])
    return place


@pytest.fixture(params=["ranges", "no ranges"])
def web(folder: Path, request: pytest.FixtureRequest) -> Iterator[ShardWeb]:
    with serving(folder, ranges=request.param == "ranges") as web:
        yield web


def sample(number: int) -> Sample:
    image = np.random.default_rng(number).integers(0, 256, (24, 24, 3), np.uint8)
    return Sample(f"{number:03}", image, f"scene {number}", None, None, {})


def keys(place: str | Path, start: int = 0) -> list[str]:
    return [raw["__key__"] for raw in read_samples(str(place), start)]


def foreign_shard(path: Path, names: list[str]) -> Path:
    """A tar file of some members and without stats."""
    return write_tar(path, dict.fromkeys(names, bytes(700)))


def test_a_local_shard_from_any_sample_on(folder: Path) -> None:
    for start in range(7):
        assert keys(folder / "00000.tar", start) == [f"{number:03}" for number in range(start, 5)]


def test_only_samples_with_an_image_count(tmp_path: Path) -> None:
    members = [
        "a.txt",
        "a/b.c.JPG",
        "x/1.png",
        "x/1.txt",
        "x/2.txt",
        "__meta__",
        "y/1.depth.png",
        "y/2.txt",
        "y/2.webp",
    ]
    shard = foreign_shard(tmp_path / "a.tar", members)
    assert count_samples([str(shard)]) == [Shard(str(shard), 2)]
    assert keys(shard) == ["x/1", "y/2"] and keys(shard, 1) == ["y/2"]
    long = foreign_shard(tmp_path / "long.tar", [f"{'deep/' * 40}{number}.png" for number in range(4)])
    assert keys(long, 2) == [f"{'deep/' * 40}{number}" for number in (2, 3)]


def test_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = foreign_shard(tmp_path / "a.tar", ["1.png", "2.png"])
    assert count_samples([str(shard)])[0].count == 2
    with monkeypatch.context() as patch:
        patch.setattr(shard_files, "_count", lambda place: pytest.fail("counted again"))
        assert count_samples([str(shard)])[0].count == 2
    foreign_shard(shard, ["1.png", "2.png", "3.png"])
    assert count_samples([str(shard)])[0].count == 3


def test_folders_files_and_patterns(folder: Path) -> None:
    both = [str(folder / "00000.tar"), str(folder / "00001.tar")]
    assert list_shards(str(folder)) == both
    assert list_shards(both[1]) == both[1:]
    assert list_shards(f"{folder}/{{00000..00001}}.tar") == both
    with pytest.raises(UserError, match=r"no such shard: .*00002\.tar"):
        list_shards(f"{folder}/{{00000..00002}}.tar")
    stats_path(Path(both[1])).unlink()
    assert list_shards(str(folder)) == both[:1]  # without its stats file it may be half written


def test_limits(folder: Path) -> None:
    for limit, counts in ((None, [5, 3]), (6, [5, 1]), (5, [5]), (99, [5, 3])):
        shards = ShardSet.open(folder, limit)
        assert [shard.count for shard in shards.shards] == counts and len(shards) == sum(counts)
        assert [raw["__key__"] for raw in shards.raw()] == ["000", "001", "002", "003", "004", "010", "011", "012"][
            :limit
        ]


def test_samples_of_a_set_from_any_one_on(folder: Path) -> None:
    shards = ShardSet.open(folder, 7)
    keys = [sample.key for sample in shards.samples()]
    for start in range(9):
        assert [raw["__key__"] for raw in shards.raw(start)] == keys[start:]
    assert [shards.sample(number).key for number in range(7)] == keys
    with pytest.raises(IndexError):
        shards.sample(7)


def test_a_shard_with_fewer_samples_than_stated(folder: Path) -> None:
    stats_path(folder / "00000.tar").write_text('{"count": 6}')
    with pytest.raises(UserError, match=r"00000\.tar has 5 samples with an image rather than 6"):
        list(ShardSet.open(folder).samples())


def test_a_set_is_counted_once(folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    shards = ShardSet.open(folder, progress=lambda done, total: seen.append((done, total)))
    assert seen == []
    assert (len(shards), len(shards.shards), shards.digest) == (8, 2, ShardSet.open(folder).digest)
    assert seen == [(1, 2), (2, 2)]


def test_a_digest_that_older_evaluations_know(folder: Path) -> None:
    """Of shards whose stats state no SHA-256, such as those of other programs."""
    for number, count in enumerate(COUNTS):
        stats_path(folder / f"{number:05}.tar").write_text(json.dumps({"count": count}))
    assert ShardSet.open(folder).digest == text_digest("000\n00000.tar 5\n00001.tar 3")
    stats_path(folder / "00000.tar").write_text('{"count": 4}')
    assert ShardSet.open(folder).digest == text_digest("000\n00000.tar 4\n00001.tar 3")


def test_a_digest_changes_with_the_bytes_that_stats_state(folder: Path) -> None:
    before = ShardSet.open(folder).digest
    assert before == ShardSet.open(folder, 2).digest == ShardSet.open(f"file://{folder}").digest
    larger = [replace(sample(number), image=np.zeros((48, 48, 3), np.uint8)) for number in range(10, 13)]
    (folder / "00001.tar").unlink()
    stats_path(folder / "00001.tar").unlink()
    write_shard(folder / "00001.tar", larger)
    after = ShardSet.open(folder).digest
    assert before != after == ShardSet.open(f"file://{folder}").digest


def test_shards_on_the_web(web: ShardWeb) -> None:
    places = list_shards(f"{web.url}/{{00000..00001}}.tar")
    assert [shard.count for shard in count_samples(places)] == [5, 3]
    assert not any(name.endswith(".tar") for name in web.sent), "stats files are enough"
    assert keys(places[0]) == [f"{number:03}" for number in range(5)]
    assert keys(places[0], 3) == ["003", "004"]
    local = list(read_samples(str(web.folder / "00001.tar")))
    assert [{**raw, "__url__": ""} for raw in read_samples(places[1])] == [{**raw, "__url__": ""} for raw in local]


def test_shards_on_the_web_without_stats(web: ShardWeb) -> None:
    for number in range(2):
        stats_path(web.folder / f"{number:05}.tar").unlink()
    places = list_shards(f"{web.url}/{{00000..00001}}.tar")
    assert [shard.count for shard in count_samples(places)] == [5, 3]
    before = web.sent.copy()
    assert [shard.count for shard in count_samples(places)] == [5, 3]
    assert web.sent == before


def test_a_connection_that_breaks_off(web: ShardWeb) -> None:
    web.breaks = 2
    assert keys(f"{web.url}/00000.tar") == [f"{number:03}" for number in range(5)]
    assert web.breaks < 0


FLOOD = flood(head(Transfer_Encoding="chunked"), b"1;" + b"x" * 4000 + b"\r\n\xff\r\n")

HUGE = ("REQUEST_BYTES", "STATS_BYTES")


@pytest.mark.parametrize(
    ("answer", "limits", "message"),
    [
        (FLOOD, {"REQUEST_BYTES": 100_000, "STATS_BYTES": 50_000}, "more bytes on the wire than allowed"),
        (FLOOD, {"REQUEST_SECONDS": 0.1, **dict.fromkeys(HUGE, 10**12)}, "the answer took longer than allowed"),
        (drip(head(length=1000), b"x" * 1000, 0.02), {"REQUEST_SECONDS": 0.1}, "the answer took longer than allowed"),
        (redirect("file:///etc/passwd"), {}, "cannot be read: file:///etc/passwd"),
    ],
)
def test_requests_have_limits(
    answer: Answer, limits: dict[str, float], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_file, "ATTEMPTS", 1)
    for name, value in limits.items():
        monkeypatch.setattr(remote_file, name, value)
    with running(Web()) as web:
        web.answers["a.tar"] = heals(raw(head(length=10**6), close=False), answer)  # HEAD, then GET
        web.answers["a_stats.json"] = answer
        begin = time.monotonic()
        for read in (lambda url: remote_file.RemoteFile(url).read(65536), lambda url: count_samples([url])):
            with pytest.raises(UserError, match=message):
                read(web.url("a.tar"))
        assert time.monotonic() - begin < 3


def test_stats_on_the_web_are_read_up_to_a_limit(web: ShardWeb, monkeypatch: pytest.MonkeyPatch) -> None:
    stats = stats_path(web.folder / "00001.tar")
    stats.write_bytes(stats.read_bytes().ljust(10**5))
    monkeypatch.setattr(remote_file, "STATS_BYTES", 10**4)
    places = [f"{web.url}/0000{number}.tar" for number in range(2)]
    if web.ranges:  # a record that is cut off does not count: the shard itself is read
        assert [shard.count for shard in count_samples(places)] == [5, 3]
        assert web.sent["00001_stats.json"] <= 10**4
    else:
        monkeypatch.setattr(remote_file, "ATTEMPTS", 1)
        with pytest.raises(UserError, match="more bytes on the wire than allowed"):
            count_samples(places)


class Far(LocalFileSystem):
    """Files of this machine, behind a server that may never answer."""

    protocol = "gs"
    asked: ClassVar[list[tuple[str, dict[str, Any]]]] = []
    silent = threading.Event()

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        self.asked.append((path, {"start": start, "end": end, **options}))
        if self.silent.is_set():
            time.sleep(1)
        data: bytes = super().cat_file(path, start, end, **options)
        return data


def test_every_other_place_has_limits_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.register_implementation("gs", Far, clobber=True)
    monkeypatch.setattr(remote_file, "ATTEMPTS", 1)
    place = f"gs://{folder}/00000.tar"
    assert [shard.count for shard in count_samples([place])] == [5]
    assert Far.asked.pop() == (str(folder / "00000_stats.json"), {"start": 0, "end": 1024**2})
    assert keys(place) == [f"{number:03}" for number in range(5)]
    assert max(asked["end"] - asked["start"] for _, asked in Far.asked) <= 4096
    monkeypatch.setattr(remote_file, "REQUEST_SECONDS", 0.05)
    Far.silent.set()
    for read in (lambda: keys(place), lambda: count_samples([place])):
        with pytest.raises(UserError, match="the answer took longer than allowed"):
            read()
    Far.silent.clear()


def test_what_is_not_there_and_what_stays_broken(web: ShardWeb) -> None:
    with pytest.raises(UserError, match=r"/00009\.tar: no such file"):
        keys(f"{web.url}/00009.tar")
    web.breaks = 10**6
    with pytest.raises(UserError, match=r"/00000\.tar cannot be read"):
        keys(f"{web.url}/00000.tar")


def test_a_tar_file_that_ends_inside_a_header_is_damaged(folder: Path) -> None:
    shard = folder / "00000.tar"
    with tarfile.open(shard) as tar:
        last = tar.getmembers()[-1].offset
    shard.write_bytes(shard.read_bytes()[: last + 200])
    stats_path(shard).unlink()
    for read in (lambda: list(read_entries(shard)), lambda: count_samples([str(shard)])):
        with pytest.raises(
            UserError, match=r"00000\.tar is damaged, or not a plain tar file: it ends inside a header$"
        ):
            read()


@pytest.mark.parametrize("damage", [lambda header: b"x" + header[1:], lambda header: bytes(512)], ids=["bit", "zeros"])
@pytest.mark.parametrize("stats", [True, False])
def test_a_damaged_header_does_not_end_a_shard(folder: Path, damage: Callable[[bytes], bytes], stats: bool) -> None:
    """`tarfile` takes both for the end of the archive."""
    shard = folder / "00000.tar"
    with tarfile.open(shard) as tar:
        place = tar.getmembers()[len(tar.getmembers()) // 2].offset
    data = shard.read_bytes()
    shard.write_bytes(data[:place] + damage(data[place : place + 512]) + data[place + 512 :])
    if not stats:
        stats_path(shard).unlink()
    for read in (lambda: list(read_entries(shard)), lambda: list(read_samples(str(shard))),
                 lambda: list(ShardSet.open(shard).raw()), lambda: list(ShardSet.open(f"file://{shard}").raw())):  # fmt: skip
        with pytest.raises(UserError, match=r"00000\.tar is damaged"):
            read()


def test_damaged_shards(folder: Path) -> None:
    shard = folder / "00000.tar"
    shard.write_bytes(shard.read_bytes()[:3000])
    with pytest.raises(UserError, match=r"00000\.tar is damaged"):
        keys(shard)
    shard.write_bytes(b"<html>" * 1000)
    with pytest.raises(UserError, match=r"00000\.tar is damaged"):
        keys(shard)
    (folder / "empty.tar").write_bytes(bytes(10240))
    with pytest.raises(UserError, match=r"no samples with an image in .*empty\.tar"):
        count_samples([str(folder / "empty.tar")])


def test_images_of_a_download_count_by_its_successes(folder: Path) -> None:
    stats_path(folder / "00000.tar").write_text(json.dumps({"count": 9, "successes": 5}))
    with serving(folder) as web:
        assert count_samples([f"{web.url}/00000.tar"])[0].count == 5


def test_places_that_nothing_here_reads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        count_samples(["nowhere://set/00000.tar"])
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(UserError, match="s3fs is not installed") as caught:
        list_shards("s3://bucket/set")
    assert caught.value.hint == "pip install s3fs"
    with pytest.raises(UserError, match="no shards in file:///"):
        list_shards(f"file://{tmp_path}")


def test_a_folder_elsewhere(folder: Path) -> None:
    assert [place.rpartition("/")[2] for place in list_shards(f"file://{folder}")] == ["00000.tar", "00001.tar"]
    stats_path(folder / "00000.tar").unlink()
    places = list_shards(f"file://{folder}/")
    assert [place.rpartition("/")[2] for place in places] == ["00001.tar"] and keys(places[0]) == ["010", "011", "012"]


def test_names_of_shards_run_no_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sample = Sample("000000000000", np.zeros((8, 8, 3), np.uint8), "a hut", None, None, {})
    write_shard(tmp_path / "00000.tar", [sample])
    for name in ("pipe:touch PWNED; cat 00000", "http:00000", "file:00000", "gs:00000", "$(touch PWNED)"):
        shutil.copy("00000.tar", f"{name}.tar")
        shutil.copy("00000_stats.json", f"{name}_stats.json")
        for place in (f"{name}.tar", str(tmp_path / f"{name}.tar")):
            assert [raw["__key__"] for raw in ShardSet.open(place).raw()] == ["000000000000"]
    assert len(ShardSet.open(".")) == 6
    for place in ("pipe:touch PWNED; cat http://00000.tar", "pipe:touch PWNED://{a,b}.tar", "ssh://h/00000.tar"):
        with pytest.raises(UserError, match=r"shards are not read by (pipe|ssh)") as fault:
            len(ShardSet.open(place))
        assert fault.value.hint == "shards are local files, https:// or s3://"
    assert not Path("PWNED").exists()


def test_shards_are_regular_files(tmp_path: Path) -> None:
    for number, make in enumerate((os.mkfifo, lambda path: path.symlink_to("/dev/zero"))):
        shard = tmp_path / f"{number}.tar"
        make(shard)
        with pytest.raises(UserError, match="no complete shards"):
            len(ShardSet.open(shard))
        with pytest.raises(UserError, match="is not a regular file"):
            next(read_samples(str(shard)))
        with pytest.raises(UserError, match="is not a regular file"), open_tar(shard):
            pass


def test_members_that_fill_the_memory_are_refused(tmp_path: Path) -> None:
    huge = tarfile.TarInfo("a.png")
    huge.size = 2**40
    sparse = tarfile.TarInfo("a.png")
    sparse.type, sparse.pax_headers = tarfile.REGTYPE, {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(2**40)}
    for number, info in enumerate((huge, sparse)):
        shard = tmp_path / f"{number}.tar"
        shard.write_bytes(info.tobuf(tarfile.PAX_FORMAT) + bytes(4096))
        for read in (lambda shard: list(read_samples(str(shard))), lambda shard: list(read_entries(shard))):
            with pytest.raises(UserError, match=r"is damaged.*a\.png is sparse, or has more than 1 GiB"):
                read(shard)
