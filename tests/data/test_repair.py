"""`jointnet prepare --verify` and `--repair`: how many images a set has, and which files belong to it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.gallery import gallery, write_table
from helpers.worlds import make_worlds
from typer.testing import CliRunner, Result

from jointnet_cli.cli import app
from jointnet_cli.data.shards.format import read_stats, stats_path
from jointnet_cli.files.paths import file_digest

COUNT, SHARD = 7, 3
NETWORK = ["--allow-private-hosts", "--set", "fetch.retries=0"]


def invoke(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, list(map(str, arguments)))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A table of images that are served."""
    with gallery(COUNT, missing=range(4, 5)) as web:
        yield write_table(tmp_path_factory.mktemp("table") / "t.csv", web, COUNT)


@pytest.fixture(scope="module")
def downloads(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Downloads in shards of three, three and one; the fifth failed. Not to be changed."""
    out = tmp_path_factory.mktemp("downloads")
    assert download(table, out).exit_code == 0
    return out


@pytest.fixture
def copy(downloads: Path, tmp_path: Path) -> Path:
    return shutil.copytree(downloads, tmp_path / "set")


def download(table: Path, out: Path, *flags: object) -> Result:
    return invoke("prepare", table, "--out", out, "--size", 16, "--shard-size", SHARD, *NETWORK, *flags)


def cut(shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[:2000])


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("lost", [False, True])
def test_shards_beyond_the_last_report_are_made_again(
    table: Path, downloads: Path, copy: Path, number: int, *, lost: bool
) -> None:
    assert download(table, copy, "--count", 2).exit_code == 0
    assert json.loads((copy / "report.json").read_text())["images"]["wanted"] == 2
    shard = copy / f"0000{number}.tar"
    cut(shard)
    if lost:
        stats_path(shard).unlink()
    repaired = invoke("prepare", "--repair", copy, *NETWORK)
    assert (repaired.exit_code, repaired.stdout) == (0, ""), repaired.output
    for name in (shard.name, f"{shard.stem}.parquet"):
        assert (copy / name).read_bytes() == (downloads / name).read_bytes()


def test_a_repair_adds_no_images(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    assert download(table, out, "--count", 4).exit_code == 0
    (out / "report.json").unlink()
    made = (out / "00001.tar").read_bytes()
    (out / "00001.tar").unlink()
    assert invoke("prepare", "--repair", out, *NETWORK).exit_code == 0
    assert (out / "00001.tar").read_bytes() == made
    assert not (out / "00002.tar").exists()


def test_the_last_shard_of_worlds_keeps_its_number(tmp_path: Path) -> None:
    make_worlds(tmp_path, 3, size=16, shard_size=2)
    made = (tmp_path / "00001.tar").read_bytes()
    (tmp_path / "00001.tar").unlink()
    assert invoke("prepare", "--repair", tmp_path).exit_code == 0
    assert (tmp_path / "00001.tar").read_bytes() == made and read_stats(tmp_path / "00001.tar")["count"] == 1


@pytest.mark.parametrize("content", [None, b"\xff"])
def test_the_hash_of_sound_records_is_recorded_again(copy: Path, content: bytes | None) -> None:
    shard = copy / "00001.tar"
    stats_path(shard).unlink()
    if content is not None:
        stats_path(shard).write_bytes(content)
    assert invoke("prepare", "--repair", copy, *NETWORK).exit_code == 0
    assert read_stats(shard)["records_sha256"] == file_digest(copy / "00001.parquet")


def test_the_hash_of_damaged_records_stays(copy: Path) -> None:
    shutil.rmtree(copy / ".plan")  # without a plan the records cannot be made again
    records = copy / "00001.parquet"
    records.write_bytes(records.read_bytes() + b"x")
    before = read_stats(copy / "00001.tar")["records_sha256"]
    repaired = invoke("prepare", "--repair", copy, *NETWORK)
    assert repaired.exit_code == 1 and "00001.parquet is damaged" in repaired.stdout
    assert read_stats(copy / "00001.tar")["records_sha256"] == before


def test_files_of_other_names_are_no_shards_of_a_planned_set(copy: Path) -> None:
    others = [copy / name for name in ("table.parquet", "backup.tar", "notes_stats.json", "2024.tar", "20240131.tar")]
    for path in others:
        path.write_bytes(b"mine")
    sound = invoke("prepare", "--verify", copy)
    assert (sound.exit_code, sound.stdout) == (0, ""), sound.output
    cut(copy / "00001.tar")
    repaired = invoke("prepare", "--repair", copy, *NETWORK)
    assert (repaired.exit_code, repaired.stdout) == (0, ""), repaired.output
    assert all(path.read_bytes() == b"mine" for path in others)


def test_a_parquet_file_is_no_shard_of_a_set_without_a_plan(copy: Path) -> None:
    shutil.rmtree(copy / ".plan")
    (copy / "table.parquet").write_bytes(b"mine")
    for path in list(copy.glob("00001*")):
        path.rename(path.with_name(path.name.replace("00001", "more")))
    more = json.loads((copy / "more_stats.json").read_text()) | {"shard": "more.tar"}
    (copy / "more_stats.json").write_text(json.dumps(more))
    sound = invoke("prepare", "--verify", copy)
    assert (sound.exit_code, sound.stdout) == (0, ""), sound.output
    (copy / "more.tar").unlink()
    assert invoke("prepare", "--verify", copy).stdout == f"{copy}/more.tar is missing\n"


def test_a_damaged_shard_is_reported_and_the_others_are_finished(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    assert download(table, out, "--count", 5).exit_code == 0
    cut(out / "00001.tar")
    grown = download(table, out)
    assert grown.exit_code == 1 and f"{out}/00001.tar is damaged" in grown.stderr
    assert grown.stdout.splitlines() == [f"{out}/0000{number}.tar" for number in range(3)]
