"""What image commands make of a picture with depth: meshes, pages, stereo and clips, in metres."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh

from jointnet_cli.files.exr import read_exr
from jointnet_cli.files.metadata import read_record
from jointnet_cli.scene.exports import MeshFormat, StereoLayout, with_companions

pytestmark = pytest.mark.slow

EVERYTHING = [
    *(word for name in MeshFormat for word in ("--mesh", name.value)),
    *(word for name in StereoLayout for word in ("--stereo", name.value)),
    *("--viewer", "--orbit", "clip.mp4"),
]
ENDS = [
    *("mesh.glb", "mesh.ply", "mesh.obj", "points.ply"),
    *("sbs.png", "180_LR.jpg", "360_TB.jpg", "view.html", "clip.mp4"),
]


@pytest.fixture(autouse=True)
def _small_model(untrained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOINTNET_MODEL", str(untrained))
    monkeypatch.setenv("JOINTNET_STEPS", "1")


def viewer_data(page: Path) -> dict:
    (text,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', page.read_text(), re.DOTALL)
    return json.loads(text)


def made(ran) -> dict[str, Path]:
    assert ran.exit_code == 0, ran.stderr
    return {name: Path(file) for name, file in json.loads(ran.stdout)["files"].items()}


@pytest.mark.usefixtures("small_clips")
def test_everything_that_a_scene_can_become(invoke):
    arguments = ["generate", "reef", *EVERYTHING, "--near", "2", "--far", "20", "--json"]
    plan = json.loads(invoke(*arguments, "--dry-run").stdout)["files"]
    files = made(invoke(*arguments))
    assert {name: str(path) for name, path in files.items()} == plan
    written = [path.name.split(".", 1)[1] for path in files.values()]
    assert written == ["image.png", "depth.png", "rgbd.exr", "layer.exr", *ENDS, "metadata.json"]
    assert all(path.stat().st_size for path in files.values())
    assert b'"prompt": "reef"' in files["orbit"].read_bytes()
    place = trimesh.load(files["mesh"], process=False)
    assert (place.metadata["near"], place.metadata["far"], place.metadata["scale"]) == (pytest.approx(2), 20, "given")
    depths = -place.geometry["front"].vertices[:, 2]
    assert 2 - 1e-4 <= depths.min() < depths.max() <= 20 + 1e-4


def test_the_files_beside_an_obj_are_guarded_and_are_no_photos(invoke):
    command = ["panorama", "reef", "--width", "96", "--no-viewer", "--mesh", "obj", "--json"]
    files = made(invoke(*command))
    beside = set(Path("outputs").iterdir()) - set(files.values())
    assert files["mesh_obj"].with_suffix(".mtl") in beside and len(beside) >= 3
    assert beside <= set(with_companions({"mesh_obj": files["mesh_obj"]}))
    (photo,) = invoke("depth", "outputs", "--dry-run", "--json", "--out", "b").stdout.splitlines()
    assert json.loads(photo)["source"] == str(files["image"])
    for path in files.values():
        path.unlink()
    ran = invoke(*command)
    assert ran.exit_code == 2 and ".mesh.mtl exists already" in ran.stderr
    made(invoke(*command, "--overwrite"))


def test_a_panorama_ends_in_a_page_to_look_around_in(invoke):
    files = made(invoke("panorama", "reef", "--width", "96", "--json"))
    assert {"mesh", "viewer"} <= set(files)
    files = made(invoke("panorama", "reef", "--width", "96", "--json", "--no-viewer", "--mesh", "points", "--out", "b"))
    assert "points" in files and not {"mesh", "viewer"} & set(files)


def test_images_are_there_before_the_second_layer_is_painted_and_the_record_after_it(invoke, monkeypatch):
    from jointnet_cli.engine import Engine

    there, add_layer = [], Engine.add_layer

    def noted(*arguments, **options):
        there.extend(sorted(path.name.split(".", 1)[1] for path in Path("outputs").iterdir()))
        return add_layer(*arguments, **options)

    monkeypatch.setattr(Engine, "add_layer", noted)
    ran = invoke("generate", "reef", "--mesh", "glb", "--viewer", "--stereo", "sbs", "--json")
    files = made(ran)
    (line,) = [line for line in ran.stderr.splitlines() if line.startswith("1/1 reef: ")]
    names = [
        "load the model",
        "encode text",
        "denoise",
        "decode",
        "second layer",
        "mesh",
        "viewer",
        "stereo images",
        "files",
    ]
    phases = r" [\d.]+, ".join(names)
    assert re.search(rf"[\d.]+ s \({phases} [\d.]+\)", line), line
    assert there == ["depth.png", "image.png", "rgbd.exr"]
    record = json.loads(files["metadata"].read_text())
    assert record["timings"].keys() >= {"text", "denoise", "decode", "layer", "mesh", "viewer", "stereo", "files"}
    # One step of one tile, with guidance twice; the layer has no prompt to be guided by.
    assert (record["settings"]["evaluations"], record["settings"]["layer_evaluations"]) == (2, 1)
    sampled = sum(record["timings"].get(phase, 0) for phase in ("text", "encode", "denoise", "decode"))
    assert record["seconds"] == pytest.approx(sampled)


def test_known_distances_fit_the_scale(invoke):
    disparity = read_exr(made(invoke("generate", "reef", "--json"))["exr"]).channels["disparity.Y"]
    near, far = (np.unravel_index(at, disparity.shape) for at in (disparity.argmax(), disparity.argmin()))
    lines = [f"{column},{row},{metres}" for (row, column), metres in ((near, 3), (far, 12))]
    Path("known.csv").write_text("\n".join(["x,y,distance", *lines]) + "\n")
    files = made(invoke("generate", "reef", "--json", "--known-distances", "known.csv", "--mesh", "glb", "--out", "b"))
    scale = trimesh.load(files["mesh"], process=False).metadata
    distance = 1 / (disparity * (1 / scale["near"] - 1 / scale["far"]) + 1 / scale["far"])
    assert (distance[near], distance[far]) == (pytest.approx(3, rel=1e-4), pytest.approx(12, rel=1e-4))
    assert scale["scale"] == "fitted"


def test_without_layers_nothing_is_painted_behind(invoke):
    arguments = ["panorama", "reef", "--width", "96", "--far", "1000", "--json"]
    deep, flat = (
        trimesh.load(made(invoke(*arguments, *more))["mesh"], process=False).geometry
        for more in (["--out", "a"], ["--no-layers", "--out", "b"])
    )
    assert "behind" in deep and "behind" not in flat
    assert [len(list(Path(folder).glob("*.layer.exr"))) for folder in ("a", "b")] == [1, 0]


def test_view_shows_the_second_layer_of_a_result_without_a_model(invoke, monkeypatch):
    command = ["panorama", "reef", "--width", "96", "--far", "1000", "--json"]
    files = made(invoke(*command))
    layer = files["layer"]
    assert json.loads(files["metadata"].read_text())["files"]["layer"] == layer.name
    of_layer, of_result = read_record(layer), read_record(files["exr"])
    assert of_layer["settings"].pop("layer_evaluations") > 0
    assert of_layer == of_result
    layer.unlink()
    assert made(invoke(*command, "--skip-existing"))["layer"] == layer and layer.is_file()
    ran = invoke("depth", str(layer), str(files["exr"]), "--dry-run", "--json")
    assert json.loads(ran.stdout)["source"] == str(files["exr"])

    monkeypatch.setitem(sys.modules, "torch", None)
    again = made(invoke("view", str(files["exr"]), "--far", "1000", "--mesh", "glb", "--json", "--out", "view"))
    first, second = (trimesh.load(each["mesh"], process=False).geometry for each in (files, again))
    assert first.keys() == second.keys() and "behind" in first
    for name in first:
        assert np.array_equal(first[name].faces, second[name].faces)
        np.testing.assert_allclose(first[name].vertices, second[name].vertices, rtol=1e-5, atol=1e-5)
        was, now = (np.asarray(each[name].visual.material.baseColorTexture, int) for each in (first, second))
        assert np.abs(was - now).max() <= 1  # the EXR's colours are half floats
    assert viewer_data(files["viewer"])["layers"] == viewer_data(again["viewer"])["layers"]


@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        (["--near", "5", "--far", "2"], "--near must be positive and less than --far, got 5 and 2"),
        (["--near", "2", "--depth-scale", "1", "--depth-shift", "1"], "given twice"),
        (["--depth-scale", "1"], "pass both"),
        (["--known-distances", "nowhere.csv", "--viewer"], "nowhere.csv"),
        (["--orbit", "clips/a.mp4"], "must be a bare .mp4 file name"),
        (["--orbit", "clip.avi"], "must be a bare .mp4 file name"),
        (["--known-distances", "known.csv", "--count", "2", "--viewer"], "one image"),
    ],
)
def test_faults_are_named_before_anything_is_made(invoke, flags, fault):
    Path("known.csv").write_text("x,y,distance\n0,0,1\n1,1,2\n")
    ran = invoke("generate", "reef", *flags)
    assert ran.exit_code == 2
    assert fault in ran.stderr and "Traceback" not in ran.stderr
    assert not Path("outputs").exists()


def test_a_model_without_depth_makes_no_place(invoke, tiny_folder):
    ran = invoke("generate", "reef", "--viewer", "-m", str(tiny_folder("base")))
    assert ran.exit_code == 2
    assert "no depth" in ran.stderr


def test_view_paints_behind_the_foreground_if_asked(invoke):
    files = made(invoke("panorama", "reef", "--width", "96", "--far", "1000", "--no-viewer", "--json"))
    arguments = ["view", str(files["exr"]), "--far", "1000", "--mesh", "glb", "--json"]
    flat, deep = (
        trimesh.load(made(invoke(*arguments, *more))["mesh"], process=False).geometry
        for more in (["--no-layers", "--out", "a"], ["--layers", "--out", "b"])
    )
    assert "behind" in deep and "behind" not in flat


def test_view_takes_scale_and_shift(invoke):
    exr = made(invoke("generate", "reef", "--json"))["exr"]
    arguments = ["view", str(exr), "--scale", "0.4", "--shift", "0.1", "--mesh", "glb", "--json", "--out", "a"]
    facts = trimesh.load(made(invoke(*arguments))["mesh"], process=False).metadata
    assert (facts["near"], facts["far"]) == (pytest.approx(2), pytest.approx(10))
