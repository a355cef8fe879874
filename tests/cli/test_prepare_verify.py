"""`jointnet prepare --verify` and `--repair`: damage of every kind is named, and made again where it can be."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.gallery import files, gallery, write_table
from helpers.worlds import make_worlds

from jointnet_cli.data.shards.format import stats_path
from jointnet_cli.files.paths import file_digest

from .conftest import Invoke


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of two, two and one world. Not to be changed."""
    out = tmp_path_factory.mktemp("worlds")
    make_worlds(out, 5, size=16, shard_size=2)
    return out


COUNT, SHARD, MISSING = 7, 3, range(4, 5)


@pytest.fixture(scope="module")
def downloads(invoke_once: Invoke, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Downloads in shards of three, three and one; the fifth failed. Not to be changed."""
    out = tmp_path_factory.mktemp("downloads")
    with gallery(COUNT, missing=MISSING) as web:
        table = write_table(out / "t.csv", web, COUNT)
        done = invoke_once(
            "prepare", str(table), "--out", str(out / "set"), "--size", "16", "--shard-size", str(SHARD), *NETWORK
        )
        assert done.exit_code == 0, done.output
        yield out / "set"


NETWORK = ["--allow-private-hosts", "--set", "fetch.retries=0"]


@pytest.fixture(scope="module")
def invoke_once() -> Invoke:
    from typer.testing import CliRunner

    from jointnet_cli.cli import app

    return lambda *arguments, **_: CliRunner(env={"COLUMNS": "200"}).invoke(app, arguments)


def flip(path: Path, place: float) -> None:
    """Flip a bit at a share of a file."""
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1
    path.write_bytes(data)


def set_stats(shard: Path, **changes: object) -> None:
    stats = json.loads(stats_path(shard).read_text()) | changes
    stats_path(shard).write_text(json.dumps({key: value for key, value in stats.items() if value is not None}))


def break_header(shard: Path) -> None:
    """Damage the header of the second sample, where `tarfile` sees the end of the archive; forget the hash."""
    with tarfile.open(shard) as tar:
        info = tar.getmembers()[5]
    data = bytearray(shard.read_bytes())
    data[info.offset + 3] ^= 1
    shard.write_bytes(data)
    set_stats(shard, sha256=None)


def cut(shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[:5000])
    set_stats(shard, sha256=None)


def blank(shard: Path) -> None:
    """Overwrite the second sample's header with zeros; forget the hash."""
    with tarfile.open(shard) as tar:
        offset = tar.getmembers()[5].offset
    data = shard.read_bytes()
    shard.write_bytes(data[:offset] + bytes(512) + data[offset + 512 :])
    set_stats(shard, sha256=None)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a bit": (lambda tar: flip(tar, 0.3), "00001.tar is damaged: its SHA-256 differs from 00001_stats.json"),
    "a cut tar": (cut, "00001.tar is damaged, or not a plain tar file: unexpected end of data"),
    "a header": (break_header, "00001.tar is damaged, or not a plain tar file: damaged header: bad checksum"),
    "zeros": (blank, "00001.tar is damaged, or not a plain tar file: data follow its end marker"),
    "an empty tar": (lambda tar: tar.write_bytes(b""), "00001.tar is damaged: its SHA-256 differs from 00001_stats.json"),
    "no tar": (Path.unlink, "00001.tar is missing"),
    "no stats": (lambda tar: stats_path(tar).unlink(), "00001_stats.json is missing: the shard is not finished, or"),
    "neither": (lambda tar: [tar.unlink(), stats_path(tar).unlink()], "00001.tar is missing"),
    "empty stats": (lambda tar: stats_path(tar).write_bytes(b""), "00001_stats.json is damaged: Expecting value"),
    "no object": (lambda tar: stats_path(tar).write_text("[1]"), "00001_stats.json is damaged: it is not a JSON object"),
    "no count": (lambda tar: stats_path(tar).write_text("{}"), "00001_stats.json is damaged: 'count' is missing"),
    "another type": (lambda tar: set_stats(tar, count=[2]), "00001_stats.json is damaged: int() argument"),
    "infinity": (lambda tar: stats_path(tar).write_text('{"count": 1e999}'), "00001_stats.json is damaged: cannot"),
    "labels": (lambda tar: set_stats(tar, labels=[1]), "00001_stats.json is damaged: labels has another type"),
    "another count": (lambda tar: set_stats(tar, count=3), "00001.tar has 2 samples, 00001_stats.json states 3"),
}  # fmt: skip


