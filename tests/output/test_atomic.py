from __future__ import annotations

from pathlib import Path

import pytest

from jointnet_cli.output.atomic import atomic_path, write_text


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, OSError])
@pytest.mark.parametrize("before", [None, "old"])
def test_an_interrupted_write_leaves_what_was_there(
    tmp_path: Path, interruption: type[BaseException], before: str | None
) -> None:
    target = tmp_path / "result.txt"
    if before is not None:
        target.write_text(before)
    with pytest.raises(interruption), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise interruption
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == ({"result.txt": before} if before else {})


def test_a_finished_write_replaces(tmp_path: Path) -> None:
    target = tmp_path / "result.rgbd.txt"
    target.write_text("old")
    with atomic_path(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == target.suffix
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_the_file_gets_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    plain = tmp_path / "plain.txt"
    plain.touch()
    write_text(tmp_path / "atomic.txt", "text")
    assert (tmp_path / "atomic.txt").stat().st_mode == plain.stat().st_mode


def test_text_is_utf8_with_unix_line_ends(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "é\n")
    assert (tmp_path / "a.txt").read_bytes() == b"\xc3\xa9\n"
