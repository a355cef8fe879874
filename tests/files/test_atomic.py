from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.scenes import mesh_of
from helpers.shards import write_shard

from jointnet_cli.convert.content import Content, DepthMap, TargetOptions
from jointnet_cli.convert.write import plan_files, write_plan
from jointnet_cli.data.shards.format import Sample, pack, sample_count
from jointnet_cli.data.shards.writer import claim_shard
from jointnet_cli.errors import UserError
from jointnet_cli.files.atomic import atomic_file, claim, claim_path, open_new, write_text
from jointnet_cli.files.exr import write_channels, write_exr
from jointnet_cli.files.images import write_deep_png, write_grey_png, write_jpeg, write_normal_png, write_png
from jointnet_cli.projection import Projection
from jointnet_cli.scene.mesh_files import write_glb, write_obj, write_ply, write_points
from jointnet_cli.scene.orbit import write_orbit
from jointnet_cli.scene.scene import DepthScale, scene_of
from jointnet_cli.scene.stereo import write_stereo
from jointnet_cli.scene.viewer.page import write_viewer


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, OSError])
@pytest.mark.parametrize("before", [None, "old"])
def test_an_interrupted_write_leaves_what_was_there(
    tmp_path: Path, interruption: type[BaseException], before: str | None
) -> None:
    target = tmp_path / "result.txt"
    if before is not None:
        target.write_text(before)
    with pytest.raises(interruption), atomic_file(target) as temporary:
        temporary.write_text("half")
        raise interruption
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == ({"result.txt": before} if before else {})


def test_a_finished_write_replaces(tmp_path: Path) -> None:
    target = tmp_path / "result.rgbd.txt"
    target.write_text("old")
    with atomic_file(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == target.suffix
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_the_new_file_is_renamed_and_not_copied(tmp_path: Path) -> None:
    target = tmp_path / "result.txt"
    target.write_text("old")
    os.link(target, tmp_path / "link")
    with target.open() as reader:
        with atomic_file(target) as temporary:
            temporary.write_text("new")
            made = temporary.stat().st_ino
        assert reader.read() == "old"
    assert target.stat().st_ino == made
    assert (tmp_path / "link").read_text() == "old"


IMAGE = np.linspace(0, 1, 16 * 64 * 3, dtype=np.float32).reshape(16, 64, 3)
FLAT = Projection("perspective", 60.0)


@cache
def scene() -> Any:
    return scene_of(IMAGE, np.linspace(0, 1, 16 * 64, dtype=np.float32).reshape(16, 64), FLAT, DepthScale.from_range())


def convert(path: Path, **wish: Any) -> None:
    content = Content(FLAT, depth=DepthMap(IMAGE[..., 0], "disparity", "planar"))
    (plan,) = plan_files(path, content, TargetOptions(path.suffix[1:], **wish), path.parent, "")  # type: ignore[arg-type]
    write_plan(plan, content, TargetOptions(path.suffix[1:], **wish), metadata=True)  # type: ignore[arg-type]


WRITERS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "png": (lambda path: write_png(path, IMAGE), ["a.png"]),
    "grey png": (lambda path: write_grey_png(path, IMAGE[..., 0]), ["a.png"]),
    "deep png": (lambda path: write_deep_png(path, IMAGE), ["a.png"]),
    "normal png": (lambda path: write_normal_png(path, IMAGE), ["a.png"]),
    "jpeg": (lambda path: write_jpeg(path, IMAGE), ["a.jpg"]),
    "exr": (lambda path: write_exr(path, IMAGE, {}, {}, FLAT), ["a.exr"]),
    "channels": (lambda path: write_channels(path, {"Z": IMAGE[..., 0]}, {}), ["a.exr"]),
    "text": (lambda path: write_text(path, "new"), ["a.txt"]),
    "tiff": (convert, ["a.tiff"]),
    "npy": (convert, ["a.npy", "a.npy.json"]),
    "glb": (lambda path: write_glb(path, mesh_of(scene())), ["a.glb"]),
    "ply": (lambda path: write_ply(path, mesh_of(scene())), ["a.ply"]),
    "points": (lambda path: write_points(path, scene()), ["a.ply"]),
    "obj": (lambda path: write_obj(path, mesh_of(scene())), ["a.obj", "a.mtl", "a.front.png", "a.sky.png"]),
    "stereo png": (lambda path: write_stereo(path, scene(), "sbs"), ["a.png"]),
    "stereo jpeg": (lambda path: write_stereo(path, scene(), "vr180", width=64), ["a.jpg"]),
    "orbit": (lambda path: write_orbit(path, scene(), seconds=0.1, width=64), ["a.mp4"]),
    "viewer": (lambda path: write_viewer(path, scene(), title="a"), ["a.html"]),
}


