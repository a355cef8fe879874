"""The clock of a run, the weights in a checkpoint, and which checkpoint is whole."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from jointnet_cli.training.checkpoints import (
    Checkpoints,
    Clock,
    distinct_weights,
    is_whole,
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


def test_damaged_ones_do_not_drive_out_the_good(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1)
    write_checkpoint(checkpoints, 5)
    (checkpoints.path(5) / "part/weights").write_bytes(b"")
    assert checkpoints.newest() is None
    write_checkpoint(checkpoints, 4)
    assert checkpoints.steps() == [4] and checkpoints.newest() == 4


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
    files = {"a/c": b"", "b": b"weights"}
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
    assert sorted(path.name for path in checkpoints.path(1).iterdir()) == ["manifest.json", "other"]


def test_a_folder_without_files_is_no_checkpoint(tmp_path: Path) -> None:
    assert is_whole(tmp_path) is False
    (tmp_path / "manifest.json").write_text("{}")
    assert is_whole(tmp_path) is False
