"""A disk that is full: one exception that names the file, whatever library writes it, and nothing half-written."""

from __future__ import annotations

import errno
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from jointnet_cli.files.atomic import atomic_file
from jointnet_cli.files.exr import write_exr
from jointnet_cli.files.images import write_grey_png, write_jpeg, write_png
from jointnet_cli.projection import Projection
from jointnet_cli.scene.mesh import scene_mesh
from jointnet_cli.scene.mesh_files import write_glb, write_obj, write_ply, write_points
from jointnet_cli.scene.orbit import write_orbit
from jointnet_cli.scene.scene import DepthScale, scene_of
from jointnet_cli.scene.viewer.page import write_viewer

RANDOM = np.random.default_rng(0)
IMAGE, DEPTH = RANDOM.random((120, 160, 3), np.float32), RANDOM.random((120, 160), np.float32)
VIEW = Projection("perspective", 60.0)
SCENE = scene_of(IMAGE, DEPTH, VIEW, DepthScale.from_range())

WRITERS: dict[str, Callable[[Path], object]] = {
    "a.png": lambda path: write_png(path, IMAGE),
    "a.depth.png": lambda path: write_grey_png(path, DEPTH),
    "a.jpg": lambda path: write_jpeg(path, IMAGE),
    "a.exr": lambda path: write_exr(path, IMAGE, {"depth": DEPTH}, {}, VIEW, {}),
    "points.ply": lambda path: write_points(path, SCENE),
    "a.ply": lambda path: write_ply(path, scene_mesh(SCENE, max_triangles=20000)),
    "a.glb": lambda path: write_glb(path, scene_mesh(SCENE, max_triangles=20000)),
    "a.obj": lambda path: write_obj(path, scene_mesh(SCENE, max_triangles=20000)),
    "a.mp4": lambda path: write_orbit(path, SCENE, seconds=0.2),
    "a.html": lambda path: write_viewer(path, SCENE, title="sea"),
}


@contextmanager
def small_disk(size: int) -> Iterator[None]:
    """Let no file grow beyond a size: writers fail as on a full disk, with another number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_one_error_that_names_the_file(tmp_path: Path, name: str) -> None:
    with small_disk(8192), pytest.raises(OSError, match="File too large") as caught:
        WRITERS[name](tmp_path / name)
    assert caught.value.errno == errno.EFBIG
    assert Path(caught.value.filename).parent == tmp_path and not Path(caught.value.filename).name.startswith(".")
    assert list(tmp_path.iterdir()) == []


def test_what_a_library_says_becomes_the_system_s_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space") as caught, atomic_file(tmp_path / "a.exr") as temporary:
        temporary.touch()
        raise RuntimeError("write failed: No space left on device")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "a.exr"))
    with pytest.raises(RuntimeError, match="other"), atomic_file(tmp_path / "a.exr"):
        raise RuntimeError("other")


def test_a_clip_whose_last_bytes_do_not_fit_is_not_kept(tmp_path: Path) -> None:
    whole = tmp_path / "whole.mp4"
    write_orbit(whole, SCENE, seconds=0.2)
    with small_disk(whole.stat().st_size - 1), pytest.raises(OSError, match="File too large"):
        write_orbit(tmp_path / "cut.mp4", SCENE, seconds=0.2)
    assert list(tmp_path.iterdir()) == [whole]
