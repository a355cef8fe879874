from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from jointnet_cli.errors import UserError
from jointnet_cli.files.exr import read_exr
from jointnet_cli.files.images import read_disparity_png, read_image, read_text
from jointnet_cli.files.maps import read_map
from jointnet_cli.projection import Projection
from jointnet_cli.record import describe, record
from jointnet_cli.results import Result
from jointnet_cli.scene.exports import MeshFormat, SceneOptions

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
        "depth": "My Cat.depth.png",
        "preview": "My Cat.preview.png",
        "exr": "My Cat.rgbd.exr",
        "metadata": "My Cat.metadata.json",
    },
    "inpaint": {
        "image": "00003_5_a-palm.image.png",
        "depth": "00003_5_a-palm.depth.png",
        "exr": "00003_5_a-palm.rgbd.exr",
        "metadata": "00003_5_a-palm.metadata.json",
    },
    "refine": {
        "image": "00003_5_refined-0-image.image.png",
        "depth": "00003_5_refined-0-image.depth.png",
        "exr": "00003_5_refined-0-image.rgbd.exr",
        "metadata": "00003_5_refined-0-image.metadata.json",
    },
    "panorama": {
        "image": "00003_5_ocean-reef.image.png",
        "depth": "00003_5_ocean-reef.depth.png",
        "exr": "00003_5_ocean-reef.rgbd.exr",
        "mesh": "00003_5_ocean-reef.mesh.glb",
        "viewer": "00003_5_ocean-reef.view.html",
        "metadata": "00003_5_ocean-reef.metadata.json",
    },
}


PLACE = SceneOptions(mesh=[MeshFormat.GLB], viewer=True)


def written(result: Result, out: Path, index: int = 0, **options: bool) -> dict[str, Path]:
    """The files of a result; those of a panorama end in something to look around in."""
    return result.save(out, index=index, scene=PLACE if result.projection.kind == "cylindrical" else None, **options)


@pytest.mark.parametrize("kind", FILES)
def test_each_task_writes_its_files(make_result: MakeResult, tmp_path: Path, kind: str) -> None:
    result = make_result(kind)
    out = tmp_path / "new" / "folder"
    files = written(result, out, 3)
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
        assert len(mesh.faces) > 0


@pytest.mark.parametrize("kind", FILES)
def test_every_file_says_how_it_was_made(make_result: MakeResult, tmp_path: Path, kind: str) -> None:
    result = make_result(kind)
    files = written(result, tmp_path, 0)
    expected = record(result)
    for path in files.values():
        if path.suffix == ".png":
            assert json.loads(read_text(path)["jointnet"]) == expected
    assert json.loads(read_exr(files["exr"]).attributes["jointnet"]) == expected
    if "mesh" in files:
        assert trimesh.load(files["mesh"]).metadata["jointnet"] == expected
    assert json.loads(files["metadata"].read_text()) == describe(result, files)


def test_normals_are_written_too(make_result: MakeResult, tmp_path: Path) -> None:
    result = make_result("generate", maps=("depth", "normal"))
    files = written(result, tmp_path, 0)
    assert list(files) == ["image", "depth", "normal", "exr", "metadata"]
    np.testing.assert_allclose(read_image(files["normal"]) * 2 - 1, result.maps["normal"], atol=1.01 / 255)
    assert np.array_equal(read_exr(files["exr"]).channels["normal.Y"], result.maps["normal"][..., 1])


def test_a_refined_panorama_keeps_its_ring_and_its_mesh(make_result: MakeResult, tmp_path: Path) -> None:
    files = written(make_result("refine", projection=Projection("cylindrical", 360.0, True)), tmp_path, 0)
    assert list(files) == ["image", "depth", "exr", "mesh", "viewer", "metadata"]
    assert read_exr(files["exr"]).attributes["wrapmodes"] == "periodic,clamp"


