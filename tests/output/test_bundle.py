from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trimesh

from jointnet_cli.errors import UserError
from jointnet_cli.output.bundle import write_result
from jointnet_cli.output.exr import read_exr
from jointnet_cli.output.image import read_disparity_png, read_image, read_text
from jointnet_cli.output.metadata import describe, record
from jointnet_cli.tasks import Result

MakeResult = Callable[..., Result]
HEIGHT, WIDTH = 16, 64


FILES = {
    "generate": {
        "image": "00003_5_ocean-reef.image.png",
        "depth": "00003_5_ocean-reef.depth.png",
        "exr": "00003_5_ocean-reef.rgbd.exr",
        "metadata": "00003_5_ocean-reef.metadata.json",
    },
    "depth": {
        "depth": "00003_5_my-cat.depth.png",
        "preview": "00003_5_my-cat.preview.png",
        "exr": "00003_5_my-cat.rgbd.exr",
        "metadata": "00003_5_my-cat.metadata.json",
    },
    "panorama": {
        "image": "00003_5_ocean-reef.image.png",
        "depth": "00003_5_ocean-reef.depth.png",
        "exr": "00003_5_ocean-reef.rgbd.exr",
        "mesh": "00003_5_ocean-reef.mesh.glb",
        "metadata": "00003_5_ocean-reef.metadata.json",
    },
}


@pytest.mark.parametrize("kind", FILES)
def test_each_task_writes_its_files(make_result: MakeResult, tmp_path: Path, kind: str) -> None:
    result = make_result(kind)
    out = tmp_path / "new" / "folder"
    files = write_result(result, out, 3)
    assert files == {key: out / name for key, name in FILES[kind].items()}
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES[kind].values())

    np.testing.assert_allclose(read_disparity_png(files["depth"]), result.maps["depth"], atol=0.51 / 65535)
    exr = read_exr(files["exr"])
    assert np.array_equal(exr.channels["disparity.Y"], result.maps["depth"])
    assert ("wrapmodes" in exr.attributes) == (kind == "panorama")
    if "image" in files:
        np.testing.assert_allclose(read_image(files["image"]), result.image, atol=0.51 / 255)
    if "preview" in files:
        assert read_image(files["preview"]).shape == (HEIGHT, WIDTH, 3)
    if "mesh" in files:
        mesh = trimesh.load(files["mesh"], process=False, force="mesh")
        assert len(mesh.vertices) == HEIGHT * (WIDTH + 1)


@pytest.mark.parametrize("kind", FILES)
def test_every_file_says_how_it_was_made(make_result: MakeResult, tmp_path: Path, kind: str) -> None:
    result = make_result(kind)
    files = write_result(result, tmp_path, 0)
    expected = record(result)
    for path in files.values():
        if path.suffix == ".png":
            assert json.loads(read_text(path)["jointnet"]) == expected
    assert json.loads(read_exr(files["exr"]).attributes["jointnet"]) == expected
    if "mesh" in files:
        assert trimesh.load(files["mesh"], force="mesh").metadata["jointnet"] == expected
    assert json.loads(files["metadata"].read_text()) == describe(result, files)


def test_normals_are_written_too(make_result: MakeResult, tmp_path: Path) -> None:
    result = make_result("generate", maps=("depth", "normal"))
    files = write_result(result, tmp_path, 0)
    assert list(files) == ["image", "depth", "normal", "exr", "metadata"]
    np.testing.assert_allclose(read_image(files["normal"]) * 2 - 1, result.maps["normal"], atol=1.01 / 255)
    assert np.array_equal(read_exr(files["exr"]).channels["normal.Y"], result.maps["normal"][..., 1])


def test_without_metadata_nothing_is_told(make_result: MakeResult, tmp_path: Path) -> None:
    files = write_result(make_result("panorama"), tmp_path, 0, metadata=False)
    assert list(files) == ["image", "depth", "exr", "mesh"]
    assert read_text(files["image"]) == read_text(files["depth"]) == {}
    assert not {"jointnet", "comments", "software"} & set(read_exr(files["exr"]).attributes)
    assert all(b"ocean" not in path.read_bytes() for path in files.values())


def test_the_same_result_gives_the_same_bytes(make_result: MakeResult, tmp_path: Path) -> None:
    first = write_result(make_result("panorama"), tmp_path / "a", 0)
    later = make_result("panorama")
    later.timings["denoise"] = 99.0
    second = write_result(later, tmp_path / "b", 0)
    for key in ("image", "depth", "exr", "mesh"):
        assert first[key].read_bytes() == second[key].read_bytes(), key


def test_nothing_is_overwritten_unasked(make_result: MakeResult, tmp_path: Path) -> None:
    result = make_result("generate")
    files = write_result(result, tmp_path, 0)
    before = {path: path.read_bytes() for path in files.values()}
    result.maps["depth"] = 1 - result.maps["depth"]
    with pytest.raises(UserError, match="exists already"):
        write_result(result, tmp_path, 0)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    write_result(result, tmp_path, 0, overwrite=True)
    np.testing.assert_allclose(read_disparity_png(files["depth"]), result.maps["depth"], atol=0.51 / 65535)
    write_result(result, tmp_path, 1)


def test_a_failed_write_leaves_no_half_file_and_no_sidecar(make_result: MakeResult, tmp_path: Path) -> None:
    result = make_result("generate")
    write_result(result, tmp_path, 0)
    result.maps["depth"] = result.maps["depth"][:-1]  # the EXR cannot hold channels of two sizes
    with pytest.raises(ValueError, match="depth"):
        write_result(result, tmp_path, 0, overwrite=True)
    kinds = sorted(path.name.split(".", 1)[1] for path in tmp_path.iterdir())
    assert kinds == ["depth.png", "image.png", "rgbd.exr"]
    assert read_exr(next(tmp_path.glob("*.exr"))).channels["disparity.Y"].shape == (HEIGHT, WIDTH)


def test_overwriting_without_metadata_removes_a_sidecar_that_would_lie(make_result: MakeResult, tmp_path: Path) -> None:
    sidecar = write_result(make_result("generate"), tmp_path, 0)["metadata"]
    write_result(make_result("generate"), tmp_path, 0, overwrite=True, metadata=False)
    assert not sidecar.exists()
