"""A download: the same shards however it is cut up, interrupted, shared or timed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from helpers.gallery import content, fetching, files, gallery, image_bytes, settings_of, write_table
from helpers.shards import find_shards, read_shards
from helpers.web import Web, encoded, reply
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from jointnet_cli.data.build import open_plan
from jointnet_cli.data.job import PrepareJob, Tally
from jointnet_cli.data.plan import Plan
from jointnet_cli.data.prepare import prepare
from jointnet_cli.data.report import write_contact_sheet, write_report
from jointnet_cli.data.shards.archive import new_entry, write_entry
from jointnet_cli.data.shards.format import sample_count, stats_path
from jointnet_cli.data.shards.shard_set import ShardSet
from jointnet_cli.data.shards.writer import claim_shard
from jointnet_cli.data.source_files import Source
from jointnet_cli.errors import UserError
from jointnet_cli.files.atomic import claim_path

COUNT, SHARD = 23, 5
MISSING = range(7, 10)


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with gallery(COUNT, missing=MISSING, pause=0.05) as web:
        yield web


@pytest.fixture(scope="module")
def table(web: Web, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("table") / "t.csv", web, COUNT)


def plan_of(out: Path, table: Path) -> Plan:
    return open_plan(out, Source((str(table),)), settings_of(SHARD))


def run(out: Path, table: Path, **changes: Any) -> Tally:
    """Fetch what is missing in a folder."""
    return prepare(replace(PrepareJob(out, plan_of(out, table), settings_of(SHARD)), **changes))


def shards(tally: Tally) -> list[int]:
    """The numbers of the shards that were written."""
    return sorted(int(path.stem) for path in tally.written)


@pytest.fixture(scope="module")
def whole(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set that was never interrupted. Not to be changed."""
    out = tmp_path_factory.mktemp("whole")
    assert run(out, table).total == COUNT
    return out


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    subprocess.run(["cp", "-r", str(whole), str(tmp_path / "copy")], check=True)
    return tmp_path / "copy"


def test_the_layout_is_img2dataset_s(whole: Path) -> None:
    names = {path.name for path in whole.iterdir() if not path.name.startswith(".")}
    assert names == {f"0000{n}{end}" for n in range(5) for end in (".tar", ".parquet", "_stats.json")}
    stats = json.loads(stats_path(whole / "00001.tar").read_text())
    assert (stats["count"], stats["successes"], stats["failed_to_download"]) == (5, 2, 3)
    assert stats["status_dict"] == {"http_404": 3, "success": 2}
    relation = duckdb.sql(f"SELECT * FROM '{whole}/00001.parquet' ORDER BY key")
    assert relation.columns == [
        *("url", "caption", "id", "score", "key", "status", "error_message"),
        *("width", "height", "original_width", "original_height", "exif", "sha256"),
    ]
    rows = [dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall()]
    assert [(row["id"], row["status"]) for row in rows] == [
        *((5, "success"), (6, "success")),
        *((number, "http_404") for number in MISSING),
    ]
    assert (rows[0]["width"], rows[0]["original_width"], rows[2]["width"]) == (16, 24, None)


def test_samples_lie_in_the_order_of_their_keys(whole: Path) -> None:
    samples = list(read_shards(find_shards(whole)))
    keys = [sample.key for sample in samples]
    wanted = [number for number in range(COUNT) if number not in MISSING]
    assert keys == [f"{n // SHARD:05}{n % SHARD:04}" for n in wanted]
    assert [sample.record["id"] for sample in samples] == wanted
    assert [sample.caption for sample in samples] == [f"picture {number}" for number in wanted]
    assert samples[0].image.shape == (16, 16, 3)
    assert sum(map(sample_count, find_shards(whole))) == len(samples)
    assert list(content(whole))[:3] == ["000000000.jpg", "000000000.json", "000000000.txt"]


@pytest.mark.parametrize("concurrency", [1, 5])
def test_timing_does_not_change_a_byte(whole: Path, table: Path, tmp_path: Path, concurrency: int) -> None:
    run(tmp_path, table, settings=fetching(settings_of(SHARD), concurrency=concurrency, per_host=concurrency))
    assert files(tmp_path) == files(whole)


def test_workers_share_the_shards(whole: Path, table: Path, tmp_path: Path) -> None:
    tallies = [run(tmp_path, table, worker=(index, 3)) for index in (3, 2, 1)]
    assert [shards(tally) for tally in tallies] == [[2], [1, 4], [0, 3]]
    assert files(tmp_path) == files(whole)


def test_a_finished_set_asks_for_nothing(copy: Path, table: Path, web: Web) -> None:
    asked, before = web.asked.total(), {path.name: path.stat().st_mtime_ns for path in copy.iterdir()}
    tally = run(copy, table)
    assert (tally.total, tally.done, tally.written) == (0, 0, [])
    assert web.asked.total() == asked
    assert {path.name: path.stat().st_mtime_ns for path in copy.iterdir()} == before