def test_uncertainty_is_written_at_its_scale(make_result: MakeResult, tmp_path: Path) -> None:
    result = make_result("depth", maps=("depth", "normal"), ensemble=3)
    spread = np.linspace(0, 0.5, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
    result.uncertainty = {"depth": spread, "normal": np.float32(np.pi) * spread}
    files = written(result, tmp_path, 0)
    assert files["depth_uncertainty"].name == "My Cat.depth-uncertainty.png"
    for name in ("depth", "normal"):
        stored = np.asarray(Image.open(files[f"{name}_uncertainty"])) / 65535
        np.testing.assert_allclose(stored, spread, atol=0.51 / 65535)
    channels = read_exr(files["exr"]).channels
    assert np.array_equal(channels["uncertainty.disparity"], spread)
    assert np.array_equal(channels["uncertainty.normal"], result.uncertainty["normal"])


def test_what_was_read_is_written_byte_for_byte(make_result: MakeResult, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    colours = random.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    levels = random.integers(0, 65536, (HEIGHT, WIDTH), dtype=np.uint16)
    normals = random.standard_normal((HEIGHT, WIDTH, 3))
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    given = {"image": colours, "depth": levels, "normal": np.rint((normals + 1) / 2 * 255).astype(np.uint8)}
    for name, pixels in given.items():
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    result = make_result("inpaint", maps=("depth", "normal"))
    result.image = read_image(tmp_path / "image.png")
    result.maps = {name: read_map(tmp_path / f"{name}.png", name).values for name in ("depth", "normal")}
    files = written(result, tmp_path / "out", 0)
    for name, pixels in given.items():
        assert np.array_equal(np.asarray(Image.open(files[name])), pixels), name


def test_without_metadata_nothing_is_told(make_result: MakeResult, tmp_path: Path) -> None:
    files = written(make_result("panorama"), tmp_path, 0, metadata=False)
    assert list(files) == ["image", "depth", "exr", "mesh", "viewer"]
    assert read_text(files["image"]) == read_text(files["depth"]) == {}
    assert not {"jointnet", "comments", "software"} & set(read_exr(files["exr"]).attributes)
    assert all(b"ocean reef" not in path.read_bytes() for path in files.values())


def test_the_same_result_gives_the_same_bytes(make_result: MakeResult, tmp_path: Path) -> None:
    first = written(make_result("panorama"), tmp_path / "a", 0)
    later = make_result("panorama")
    later.timings["denoise"] = 99.0
    second = written(later, tmp_path / "b", 0)
    for key in ("image", "depth", "exr", "mesh", "viewer"):
        assert first[key].read_bytes() == second[key].read_bytes(), key


def test_nothing_is_overwritten_unasked(make_result: MakeResult, tmp_path: Path) -> None:
    result = make_result("generate")
    files = written(result, tmp_path, 0)
    before = {path: path.read_bytes() for path in files.values()}
    result.maps["depth"] = 1 - result.maps["depth"]
    with pytest.raises(UserError, match="exists already"):
        written(result, tmp_path, 0)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    written(result, tmp_path, 0, overwrite=True)
    np.testing.assert_allclose(read_disparity_png(files["depth"]), result.maps["depth"], atol=0.51 / 65535)
    written(result, tmp_path, 1)


def test_a_failed_write_leaves_no_half_file_and_no_sidecar(make_result: MakeResult, tmp_path: Path) -> None:
    result = make_result("generate")
    written(result, tmp_path, 0)
    result.maps["depth"] = result.maps["depth"][:-1]  # the EXR cannot hold channels of two sizes
    with pytest.raises(ValueError, match="depth"):
        written(result, tmp_path, 0, overwrite=True)
    kinds = sorted(path.name.split(".", 1)[1] for path in tmp_path.iterdir())
    assert kinds == ["depth.png", "image.png", "rgbd.exr"]
    assert read_exr(next(tmp_path.glob("*.exr"))).channels["disparity.Y"].shape == (HEIGHT, WIDTH)


def test_the_second_layer_of_an_overwritten_result_is_removed(make_result: MakeResult, tmp_path: Path) -> None:
    layer = written(make_result("generate"), tmp_path, 0)["image"].with_name("00000_5_ocean-reef.layer.exr")
    layer.touch()
    with pytest.raises(UserError, match="exists already"):
        written(make_result("generate"), tmp_path, 0)
    written(make_result("generate"), tmp_path, 0, overwrite=True)
    assert not layer.exists()


def test_overwriting_without_metadata_removes_a_sidecar_that_would_lie(make_result: MakeResult, tmp_path: Path) -> None:
    sidecar = written(make_result("generate"), tmp_path, 0)["metadata"]
    written(make_result("generate"), tmp_path, 0, overwrite=True, metadata=False)
    assert not sidecar.exists()