def damage_and_repair(invoke: Invoke, out: Path, do: Callable[[Path], object], words: str, *flags: str) -> None:
    """Damage the second shard: one fault, in these words, is found and repaired."""
    do(out / "00001.tar")
    found = invoke("prepare", "--verify", str(out))
    assert found.exit_code == 1 and "unexpected" not in found.stderr
    (line,) = found.stdout.splitlines()
    assert line.startswith(f"{out}/{words}")
    mended = invoke("prepare", "--repair", str(out), *flags)
    assert (mended.exit_code, mended.stdout) == (0, ""), mended.output


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_named_and_made_again(worlds: Path, tmp_path: Path, invoke: Invoke, damage: str) -> None:
    out = tmp_path / "set"
    shutil.copytree(worlds, out)
    damage_and_repair(invoke, out, *DAMAGES[damage])
    for path in worlds.iterdir():
        if path.name != "00001_stats.json" or "tar" in damage:
            assert (out / path.name).read_bytes() == path.read_bytes(), path
    assert json.loads((out / "00001_stats.json").read_text())["sha256"] == file_digest(worlds / "00001.tar")
    assert invoke("prepare", "--verify", str(out)).exit_code == 0


def test_a_damaged_shard_is_kept_beside_the_new_one(worlds: Path, tmp_path: Path, invoke: Invoke) -> None:
    out = tmp_path / "set"
    shutil.copytree(worlds, out)
    flip(out / "00000.tar", 0.5)
    damaged = (out / "00000.tar").read_bytes()
    assert invoke("prepare", "--repair", str(out)).exit_code == 0
    assert (out / "00000.tar.aside-1").read_bytes() == damaged
    assert (out / "00000_stats.json.aside-1").read_bytes() == (worlds / "00000_stats.json").read_bytes()


def test_a_sound_set_and_one_of_an_older_version(worlds: Path, tmp_path: Path, invoke: Invoke) -> None:
    sound = invoke("prepare", "--verify", str(worlds))
    assert (sound.exit_code, sound.stdout, sound.stderr) == (0, "", f"{worlds}: 5 samples in 3 shards, no faults\n")
    out = tmp_path / "set"
    shutil.copytree(worlds, out)
    for shard in out.glob("*.tar"):
        set_stats(shard, sha256=None)
    older = invoke("prepare", "--verify", str(out))
    assert older.exit_code == 0 and "no hash recorded for 3 shards" in older.stderr
    with tarfile.open(out / "00000.tar") as tar:
        image = next(info for info in tar.getmembers() if info.name.endswith(".png"))
    data = bytearray((out / "00000.tar").read_bytes())
    data[image.offset_data + image.size // 2] ^= 1
    (out / "00000.tar").write_bytes(data)
    (line,) = invoke("prepare", "--verify", str(out)).stdout.splitlines()
    assert line.startswith(f"{out}/00000.tar: sample 000000000000: ")


def test_a_set_without_a_plan_keeps_its_damaged_shard(tmp_path: Path, invoke: Invoke, worlds: Path) -> None:
    for path in worlds.glob("0*"):
        shutil.copy(path, tmp_path)
    flip(tmp_path / "00001.tar", 0.5)
    damaged = (tmp_path / "00001.tar").read_bytes()
    found = invoke("prepare", "--repair", str(tmp_path))
    assert found.exit_code == 1 and f"{tmp_path}/00001.tar is damaged" in found.stdout
    assert (tmp_path / "00001.tar").read_bytes() == damaged


DOWNLOAD_DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "parquet": (lambda tar: tar.with_suffix(".parquet").write_bytes(b"PAR1"), "00001.parquet is damaged: its SHA-256"),
    "no parquet": (lambda tar: tar.with_suffix(".parquet").unlink(), "00001.parquet is damaged: it is missing"),
    "stats": (lambda tar: stats_path(tar).write_bytes(b"\xff"), "00001_stats.json is damaged: "),
    "a bit": (lambda tar: flip(tar, 0.4), "00001.tar is damaged: its SHA-256 differs"),
}