@pytest.mark.parametrize("loss", ["00002.tar", "00002_stats.json"])
def test_only_what_is_missing_is_fetched(whole: Path, copy: Path, table: Path, web: Web, loss: str) -> None:
    (copy / loss).unlink()
    asked = web.asked.total()
    assert shards(run(copy, table)) == [2]
    assert web.asked.total() - asked == SHARD
    assert files(copy) == files(whole)


def test_a_set_grows_and_keeps_what_it_has(whole: Path, table: Path, tmp_path: Path, web: Web) -> None:
    assert run(tmp_path, table, limit=12).done == 12
    assert sample_count(tmp_path / "00002.tar") == 2
    asked = web.asked.total()
    assert run(tmp_path, table).done == COUNT - 12
    assert web.asked.total() - asked == COUNT - 12
    assert files(tmp_path) == files(whole)
    assert run(tmp_path, table, limit=12, retry=("all",)).done == len(MISSING)
    assert files(tmp_path) == files(whole)


def test_two_processes_on_one_folder(whole: Path, table: Path, tmp_path: Path, web: Web) -> None:
    script = (
        "import sys; from pathlib import Path; from test_download import run, shards\n"
        "print(*shards(run(Path(sys.argv[1]), Path(sys.argv[2]))))"
    )
    paths = os.pathsep.join(map(str, Path(__file__).parents[:4]))
    asked = web.asked.total()
    both = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path), str(table)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": paths},
        )
        for _ in range(2)
    ]
    written = [number for process in both for number in process.communicate()[0].split()]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(written) == ["0", "1", "2", "3", "4"]  # each by one of them
    assert web.asked.total() - asked == COUNT
    assert files(tmp_path) == files(whole)


def test_a_shard_that_another_holds_is_left_to_it(table: Path, tmp_path: Path) -> None:
    plan_of(tmp_path, table)
    with claim_shard(tmp_path / "00001.tar"):
        tally = run(tmp_path, table)
        assert shards(tally) == [0, 2, 3, 4] and tally.busy == [tmp_path / "00001.tar"]
    assert shards(run(tmp_path, table)) == [1]


@pytest.fixture
def healing(web: Web) -> Iterator[None]:
    """While it lasts, one of the missing images is there, and one answers 503."""
    before = dict(web.answers)
    web.answers["8"], web.answers["9"] = reply(image_bytes(8)), reply(code=503)
    yield
    web.answers |= before


@pytest.mark.usefixtures("healing")
def test_only_the_failed_are_tried_again(whole: Path, copy: Path, table: Path, web: Web) -> None:
    assert run(copy, table, retry=("timeout", "5xx")).total == 0
    asked = web.asked.total()
    tally = run(copy, table, retry=("http_404",))
    assert (tally.total, web.asked.total() - asked) == (3, 3)
    assert (tally.made.total(), tally.failed) == (1, {"http_404": 1, "http_503": 1})
    before, after = content(whole), content(copy)
    assert after.items() >= before.items()
    assert after.keys() - before.keys() == {"000010003.jpg", "000010003.json", "000010003.txt"}
    keys = [name.partition(".")[0] for name in after if name.startswith("00001")]
    assert keys == sorted(keys) and len(keys) == 9
    assert json.loads(stats_path(copy / "00001.tar").read_text())["status_dict"] == {
        "http_404": 1,
        "http_503": 1,
        "success": 3,
    }
    assert run(copy, table, retry=("5xx",)).total == 1


@pytest.mark.usefixtures("healing")
@pytest.mark.parametrize("file", ["00001.tar", "00001.parquet"])
def test_a_damaged_shard_is_not_rewritten(copy: Path, table: Path, file: str) -> None:
    data = bytearray((copy / file).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / file).write_bytes(data)
    before = {path.name: path.read_bytes() for path in copy.glob("0*")}
    tally = run(copy, table, retry=("4xx",))
    assert [str(fault) for fault in tally.damaged] == [
        f"{copy}/{file} is damaged: its SHA-256 differs from 00001_stats.json"
    ]
    assert {path.name: path.read_bytes() for path in copy.glob("0*")} == before
    assert tally.done == 0


def test_records_that_differ_from_the_stats_are_not_rewritten(copy: Path, table: Path) -> None:
    stats = json.loads(stats_path(copy / "00001.tar").read_text())
    stats_path(copy / "00001.tar").write_text(json.dumps(stats | {"count": 4}))
    tally = run(copy, table, retry=("4xx",))
    (fault,) = tally.damaged
    assert str(fault) == f"{copy}/00001.parquet is damaged: it has 5 records rather than 4"


def test_samples_kept_and_samples_retried_lie_in_the_order_of_their_keys(
    whole: Path, table: Path, tmp_path: Path, web: Web
) -> None:
    before = dict(web.answers)
    web.answers["5"] = reply(code=503)  # before the sample that is kept
    run(tmp_path, table, limit=7)
    web.answers |= before
    assert [name for name in content(tmp_path) if name.startswith("00001") and name.endswith("jpg")] == [
        "000010001.jpg"
    ]
    run(tmp_path, table, retry=("5xx",))
    assert files(tmp_path) == files(whole)


