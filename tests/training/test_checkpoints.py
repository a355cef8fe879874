"""The clock of a run, the weights in a checkpoint, and which checkpoint is whole."""

from __future__ import annotations

import errno
import json
import os
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from jointnet_cli.errors import UserError
from jointnet_cli.training.checkpoints import (
    Checkpoints,
    Clock,
    distinct_weights,
    find_faults,
    load_clock,
    load_weights,
    save_clock,
)


def test_the_clock() -> None:
    clock = Clock()
    clock.advance(30)
    clock.advance(90)
    assert clock == Clock(2, 2.0)


def test_a_saved_clock_is_read_back(tmp_path: Path) -> None:
    save_clock(Clock(3, 1.5), 8, tmp_path)
    assert json.loads((tmp_path / "clock.json").read_text()) == {"step": 3, "minutes": 1.5, "samples_a_step": 8}
    assert load_clock(tmp_path) == (Clock(3, 1.5), 8)
    assert Clock() == Clock(0, 0.0)


def shared_network(seed: int) -> nn.Module:
    """A network whose modules `0` and `1` share their weights, in channels-last order."""
    torch.manual_seed(seed)
    convolution = nn.Conv2d(2, 2, 3)
    return nn.Sequential(convolution, convolution, nn.Conv2d(2, 1, 1)).to(memory_format=torch.channels_last)


def test_shared_weights_are_saved_once_and_read_back(tmp_path: Path) -> None:
    network, other = shared_network(0), shared_network(1)
    weights = distinct_weights(network)
    assert sorted(weights) == ["0.bias", "0.weight", "2.bias", "2.weight"]
    assert all(value.is_contiguous() for value in weights.values())
    save_file(weights, tmp_path / "weights.safetensors")
    load_weights(other, tmp_path / "weights.safetensors")
    for name, value in network.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    save_file(distinct_weights(nn.Linear(2, 2)), file)
    with pytest.raises(RuntimeError, match=f"^{file} holds the weights of another network$"):
        load_weights(shared_network(0), file)


def write_checkpoint(checkpoints: Checkpoints, step: int) -> Path:
    checkpoints.begin(step)
    (checkpoints.partial(step) / "part").mkdir()
    (checkpoints.partial(step) / "part/weights").write_bytes(bytes(range(256)) * 40 + bytes([step % 256]))
    checkpoints.finish(step)
    return checkpoints.path(step)


def test_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 10, 3_000_000):
        write_checkpoint(checkpoints, step)
        assert len(list(tmp_path.iterdir())) <= 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000010", "003000000"]
    assert checkpoints.newest() == 3_000_000


def resumed(folder: Path, keep: int = 1) -> tuple[Checkpoints, list[str]]:
    """The checkpoints of the next piece of a run, and its warnings."""
    checkpoints, warnings = Checkpoints(folder, keep), list[str]()
    checkpoints.resume(warnings.append)
    return checkpoints, warnings


def test_the_next_piece_of_a_run_removes_what_the_one_before_wrote(tmp_path: Path) -> None:
    first = Checkpoints(tmp_path, keep=3)
    for step in (1, 2, 3, 4):
        write_checkpoint(first, step)
    checkpoints, warnings = resumed(tmp_path, keep=2)
    assert (checkpoints.run, checkpoints.steps(), warnings) == (first.run, [2, 3, 4], [])
    write_checkpoint(checkpoints, 5)
    assert checkpoints.steps() == [4, 5]


def test_checkpoints_of_another_run_are_not_removed(tmp_path: Path) -> None:
    write_checkpoint(Checkpoints(tmp_path, keep=2), 1)
    theirs = write_checkpoint(Checkpoints(tmp_path, keep=2), 3)
    ours = Checkpoints(tmp_path, keep=1)
    for step in (2, 3, 4):
        write_checkpoint(ours, step)
    assert ours.steps() == [1, 4]
    assert (tmp_path / f"{theirs.name}.aside-1/run").read_text() != ours.run


def test_a_checkpoint_that_names_no_run_is_removed_only_if_the_run_resumed_from_it(tmp_path: Path) -> None:
    for step in (1, 2):
        path = write_checkpoint(Checkpoints(tmp_path, keep=2), step)
        manifest = json.loads((path / "manifest.json").read_text())
        (path / "manifest.json").write_text(json.dumps({k: v for k, v in manifest.items() if k != "run"}))
        (path / "run").unlink()
    checkpoints, _ = resumed(tmp_path)
    write_checkpoint(checkpoints, 3)
    assert checkpoints.steps() == [1, 3]