@pytest.mark.parametrize(("write", "names"), WRITERS.values(), ids=WRITERS.keys())
def test_no_file_is_written_in_place(tmp_path: Path, write: Callable[[Path], object], names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_text("old")
        os.link(tmp_path / name, tmp_path / f"link {name}")
    write(tmp_path / names[0])
    for name in names:
        assert (tmp_path / f"link {name}").read_text() == "old"
        assert (tmp_path / name).stat().st_size > 3 or (tmp_path / name).read_text() == "new"
    assert {path.name for path in tmp_path.iterdir()} == {*names, *(f"link {name}" for name in names)}


def test_the_file_gets_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    plain = tmp_path / "plain.txt"
    plain.touch()
    write_text(tmp_path / "atomic.txt", "text")
    assert (tmp_path / "atomic.txt").stat().st_mode == plain.stat().st_mode


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    (running := subprocess.Popen(["sleep", "60"])).kill()
    living = atomic_file(tmp_path / "living.png")
    with living as temporary:
        temporary.touch()
        _, owner, _ = temporary.name.removeprefix(".living.").split("-")
        machine = temporary.name.split(".")[2].split("-")[0]
        dead = f"{machine}-{running.pid:x}-0123"
        assert int(owner, 16) == os.getpid()
        running.wait()
        folder = tmp_path / "other"
        (folder / f".model.{dead}/unet").mkdir(parents=True)
        kept = [
            f".a.{machine}-{os.getpid():x}-0123.png",
            f".a.dead-{running.pid:x}-0123.png",
            ".a.png",
            "a.0123-1-0123.png",
        ]
        for name in (f".a b.rgbd.{dead}.png", *kept):
            (folder / name).touch()
        write_text(folder / "new.txt", "new")
        assert sorted(path.name for path in folder.iterdir()) == sorted([*kept, "new.txt"])


def test_text_is_utf8_with_unix_line_ends(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "é\n")
    assert (tmp_path / "a.txt").read_bytes() == b"\xc3\xa9\n"


def test_temporary_names_follow_no_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    shard = tmp_path / "00000.tar"
    sample = Sample("000000000000", np.zeros((8, 8, 3), np.uint8), "a hut", None, None, {})
    for name in (".00000.tar.new", ".00000.json.new", ".00000.jsonl", ".00000.parquet.new"):
        (tmp_path / name).symlink_to(victim)
    assert write_shard(shard, [sample]) == 1
    assert not shard.is_symlink() and victim.read_text() == "precious"
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).symlink_to(victim)
        with open_new(tmp_path / name) as file:
            file.write(b"new")
    assert (tmp_path / "b.txt").read_text() == "new" and victim.read_text() == "precious"
    claim_path(shard).symlink_to(victim)
    with pytest.raises(UserError, match=r"\.00000\.tar\.writing is a symbolic link"), claim(shard):
        pass


def test_a_link_that_appears_while_a_shard_is_claimed_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    sample = Sample("000000000000", np.zeros((8, 8, 3), np.uint8), "a hut", None, None, {})
    with claim_shard(tmp_path / "00000.tar") as shard:
        assert shard is not None
        for name in (".00000.tar.new", ".00000.json.new"):
            (tmp_path / name).symlink_to(victim)
        assert shard.write([pack(sample)]) == 1
        shard.commit({"count": 1})
    assert victim.read_text() == "precious" and sample_count(tmp_path / "00000.tar") == 1
