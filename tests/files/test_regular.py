"""Files that are read whole: regular ones, up to a size."""

from __future__ import annotations

import io
import os
import re
import socket
import tracemalloc
from pathlib import Path

import pytest

import jointnet_cli
from jointnet_cli.errors import UserError
from jointnet_cli.files.text import from_json, load_json, open_regular, read_bytes, read_stream


def test_a_link_to_a_regular_file_is_opened(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[1]")
    (tmp_path / "b.json").symlink_to("a.json")
    assert load_json(tmp_path / "b.json") == [1]


@pytest.mark.parametrize("kind", ["fifo", "zero", "link"])
def test_devices_and_pipes_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "config.json"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if kind == "zero" else "/dev/urandom")
    with pytest.raises(UserError, match=r"config\.json is not a regular file"):
        load_json(path)


def test_folders_and_sockets_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
        for path in (tmp_path, tmp_path / "s"):
            with pytest.raises(OSError):
                open_regular(path)


def test_a_file_that_is_read_whole_has_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(bytes(3 * 2**20))
    os.truncate(path, 64 * 2**20)
    assert len(read_bytes(path)) == 64 * 2**20
    os.truncate(path, 64 * 2**20 + 1)
    with pytest.raises(UserError, match=r"a\.txt has more than 64 MiB"):
        read_bytes(path)
    with pytest.raises(UserError, match="stdin has more than 1 MiB"):
        read_stream(io.BytesIO(bytes(2**20 + 1)), "stdin", 2**20)


def test_a_high_limit_takes_no_memory_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"ocean reef\n" * 300_000)
    tracemalloc.start()
    with path.open("rb") as pipe:
        assert len(read_bytes(path, 2**30)) == len(read_stream(io.BytesIO(pipe.read()), "stdin", 2**30)) == 3_300_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


def test_json_that_is_nested_too_deeply_is_damaged() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        from_json(b"[" * 200_000)


def test_the_package_reads_nothing_whole_in_another_way() -> None:
    package = Path(jointnet_cli.__file__).parent
    reading = re.compile(r"\bjson\.loads?\(|tomllib\.load\(|\.read_(text|bytes)\(\)|\bread_text\(encoding")
    own = {
        "files/text.py",
        "files/decode.py",  # images
        "sampling/memory.py",  # /proc
        "files/atomic.py",
        "data/web/decoders.py",  # and a pipe to a process of its own
        "files/batch_file.py",  # a text that is read
        "devices.py",  # torch
        "training/checkpoints.py",  # the run folder that this program wrote
        "training/runs.py",
        "training/stages/from_scratch.py",
        "evaluation/runner.py",
        "evaluation/commands/resources.py",
        "scene/viewer/page.py",  # files of the package
        "evaluation/study/page.py",
    }
    found = {path.relative_to(package).as_posix() for path in package.rglob("*.py") if reading.search(path.read_text())}
    assert found <= own


def test_the_command_line_may_name_a_pipe(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"a hut")
    os.close(writing)
    assert read_bytes(f"/dev/fd/{reading}", pipes=True) == b"a hut"
    with pytest.raises(UserError, match="/dev/zero has more than 1 MiB"):
        read_bytes("/dev/zero", 2**20, pipes=True)
