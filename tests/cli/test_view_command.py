"""`jointnet view`: from files that are there to pages, as a user runs it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from jointnet_cli.cli.scene_inputs import SceneFiles, read_scene
from jointnet_cli.errors import UserError
from jointnet_cli.files.exr import write_exr
from jointnet_cli.files.images import write_grey_png, write_png
from jointnet_cli.projection import Projection
from jointnet_cli.scene.exports import SceneOptions
from jointnet_cli.scene.layer_file import write_layer
from jointnet_cli.scene.scene import DepthScale, Layer, scene_of

HEIGHT, WIDTH = 12, 20
RECORD = {"prompt": "ocean reef", "seed": 3, "projection": {"kind": "cylindrical", "span": 360.0, "wrap": True}}


@pytest.fixture
def invoke(invoke: Callable[..., Result]) -> Callable[..., Result]:
    return lambda *arguments: invoke("view", *map(str, arguments))


@pytest.fixture(autouse=True)
def _given() -> None:
    """A result of ours as three files, a photo with a depth map, and a photo without."""
    random = np.random.default_rng(3)
    image, disparity = random.random((HEIGHT, WIDTH, 3), np.float32), random.random((HEIGHT, WIDTH), np.float32)
    text = {"jointnet": json.dumps(RECORD)}
    write_png(Path("0_reef.image.png"), image, text)
    write_grey_png(Path("0_reef.depth.png"), disparity, text)
    exr("0_reef.rgbd.exr", image, {"disparity.Y": disparity}, **text)
    files = {"image": "0_reef.image.png", "depth": "0_reef.depth.png", "exr": "0_reef.rgbd.exr"}
    Path("0_reef.metadata.json").write_text(json.dumps({**RECORD, "files": files}))
    Image.fromarray((image * 255).astype(np.uint8)).save("photo.jpg")
    np.save("metres.npy", 2 + 5 * disparity)


def exr(name: str, image: np.ndarray, planes: dict[str, np.ndarray], **attributes: str) -> None:
    import OpenEXR

    colours = {channel: np.ascontiguousarray(image[..., at], np.float16) for at, channel in enumerate("RGB")}
    header = {"type": OpenEXR.scanlineimage, "compression": OpenEXR.ZIP_COMPRESSION, **attributes}
    with OpenEXR.File(header, colours | planes) as file:
        file.write(name)


def data(page: str | Path) -> dict:
    (text,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', Path(page).read_text(), re.DOTALL)
    return json.loads(text)


@pytest.mark.parametrize("name", ["0_reef.image.png", "0_reef.rgbd.exr", "0_reef.metadata.json"])
def test_any_file_of_a_result(invoke: Callable[..., Result], name: str) -> None:
    ran = invoke(name, "--out", "pages")
    assert (ran.exit_code, ran.stdout) == (0, "pages/0_reef.view.html\n"), ran.stderr
    shown = data("pages/0_reef.view.html")
    assert (shown["title"], shown["projection"]) == ("ocean reef", RECORD["projection"])
    assert (shown["width"], shown["height"], len(shown["layers"])) == (WIDTH, HEIGHT, 1)
    assert ["Seed", "3"] in shown["details"] and shown["scale"]["origin"] == "assumed"


def test_a_photo_with_its_depth(invoke: Callable[..., Result]) -> None:
    ran = invoke("photo.jpg", "--depth", "0_reef.depth.png", "--near", "2", "--far", "8", "--no-wrap", "--json")
    assert ran.exit_code == 0, ran.stderr
    line = json.loads(ran.stdout)
    assert line == {"source": "photo.jpg", "files": {"viewer": "outputs/photo.view.html"}}
    shown = data(line["files"]["viewer"])
    assert shown["scale"] == {"scale": pytest.approx(1 / 2 - 1 / 8), "shift": pytest.approx(1 / 8), "origin": "given"}
    assert shown["projection"]["wrap"] is False
    Path("photo.depth.png").write_bytes(Path("0_reef.depth.png").read_bytes())
    assert invoke("photo.jpg", "--overwrite").exit_code == 0


def test_metres_stay_metres(invoke: Callable[..., Result]) -> None:
    metres = np.linspace(0.5, 300, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
    metres[0] = 1e10
    exr("render.exr", np.full((HEIGHT, WIDTH, 3), 0.5), {"Z": metres})
    ran = invoke("render.exr", "--no-metadata")
    assert ran.exit_code == 0 and "render.exr: distance, taken for metres" in ran.stderr
    shown = data("outputs/render.view.html")
    assert (shown["layers"][0]["low"], shown["layers"][0]["high"]) == pytest.approx((metres[1].min(), 300))
    assert shown["scale"]["origin"] == "file" and shown["projection"]["kind"] == "perspective"
    assert invoke("photo.jpg", "--depth", "metres.npy", "--quiet").stderr == ""
    assert data("outputs/photo.view.html")["scale"]["origin"] == "file"
    assert invoke("render.exr", "--near", "1", "--overwrite").exit_code == 0
    assert data("outputs/render.view.html")["scale"]["origin"] == "given"


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<i4"])
def test_whole_numbers_are_distances_of_an_unknown_unit(invoke: Callable[..., Result], dtype: str) -> None:
    np.save("whole.npy", (1000 * np.load("metres.npy")).astype(dtype))
    ran = invoke("photo.jpg", "--depth", "whole.npy")
    assert ran.exit_code == 0 and "whole.npy: distance, turned into disparity" in ran.stderr
    assert data("outputs/photo.view.html")["scale"]["origin"] == "assumed"


def test_metres_below_one_are_metres_where_that_is_said(invoke: Callable[..., Result]) -> None:
    np.save("close.npy", np.linspace(0.2, 0.9, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH))
    assert invoke("photo.jpg", "--depth", "close.npy", "--depth-kind", "distance").exit_code == 0
    layer = data("outputs/photo.view.html")["layers"][0]
    assert (layer["low"], layer["high"]) == pytest.approx((0.2, 0.9))


def test_a_channel_is_chosen(invoke: Callable[..., Result]) -> None:
    near, far = (np.full((HEIGHT, WIDTH), metres, np.float32) for metres in (2, 9))
    near[0], far[0] = 3, 10
    exr("two.exr", np.full((HEIGHT, WIDTH, 3), 0.5), {"Z": near, "far.Z": far, "depth.Z": far, "N.Z": near})
    ran = invoke("two.exr")
    assert "two.exr: distance, taken for metres (channel Z); --channel takes depth.Z instead" in ran.stderr
    ran = invoke("two.exr", "--channel", "far.Z", "--overwrite")
    assert "taken for metres (channel far.Z)\n" in ran.stderr
    layer = data("outputs/two.view.html")["layers"][0]
    assert (layer["low"], layer["high"]) == pytest.approx((9, 10))
    ran = invoke("two.exr", "--channel", "Far.Z", "--overwrite")
    assert ran.exit_code == 2 and "did you mean far.Z?" in ran.stderr


def converted(*arguments: str) -> None:
    from typer.testing import CliRunner

    from jointnet_cli.cli import app

    ran = CliRunner().invoke(app, ["convert", *arguments, "--out", "c"])
    assert ran.exit_code == 0, ran.stderr


@pytest.mark.parametrize("to", ["exr", "png", "tiff", "npy"])
def test_a_record_says_what_the_depth_is(invoke: Callable[..., Result], to: str) -> None:
    given = np.load("metres.npy")
    flags = ["--from-projection", "perspective", "--from-span", "90", "--axis", "radial"]
    converted("metres.npy", "--to", to, *flags, *(["--bits", "16"] if to == "tiff" else []))
    assert invoke("photo.jpg", "--depth", f"c/metres.{to}").exit_code == 0
    layer = data("outputs/photo.view.html")["layers"][0]
    assert (layer["low"], layer["high"]) == pytest.approx((given.min(), given.max()), rel=1e-3)


def test_a_record_says_which_end_is_near_and_what_it_means(invoke: Callable[..., Result]) -> None:
    assert invoke("photo.jpg", "--depth", "0_reef.depth.png", "--near", "2", "--far", "8").exit_code == 0
    expected = data("outputs/photo.view.html")
    converted("0_reef.depth.png", "--to", "png", "--white", "far", "--near", "2", "--far", "8")
    assert invoke("photo.jpg", "--depth", "c/0_reef.depth.png", "--overwrite").exit_code == 0
    shown = data("outputs/photo.view.html")
    assert shown["scale"] == pytest.approx(expected["scale"])
    assert shown["layers"][0]["low"] == pytest.approx(expected["layers"][0]["low"], rel=1e-4)


def test_the_second_layer_beside_the_depth_is_shown(invoke: Callable[..., Result]) -> None:
    scene = scene_of(
        np.zeros((HEIGHT, WIDTH, 3), np.float32),
        np.full((HEIGHT, WIDTH), 0.5, np.float32),
        Projection(**RECORD["projection"]),
        DepthScale.from_range(),
    )
    shown = np.zeros((HEIGHT, WIDTH), bool)
    shown[4:8, 5:9] = True
    behind = Layer(np.ones((HEIGHT, WIDTH, 3), np.float32), np.full((HEIGHT, WIDTH), 20, np.float32), shown)
    layer = Path("0_reef.layer.exr")
    write_layer(layer, replace(scene, behind=behind), {})
    for name in ("0_reef.rgbd.exr", "0_reef.image.png", "0_reef.metadata.json"):
        for flags, count in (([], 2), (["--no-layers"], 1)):
            assert invoke(name, "--overwrite", *flags).exit_code == 0
            assert len(data("outputs/0_reef.view.html")["layers"]) == count, (name, flags)
    # Depth of another name has no part in it, and distances in metres have another scale.
    Path("0_reef.depth.png").rename("other.png")
    assert invoke("0_reef.image.png", "--depth", "other.png", "--overwrite").exit_code == 0
    assert len(data("outputs/0_reef.view.html")["layers"]) == 1
    ran = invoke(layer)
    assert ran.exit_code == 2 and "0_reef.layer.exr is a map, not the image" in ran.stderr
    write_layer(layer, scene_of(np.zeros((4, 4, 3)), np.ones((4, 4)), scene.projection, scene.scale), {})
    ran = invoke("0_reef.rgbd.exr", "--overwrite")
    assert ran.exit_code == 2 and "0_reef.layer.exr is 4 x 4 pixels, and the image 20 x 12" in ran.stderr
    assert "--no-layers" in ran.stderr


def test_the_depth_of_a_photo_is_found_by_its_record(invoke: Callable[..., Result]) -> None:
    Path("made").mkdir()
    Path("0_reef.depth.png").rename("made/x.depth.png")
    record = {**RECORD, "task": "depth", "request": {"source": "photo.jpg"}, "files": {"depth": "x.depth.png"}}
    Path("made/x.metadata.json").write_text(json.dumps(record))
    ran = invoke(Path("photo.jpg").resolve(), "--out", "made")
    assert ran.exit_code == 0 and ran.stdout.splitlines() == ["made/photo.view.html"], ran.stderr
    assert "made/x.depth.png" in ran.stderr
    Path("made/x.metadata.json").write_text(json.dumps({**record, "request": {"source": "other/photo.jpg"}}))
    assert invoke("photo.jpg", "--out", "made", "--overwrite").exit_code == 2
    # Without a record the name decides.
    Path("made/x.depth.png").rename("made/photo.depth.png")
    ran = invoke("photo.jpg", "--out", "made", "--overwrite")
    assert ran.exit_code == 0 and ran.stderr.startswith("made/photo.depth.png: ")
    Path("made/x.metadata.json").rename("made/photo.metadata.json")
    assert invoke("photo.jpg", "--out", "made", "--overwrite").exit_code == 2


@pytest.mark.parametrize("to", ["exr", "png"])
def test_a_sphere_is_refused(invoke: Callable[..., Result], to: str) -> None:
    converted("0_reef.rgbd.exr", "--to", to, "--projection", "equirectangular")
    names = ["c/0_reef.rgbd.exr"] if to == "exr" else ["c/0_reef.image.png", "--depth", "c/0_reef.depth.png"]
    for more in ([], ["--dry-run"], ["--span", "360"]):
        ran = invoke(*names, *more)
        assert (ran.exit_code, ran.stdout) == (2, "") and "shows a sphere (equirectangular)" in ran.stderr
        assert f"jointnet convert {names[0]} --to {to} --projection cylindrical" in ran.stderr


def test_a_wall_has_one_distance(invoke: Callable[..., Result]) -> None:
    exr("wall.exr", np.full((HEIGHT, WIDTH, 3), 0.5), {"Z": np.full((HEIGHT, WIDTH), 3, np.float32)})
    assert invoke("wall.exr").exit_code == 0
    exr("sky.exr", np.full((HEIGHT, WIDTH, 3), 0.5), {"Z": np.full((HEIGHT, WIDTH), np.inf, np.float32)})
    assert invoke("sky.exr").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.png"], "no file none.png"),
        (["photo.jpg"], "photo.jpg has no photo.depth.png beside it, and outputs holds no depth of it"),
        (
            ["photo.jpg", "--out", "a b"],
            "run: jointnet depth photo.jpg --out 'a b' && jointnet view photo.jpg --out 'a b'",
        ),
        (["0_reef.rgbd.exr", "--model", "diorama"], "--model has no effect"),
        (["0_reef.rgbd.exr", "--dtype", "float32"], "--dtype has no effect"),
        (["a.glb"], "a.glb is a mesh"),
        (["0_reef.depth.png"], "is a map, not the image"),
        (["bad.metadata.json"], "is not the record of a result"),
        (["photo.jpg", "--depth", "small.png"], "small.png is 4 x 4 pixels, and photo.jpg is 20 x 12 pixels"),
        (["photo.jpg", "0_reef.image.png", "--depth", "0_reef.depth.png"], "--depth belongs to one image"),
        (["0_reef.image.png", "--near", "9", "--far", "3"], "--near must be positive and less than --far, got 9 and 3"),
        (["0_reef.image.png", "--no-viewer"], "no output is requested"),
        (["0_reef.image.png", "--out", "photo.jpg"], "photo.jpg is not a folder"),
    ],
)
def test_faults(invoke: Callable[..., Result], arguments: list[str], words: str) -> None:
    Path("a.glb").write_bytes(b"glTF")
    Path("bad.metadata.json").write_text("[1]")
    Image.new("L", (4, 4)).save("small.png")
    ran = invoke(*arguments)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert words in ran.stderr and "Traceback" not in ran.stderr
    assert not Path("outputs").exists()


def test_a_failed_one_does_not_stop_the_rest(invoke: Callable[..., Result]) -> None:
    Path("a.glb").write_bytes(b"glTF")
    ran = invoke("a.glb", "0_reef.image.png", "photo.jpg")
    assert (ran.exit_code, ran.stdout) == (1, "outputs/0_reef.view.html\n")
    assert "error: a.glb: a.glb is a mesh" in ran.stderr and "photo.jpg has no" in ran.stderr
    assert invoke("a.glb", "photo.jpg").exit_code == 2
    again = invoke("0_reef.image.png")
    assert again.exit_code == 2 and "exists already" in again.stderr
    assert invoke("0_reef.rgbd.exr", "0_reef.rgbd.exr", "--out", "once").exit_code == 0
    twice = invoke("0_reef.image.png", "0_reef.rgbd.exr", "--overwrite")
    assert twice.exit_code == 1 and "its files would have the names of those of 0_reef.image.png" in twice.stderr


def test_a_plan_writes_nothing(invoke: Callable[..., Result]) -> None:
    ran = invoke("0_reef.image.png", "--dry-run", "--mesh", "points")
    assert (ran.exit_code, ran.stdout) == (0, "outputs/0_reef.points.ply\noutputs/0_reef.view.html\n")
    assert not Path("outputs").exists()


def test_other_products_of_the_same_scene(invoke: Callable[..., Result]) -> None:
    ran = invoke("0_reef.image.png", "--mesh", "points", "--no-viewer")
    assert (ran.exit_code, ran.stdout) == (0, "outputs/0_reef.points.ply\n"), ran.stderr
    assert Path("outputs/0_reef.points.ply").stat().st_size > HEIGHT * WIDTH


def test_the_page_is_opened(invoke: Callable[..., Result]) -> None:
    import webbrowser

    script = "import pathlib, sys; pathlib.Path('opened').write_text(sys.argv[1])"
    shown = webbrowser.GenericBrowser([sys.executable, "-c", script, "%s"])
    webbrowser.register("shown", None, shown, preferred=True)
    assert invoke("0_reef.image.png", "--open").exit_code == 0
    assert Path("opened").read_text() == Path("outputs/0_reef.view.html").resolve().as_uri()


def test_edges_of_distances_in_metres_are_sharpened_as_those_of_disparity(capsys: pytest.CaptureFixture[str]) -> None:
    scale = DepthScale.from_range(1, 30)
    row = np.interp(np.arange(32), [12, 18], [0.9, 0.1])
    disparity = np.tile(row, (16, 1)).astype(np.float32)
    metres = scale.distance(disparity)
    image = np.zeros((16, 32, 3), np.float32)
    write_png(Path("step.png"), image)
    np.save("step.npy", metres)
    files, view = SceneFiles("step", Path("step.png"), Path("step.npy")), Projection("perspective", 60.0)
    for sharpen in (True, False):
        made = read_scene(files, view, SceneOptions(sharpen=sharpen)).front.distance
        wanted = scene_of(image, disparity, view, scale, sharpen=sharpen).front.distance
        np.testing.assert_allclose(made, wanted, rtol=1e-5)
        assert len(np.unique(made.round(3))) == (3 if sharpen else 7)
    assert "distance, taken for metres" in capsys.readouterr().err


def test_a_scale_is_that_of_the_numbers_in_the_file(tmp_path: Path) -> None:
    write_png(tmp_path / "photo.png", np.full((HEIGHT, WIDTH, 3), 0.5, np.float32))
    inverse = np.linspace(0.1, 2, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
    np.save(tmp_path / "inverse.npy", inverse)
    files = SceneFiles("photo", tmp_path / "photo.png", tmp_path / "inverse.npy")
    flags = SceneOptions(viewer=True, depth_scale=2, depth_shift=0.1)
    place = read_scene(files, Projection("perspective", 60), flags, "disparity", None, quiet=True)
    np.testing.assert_allclose(place.front.distance, 1 / (2 * inverse + 0.1), rtol=1e-5)
    np.save(tmp_path / "inverse.npy", inverse - 1)
    with pytest.raises(UserError, match="give no distances"):
        read_scene(files, Projection("perspective", 60), flags, "disparity", None, quiet=True)


def test_without_metadata_a_page_has_no_prompt(invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photo, grey = np.zeros((HEIGHT, WIDTH, 3), np.float32), np.full((HEIGHT, WIDTH), 0.5, np.float32)
    write_exr(
        Path("a.rgbd.exr"),
        photo,
        {"depth": grey},
        {"jointnet": json.dumps(RECORD)},
        Projection("cylindrical", 360.0, True),
    )
    for flags, there in (([], True), (["--no-metadata", "--overwrite"], False)):
        assert invoke("a.rgbd.exr", *flags).exit_code == 0
        assert ("ocean reef" in Path("outputs/a.view.html").read_text()) is there