@pytest.mark.usefixtures("healing")
@pytest.mark.parametrize("moment", range(4))
def test_a_retry_that_is_cut_off_while_it_renames(
    copy: Path, table: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """Whatever file was renamed last, the shard is the old one or the new one in the end."""
    calls = iter(range(100))
    rename = Path.replace

    def cut(self: Path, target: Path) -> Path:
        if next(calls) == moment:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", cut)
    with pytest.raises(KeyboardInterrupt):
        run(copy, table, retry=("4xx",))
    monkeypatch.undo()
    decided = moment > 0  # the first rename is what decides
    assert bool(list(copy.glob(".0*"))) == decided
    run(copy, table)
    assert not list(copy.glob(".0*"))
    assert ("000010003.jpg" in content(copy)) == decided
    records = duckdb.sql(f"SELECT key FROM '{copy}/00001.parquet' WHERE status = 'success'").fetchall()
    assert {f"{key}.jpg" for (key,) in records} == {
        name for name in content(copy) if name.startswith("00001") and name.endswith("jpg")
    }
    assert sample_count(copy / "00001.tar") == 2 + decided


def test_what_a_kill_after_the_last_rename_left_is_cleared(copy: Path, table: Path) -> None:
    before = sorted(copy.iterdir())
    claim_path(copy / "00001.tar").touch()
    (copy / ".00001.jsonl").touch()
    assert run(copy, table).done == 0
    assert sorted(copy.iterdir()) == before


def test_a_full_disk_ends_the_run(table: Path, tmp_path: Path) -> None:
    plan_of(tmp_path, table)
    (tmp_path / ".00001.tar.new").mkdir()  # what cannot be written
    with pytest.raises(OSError, match="00001"):
        run(tmp_path, table)
    (tmp_path / ".00001.tar.new").rmdir()
    run(tmp_path, table)
    assert len(find_shards(tmp_path)) == 5


def test_the_report_sums_up_the_folder(copy: Path, table: Path) -> None:
    report = write_report(copy, plan_of(copy, table), None)
    assert json.loads((copy / "report.json").read_text()) == report
    assert report["funnel"] == {"rows read": COUNT, "has a URL": COUNT, "unique url": COUNT}
    assert report["images"] == {"wanted": COUNT, "tried": COUNT, "successes": COUNT - 3}
    assert report["causes"] == {"http_404": 3}
    assert report["shards"] == {"expected": 5, "complete": 5}
    assert report["received"] >= sum(len(image_bytes(n)) for n in range(COUNT) if n not in MISSING)
    sheet = write_contact_sheet(copy)
    assert sheet is not None and sheet.stat().st_size > 5000


def test_the_contact_sheet_leaves_out_what_cannot_be_read(tmp_path: Path) -> None:
    sound = encoded(Image.new("RGB", (24, 24), "red"))
    for number, images in enumerate([{"0": sound}, {"1": b"\xff\xd8", "2": sound[:-100], "3": sound}]):
        shard = tmp_path / f"0000{number}.tar"
        with tarfile.open(shard, "w") as tar:
            for key, image in images.items():
                write_entry(tar, new_entry(key, {"jpg": image}))
        stats_path(shard).write_text('{"count": 1}')
    (tmp_path / "00000.tar").write_bytes(b"no tar" * 200)
    assert write_contact_sheet(tmp_path) is not None
    with Image.open(tmp_path / "contact_sheet.png") as image:
        assert image.getpixel((64, 64))[0] > 250 and image.getpixel((128 + 64, 64)) == (255, 255, 255)


def test_the_contact_sheet_decodes_large_images_at_a_reduced_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tarfile.open(tmp_path / "00000.tar", "w") as tar:
        write_entry(tar, new_entry("000000000", {"jpg": encoded(Image.new("RGB", (2400, 1200), "red"))}))
    stats_path(tmp_path / "00000.tar").write_text('{"count": 1}')
    decoded: list[tuple[int, int]] = []
    load = JpegImageFile.load
    monkeypatch.setattr(JpegImageFile, "load", lambda self: (decoded.append(self.size), load(self))[1])
    sheet = write_contact_sheet(tmp_path)
    assert sheet is not None and max(max(size) for size in decoded) <= 600
    with Image.open(sheet) as image:
        assert np.abs(np.subtract(image.getpixel((64, 64)), (255, 0, 0))).max() < 4
        assert image.getpixel((64, 20)) == (255, 255, 255)


def test_a_shard_without_a_single_image(tmp_path: Path, web: Web) -> None:
    table = write_table(tmp_path / "t.csv", web, 10)
    table.write_text("\n".join([table.read_text().splitlines()[0], *table.read_text().splitlines()[8:11]]))
    run(tmp_path / "out", table)
    assert [sample_count(shard) for shard in find_shards(tmp_path / "out")] == [0]
    with pytest.raises(UserError, match="no samples with an image"):
        len(ShardSet.open(tmp_path / "out"))
    assert write_contact_sheet(tmp_path / "out") is None