def test_damaged_checkpoints_are_kept_beside_the_one_to_go_on_from(tmp_path: Path) -> None:
    first = Checkpoints(tmp_path, keep=3)
    for step in (1, 2, 3):
        weights = write_checkpoint(first, step) / "part/weights"
        if step > 1:
            weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    checkpoints, warnings = resumed(tmp_path)
    assert warnings == [
        f"checkpoint {tmp_path}/00000000{n} is damaged (part/weights: the SHA-256 differs); kept as 00000000{n}.aside-1, "
        "going on from 1"
        for n in (3, 2)
    ]
    write_checkpoint(checkpoints, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000002", "000000002.aside-1", "000000003.aside-1"]


def test_without_an_intact_checkpoint_nothing_is_touched(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    (write_checkpoint(checkpoints, 1) / "manifest.json").write_bytes(b"{")
    (write_checkpoint(checkpoints, 2) / "part/weights").unlink()
    with pytest.raises(UserError) as caught:
        checkpoints.resume(print)
    assert str(caught.value) == (
        f"no checkpoint of {tmp_path} is intact: 000000002 (part/weights is missing), 000000001 (manifest.json is damaged)"
    )
    assert caught.value.hint is not None and "--no-resume" in caught.value.hint
    assert checkpoints.steps() == [1, 2]
    checkpoints.restart()
    assert checkpoints.resume(print) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000001.aside-1", "000000002.aside-1"]


FOREIGN = [".DS_Store", "@eaDir/part@SynoEAStream", "Thumbs.db", "part/._weights", "notes.txt"]


@pytest.mark.parametrize("name", FOREIGN)
def test_files_of_other_programs_are_ignored(tmp_path: Path, name: str) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    file = write_checkpoint(checkpoints, 1) / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"x")
    (tmp_path / ".DS_Store").touch()
    (tmp_path / "000000007").touch()
    assert checkpoints.newest() == 1


def test_files_of_other_programs_are_not_in_the_manifest(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.begin(1)
    for name in ("weights", ".DS_Store"):
        (checkpoints.partial(1) / name).write_bytes(b"x")
    checkpoints.finish(1)
    (checkpoints.path(1) / ".DS_Store").unlink()
    assert checkpoints.newest() == 1


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.EACCES])
@pytest.mark.parametrize("place", ["", "000000002/manifest.json", "000000002/part/weights"])
def test_a_failed_read_is_not_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, place: str) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2):
        write_checkpoint(checkpoints, step)
    fails, opened, scanned = str(tmp_path / place), os.open, os.scandir

    def check(path: object) -> None:
        if str(path) == fails:
            raise OSError(code, os.strerror(code), fails)

    # A disk cannot be made to fail in a test.
    monkeypatch.setattr(os, "open", lambda path, *args, **more: check(path) or opened(path, *args, **more))
    monkeypatch.setattr(os, "scandir", lambda path: check(path) or scanned(path))
    with pytest.raises(UserError, match=f"^{fails} cannot be read: {os.strerror(code)}$") as caught:
        checkpoints.resume(print)
    assert caught.value.hint is not None and "nothing was changed" in caught.value.hint
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000001", "000000002"]


def test_files_follow_the_umask(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    before = os.umask(0o027)
    try:
        checkpoints.begin(1)
        save_file({"a": torch.zeros(1)}, checkpoints.partial(1) / "weights.safetensors")
        checkpoints.finish(1)
    finally:
        os.umask(before)
    assert {oct(path.stat().st_mode & 0o777) for path in checkpoints.path(1).iterdir()} == {"0o640"}


def test_what_was_never_finished_does_not_count(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    write_checkpoint(checkpoints, 1)
    checkpoints.begin(2)
    (checkpoints.partial(2) / "weights").write_bytes(b"half")
    assert checkpoints.newest() == 1
    checkpoints.begin(2)
    assert list(checkpoints.partial(2).iterdir()) == []


DAMAGES = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "a bit": lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:],
    "zeros": lambda data: bytes(len(data)),
}


@pytest.mark.parametrize("file", ["part/weights", "manifest.json"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, damage: str, file: str) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2):
        path = write_checkpoint(checkpoints, step) / file
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    assert checkpoints.newest() == 1


@pytest.mark.parametrize("file", ["part/weights", "manifest.json"])
def test_a_checkpoint_that_lacks_a_file_is_passed_over(tmp_path: Path, file: str) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    write_checkpoint(checkpoints, 1)
    (write_checkpoint(checkpoints, 2) / file).unlink()
    assert checkpoints.newest() == 1


def test_no_checkpoint(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path, 1).newest() is None and Checkpoints(tmp_path / "missing", 1).newest() is None


def test_the_manifest_lists_size_and_hash_of_every_file(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "run/state", keep=1)
    checkpoints.begin(7)
    (checkpoints.partial(7) / "b").write_bytes(b"weights")
    (checkpoints.partial(7) / "a").mkdir()
    (checkpoints.partial(7) / "a/c").write_bytes(b"")
    checkpoints.finish(7)
    files = {"a/c": b"", "b": b"weights", "run": checkpoints.run.encode()}
    wanted = {name: {"size": len(data), "sha256": sha256(data).hexdigest()} for name, data in files.items()}
    assert (tmp_path / "run/state/000000007/manifest.json").read_text() == json.dumps(wanted, indent=1)


def test_every_unfinished_checkpoint_is_removed_when_the_next_begins(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.begin(2)
    checkpoints.begin(3)
    assert [path.name for path in tmp_path.iterdir()] == ["000000003.partial"]


def test_a_checkpoint_of_the_same_step_is_replaced(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    write_checkpoint(checkpoints, 1)
    checkpoints.begin(1)
    (checkpoints.partial(1) / "other").write_bytes(b"1")
    checkpoints.finish(1)
    assert sorted(path.name for path in checkpoints.path(1).iterdir()) == ["manifest.json", "other", "run"]


def test_a_folder_without_files_is_no_checkpoint(tmp_path: Path) -> None:
    assert find_faults(tmp_path) == ["manifest.json is missing"]
    (tmp_path / "manifest.json").write_text("{}")
    assert find_faults(tmp_path) == ["manifest.json lists no files"]