@pytest.mark.parametrize("damage", DOWNLOAD_DAMAGES)
def test_downloads_are_made_again(downloads: Path, tmp_path: Path, invoke: Invoke, damage: str) -> None:
    out = tmp_path / "set"
    shutil.copytree(downloads, out)
    damage_and_repair(invoke, out, *DOWNLOAD_DAMAGES[damage], *NETWORK)
    for path in out.glob("*.aside-1"):
        path.unlink()
    assert files(out) == files(downloads)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"facts": {}, "parts": [], "rows": 7, "funnel": {}}'])
def test_a_damaged_plan_is_named(downloads: Path, tmp_path: Path, invoke: Invoke, content: str) -> None:
    out = tmp_path / "set"
    shutil.copytree(downloads, out)
    (out / ".plan/plan.json").write_text(content)
    found = invoke("prepare", "--verify", str(out))
    assert found.exit_code == 1 and found.stdout.startswith(f"{out}/.plan/plan.json is damaged: ")
    refused = invoke("prepare", "--repair", str(out))
    assert refused.exit_code == 2 and "move the folder .plan away" in refused.stderr


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-100])])
def test_damaged_rows_of_a_plan_are_named(
    downloads: Path, tmp_path: Path, invoke: Invoke, damage: Callable[[Path], object]
) -> None:
    out = tmp_path / "set"
    shutil.copytree(downloads, out)
    damage(out / ".plan/rows-00000.parquet")
    found = invoke("prepare", "--verify", str(out))
    assert found.exit_code == 1 and found.stdout.startswith(f"{out}/.plan is missing or damaged: ")
    (out / "00001.tar").unlink()
    refused = invoke("prepare", str(downloads.parent / "t.csv"), "--out", str(out), "--size", "16", "--shard-size", "3")
    assert refused.exit_code == 2 and f"{out}/.plan is missing or damaged: " in refused.stderr


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"seed": "a", "size": 16, "shard_size": 2}'])
def test_a_damaged_record_of_worlds_is_named(worlds: Path, tmp_path: Path, invoke: Invoke, content: str) -> None:
    out = tmp_path / "set"
    shutil.copytree(worlds, out)
    (out / "worlds.json").write_text(content)
    command = ("prepare", "worlds", "--count", "5", "--shard-size", "2", "--size", "16", "--out", str(out))
    refused = invoke(*command)
    assert refused.exit_code == 2 and f"{out}/worlds.json is damaged: " in refused.stderr
    assert "move it away and give the command" in refused.stderr
    (out / "worlds.json").unlink()
    assert invoke(*command).exit_code == 0
    assert (out / "worlds.json").read_bytes() == (worlds / "worlds.json").read_bytes()


@pytest.mark.parametrize("flags", [["--label", "depth=midas"], ["--dry-run"]])
def test_what_cannot_be_combined(worlds: Path, invoke: Invoke, flags: list[str]) -> None:
    refused = invoke("prepare", "--verify", str(worlds), *flags)
    assert refused.exit_code == 2 and f"--verify and {flags[0]} exclude each other" in refused.stderr


def test_a_folder_without_shards(tmp_path: Path, invoke: Invoke) -> None:
    assert f"no shards in {tmp_path}" in invoke("prepare", "--verify", str(tmp_path)).stderr
    assert f"no folder {tmp_path}/x" in invoke("prepare", "--verify", str(tmp_path / "x")).stderr
