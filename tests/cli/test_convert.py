"""`jointnet convert` as a user runs it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from jointnet_cli.files.exr import read_exr, write_channels, write_exr
from jointnet_cli.files.images import read_text, write_grey_png, write_normal_png, write_png
from jointnet_cli.files.maps import read_map
from jointnet_cli.projection import Projection

RING = Projection("cylindrical", 360.0, wrap=True)
RECORD = {
    "prompt": "ocean reef",
    "seed": 3,
    "projection": {"kind": "cylindrical", "span": 360.0, "wrap": True},
    "maps": {"depth": {"quantity": "relative disparity (inverse depth)", "scale": "unknown", "shift": "unknown"}},
}
RANGE = ["--near", "1", "--far", "30"]


@pytest.fixture
def convert(invoke: Callable[..., Result]) -> Callable[..., Result]:
    return lambda *arguments, stdin=None: invoke("convert", *arguments, stdin=stdin)


@pytest.fixture
def disparity() -> np.ndarray:
    return np.linspace(0, 1, 64 * 16, dtype=np.float32).reshape(16, 64)


@pytest.fixture
def rgbd(disparity: np.ndarray) -> Path:
    """A panorama as `jointnet panorama` writes it."""
    image = np.random.default_rng(0).random((16, 64, 3), np.float32)
    path = Path("00003_3_reef.rgbd.exr")
    write_exr(
        path, image, {"depth": disparity}, {"jointnet": json.dumps(RECORD), "comments": "ocean reef\nSteps: 3"}, RING
    )
    return path


def test_disparity_becomes_distance_that_others_read(convert, rgbd, disparity):
    ran = convert(str(rgbd), "--to", "exr", "--as", "distance", *RANGE, "--out", "o")
    assert ran.exit_code == 0, ran.stderr
    assert ran.stdout == "o/00003_3_reef.rgbd.exr\n"
    channels = read_exr(Path(ran.stdout.strip())).channels
    assert sorted(channels) == ["B", "G", "R", "Z"]
    assert channels["Z"].dtype == np.float32
    np.testing.assert_allclose(channels["Z"], 1 / (disparity * (1 - 1 / 30) + 1 / 30), rtol=1e-6)
    assert "read disparity (channel disparity.Y), white is near, distance from the vertical axis" in ran.stderr
    assert "wrote image + depth" in ran.stderr
    assert "distance in metres, distance from the vertical axis" in ran.stderr


def test_what_is_not_known_is_asked_for(convert, rgbd):
    ran = convert(str(rgbd), "--to", "exr", "--as", "distance")
    assert ran.exit_code == 2
    assert "relative" in ran.stderr
    assert "--near 1 --far 30" in ran.stderr
    assert not Path("outputs").exists()


def test_the_record_goes_along_and_says_what_is_true_now(convert, rgbd):
    ran = convert(str(rgbd), "--to", "png", "--as", "distance", *RANGE, "--axis", "radial", "--white", "near", "--json")
    assert ran.exit_code == 0, ran.stderr
    line = json.loads(ran.stdout)
    assert [Path(file["path"]).name for file in line["written"]] == ["00003_3_reef.image.png", "00003_3_reef.depth.png"]
    text = read_text(Path("outputs/00003_3_reef.depth.png"))
    record = json.loads(text["jointnet"])
    assert text["parameters"].startswith("ocean reef")
    assert record["origin"] == RECORD
    assert record["projection"] == RECORD["projection"]
    depth = record["maps"]["depth"]
    assert depth == line["written"][1]["maps"]["depth"]
    assert (depth["quantity"], depth["distance"], depth["unit"]) == ("distance", "distance from the viewer", "metres")
    assert depth["white"] == pytest.approx(1)
    assert depth["black"] > 30  # radial distances are longer than those from the axis
    words = shlex.split(record["command"])
    assert words[:3] == ["jointnet", "convert", str(rgbd)]
    first = Path("outputs/00003_3_reef.depth.png").read_bytes()
    assert convert(*words[2:], "--overwrite").exit_code == 0
    assert Path("outputs/00003_3_reef.depth.png").read_bytes() == first


def test_a_chain_through_every_format_comes_back(convert, rgbd, disparity):
    steps = [
        ["--to", "exr", "--as", "distance", *RANGE],
        ["--to", "tiff", "--axis", "radial", "--content", "depth"],
        ["--to", "npy"],
        ["--to", "exr", "--axis", "planar"],
        ["--to", "npy", "--as", "disparity", "--white", "far"],
        ["--to", "png", "--white", "near"],
    ]
    source = str(rgbd)
    for index, flags in enumerate(steps):
        ran = convert(source, *flags, "--out", str(index))
        assert ran.exit_code == 0, ran.stderr
        source = ran.stdout.splitlines()[0]
    assert np.abs(read_map(Path(source), "depth").values - disparity).max() <= 0.5 / 65535 + 1e-6


def test_spheres_and_back(convert, rgbd, disparity):
    there = convert(
        str(rgbd), "--to", "exr", "--projection", "equirectangular", "--as", "distance", *RANGE, "--out", "s"
    )
    assert there.exit_code == 0, there.stderr
    sphere = read_exr(Path("s/00003_3_reef.rgbd.exr"))
    assert sphere.channels["Z"].shape == (32, 64)
    assert "LATLONG" in str(sphere.attributes["envmap"])
    assert sphere.attributes["wrapmodes"] == "periodic,clamp"
    assert "distance in metres, distance from the viewer, equirectangular 360 degrees" in there.stderr

    cut = convert(
        str(rgbd), "--to", "png", "--projection", "equirectangular", "--crop", "--content", "image", "--out", "c"
    )
    assert cut.exit_code == 0, cut.stderr
    assert "envmap" not in read_exr(rgbd).attributes
    xmp = read_text(Path("c/00003_3_reef.rgbd.png"))["XML:com.adobe.xmp"]
    height = Image.open("c/00003_3_reef.rgbd.png").size[1]
    assert f'CroppedAreaImageHeightPixels="{height}"' in xmp
    assert f'CroppedAreaTopPixels="{(32 - height) // 2}"' in xmp

    back = convert(
        "s/00003_3_reef.rgbd.exr", "--to", "exr", "--projection", "cylindrical", "--as", "disparity", "--out", "b"
    )
    assert back.exit_code == 0, back.stderr
    values = read_exr(Path("b/00003_3_reef.rgbd.exr")).channels["disparity.Y"]
    assert values.shape == disparity.shape
    # Rows come back to within one: a map's values are those of the nearest pixel.
    assert np.abs(values - disparity).max() <= 1 / 16 + 1e-4


def test_millimetres_of_a_depth_camera(convert):
    Image.fromarray(np.array([[0, 1000, 65535]], np.uint16)).save("camera.png")
    assert "grey of an unknown range" in convert("camera.png", "--to", "exr", "--depth-kind", "distance").stderr
    ran = convert("camera.png", "--to", "exr", "--depth-kind", "distance", "--step", "0.001", "--out", "o")
    assert ran.exit_code == 0, ran.stderr
    np.testing.assert_allclose(read_exr(Path("o/camera.exr")).channels["Z"], [[0, 1, 65.535]], rtol=1e-6)
    ran = convert("o/camera.exr", "--to", "png", "--step", "0.001", "--out", "p")
    assert np.asarray(Image.open("p/camera.png")).tolist() == [[0, 1000, 65535]]


def test_raw_disparity_keeps_its_fit(convert):
    raw = np.array([[2.0, 10.0, 40.0]], np.float32)
    np.save("raw.npy", raw)
    ran = convert(
        *("raw.npy", "--to", "npy", "--depth-kind", "disparity", "--as", "distance"),
        *("--depth-scale", "0.02", "--depth-shift", "0.1", "--out", "o"),
    )
    assert ran.exit_code == 0, ran.stderr
    assert "2 to 40 brought to 0 to 1" in ran.stderr
    np.testing.assert_allclose(np.load("o/raw.npy"), 1 / (0.02 * raw + 0.1), rtol=1e-5)


def test_what_is_cut_off_is_said(convert):
    np.save("far.npy", np.array([[0.5, 2.0, 50.0]], np.float32))
    ran = convert("far.npy", "--to", "png", "--as", "disparity", *RANGE, "--out", "o")
    assert "2 pixels lie outside of 1 to 30 m" in ran.stderr
    ran = convert("far.npy", "--to", "png", *RANGE, "--out", "p")
    assert "2 pixels lie beyond black or white" in ran.stderr


def test_normals_turn_their_green(convert):
    normal = np.array([[[0, 0.6, 0.8], [0.6, 0, 0.8], [0, 0, 0]]], np.float32)
    write_normal_png(Path("n.normal.png"), normal)
    ran = convert("n.normal.png", "--to", "png", "--normals", "directx", "--bits", "8", "--out", "o")
    assert ran.exit_code == 0, ran.stderr
    assert "green is down (DirectX)" in ran.stderr
    before, after = (np.asarray(Image.open(name), int) for name in ("n.normal.png", "o/n.normal.png"))
    assert (after[..., 1] == np.array([[255, 255, 256]]) - before[..., 1]).all()
    assert (after[..., [0, 2]] == before[..., [0, 2]]).all()
    ran = convert("o/n.normal.png", "--to", "exr", "--out", "p")
    assert read_exr(Path("p/n.normal.exr")).channels["normal.Y"][0, 0] == pytest.approx(0.6, abs=0.01)


def test_blender_and_anonymous_files_are_read(convert, disparity):
    write_channels(Path("b.exr"), {"ViewLayer.Depth.Z": disparity + 1, "ViewLayer.Combined.A": disparity}, {})
    ran = convert("b.exr", "--to", "npy", "--axis", "radial", "--from-span", "60", "--out", "o")
    assert ran.exit_code == 0, ran.stderr
    assert "left out ViewLayer.Combined.A" in ran.stderr
    assert "planar Z, perspective 60 degrees" in ran.stderr
    assert (np.load("o/b.npy") > disparity + 1).all()
    ran = convert("b.exr", "--to", "npy", "--axis", "radial", "--out", "p")
    assert ran.exit_code == 2
    assert "--from-span" in ran.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--to", "jpg"], "JPEG is lossy"),
        (["--to", "exr", "--white", "far"], "an EXR holds values"),
        (["--to", "exr", "--bits", "16"], "--bits has no effect"),
        (["--to", "png", "--bits", "8"], "--bits 16"),
        (["--to", "png", "--near", "1"], "pass both --near and --far, or both --depth-scale and --depth-shift"),
        (["--to", "png", "--near", "1", "--shift", "1"], "the scale is given twice"),
        (["--to", "png", "--near", "3", "--far", "1"], "--near must be positive and less than --far, got 3 and 1"),
        (["--to", "tiff", "--as", "distance", *RANGE, "--white", "near"], "--white has no effect"),
        (["--to", "png", "--out", "."], "would overwrite the input"),
        (["--to", "png", "--projection", "cylindrical"], "perspective"),
        (["--to", "png", "--from-projection", "perspective"], "does not state its field of view"),
        (["--to", "png", "--content", "normal"], "grey"),
    ],
)
def test_faults_are_said_before_anything_is_written(convert, flags, words):
    write_grey_png(
        Path("d.png"),
        np.full((4, 8), 0.5, np.float32),
        {"jointnet": '{"projection": {"kind": "perspective", "span": 60}}'},
    )
    if "perspective" in flags:
        write_grey_png(Path("d.png"), np.full((4, 8), 0.5, np.float32))
    ran = convert("d.png", *flags)
    assert ran.exit_code == 2
    assert words in ran.stderr
    assert ran.stdout == ""
    assert [path.name for path in Path().iterdir()] == ["d.png"]


def test_models_are_none_of_its_business(convert):
    Path("model/unet").mkdir(parents=True)
    for name in ("model", "weights.safetensors"):
        ran = convert(name, "--to", "png")
        assert ran.exit_code == 2
        assert "is a model" in ran.stderr
        assert "jointnet models" in ran.stderr


def test_many_files_and_one_that_fails(convert, disparity):
    Path("in").mkdir()
    write_grey_png(Path("in/a.depth.png"), disparity)
    write_png(Path("in/b.image.png"), np.ones((4, 4, 3), np.float32))
    Path("in/c.png").write_text("no picture")
    ran = convert("in", "--to", "tiff", "--dry-run")
    assert ran.exit_code == 1
    assert not Path("outputs").exists()
    ran = convert("in", "--to", "tiff")
    assert ran.exit_code == 1
    assert ran.stdout.splitlines() == ["outputs/a.depth.tiff", "outputs/b.image.tiff"]
    assert "in/c.png" in ran.stderr
    assert convert("in/a.depth.png", "--to", "tiff").exit_code == 2  # exists already
    write_grey_png(Path("a.depth.png"), disparity)
    both = convert("in/a.depth.png", "a.depth.png", "--to", "npy")
    assert "would both become" in both.stderr


def test_without_metadata_there_is_no_record(convert, rgbd):
    for to in ("exr", "png", "npy"):
        assert convert(str(rgbd), "--to", to, "--no-metadata", "--out", to).exit_code == 0
    assert "jointnet" not in read_exr(Path("exr/00003_3_reef.rgbd.exr")).attributes
    assert set(read_text(Path("png/00003_3_reef.image.png"))) == {"XML:com.adobe.xmp"}
    assert sorted(path.name for path in Path("npy").iterdir()) == ["00003_3_reef.depth.npy", "00003_3_reef.image.npy"]


def test_the_sidecar_of_a_result_is_read(convert, disparity):
    write_grey_png(Path("0_0_reef.depth.png"), disparity)
    Path("0_0_reef.metadata.json").write_text(json.dumps({**RECORD, "files": {"depth": "0_0_reef.depth.png"}}))
    ran = convert("0_0_reef.depth.png", "--to", "npy")
    assert "cylindrical 360 degrees" in ran.stderr
    assert json.loads(Path("outputs/0_0_reef.depth.npy.json").read_text())["origin"]["prompt"] == "ocean reef"


def test_all_parts_of_a_file_are_converted(convert):
    import OpenEXR

    window = {"dataWindow": (np.array([1, 0], np.int32), np.array([2, 0], np.int32))}
    window |= {"displayWindow": (np.array([0, 0], np.int32), np.array([3, 1], np.int32))}
    colour, metres = np.full((1, 2), 0.25, np.float32), np.array([[2, 4]], np.float32)
    normal = {"N.X": 0 * colour, "N.Y": 0 * colour, "N.Z": 1 + 0 * colour}
    parts = {"beauty": dict.fromkeys("RGB", colour), "depth": {"Z": metres}, "N": normal}
    header = {"type": OpenEXR.scanlineimage, **window}
    with OpenEXR.File([OpenEXR.Part({**header}, planes, name=name) for name, planes in parts.items()]) as file:
        file.write("parts.exr")
    ran = convert("parts.exr", "--to", "tiff", "--json")
    assert ran.exit_code == 0, ran.stderr
    note = "data window of 2 x 1 pixels at 1, 0 in the display window of 4 x 2: unknown outside of it"
    assert json.loads(ran.stdout)["notes"] == [note] and f"parts.exr: {note}" in ran.stderr
    import tifffile

    image, depth, normals = (tifffile.imread(f"outputs/parts.{part}.tiff") for part in ("image", "depth", "normal"))
    assert image[..., 0].tolist() == [[0, 137, 137, 0], [0, 0, 0, 0]]  # sRGB of a quarter of the light
    np.testing.assert_array_equal(depth, [[np.nan, 2, 4, np.nan], [np.nan] * 4])
    assert normals[..., 2].tolist() == [[0, 1, 1, 0], [0, 0, 0, 0]]
    ran = convert("parts.exr", "--to", "png", "--content", "depth", "--step", "0.001", "--out", "p")
    assert np.asarray(Image.open("p/parts.png")).tolist() == [[0, 2000, 4000, 0], [0] * 4]


def test_a_tiff_by_another_reader(convert, disparity):
    import tifffile

    write_grey_png(Path("d.depth.png"), disparity)
    assert convert("d.depth.png", "--to", "tiff", "--as", "distance", *RANGE, "--bits", "16").exit_code == 0
    with tifffile.TiffFile("outputs/d.depth.tiff") as file:
        page = file.pages.first
        stored, record = page.asarray(), json.loads(page.description)
    assert (stored.dtype, record["maps"]["depth"]["black"]) == (np.uint16, pytest.approx(1))
    metres = 1 + stored / 65535 * 29
    given = np.rint(disparity * 65535) / 65535
    np.testing.assert_allclose(metres, 1 / (given * (1 - 1 / 30) + 1 / 30), atol=0.51 * 29 / 65535)


def test_an_npz_of_several_maps_becomes_a_file_for_each(convert):
    normals = np.zeros((4, 6, 3), np.float32) + np.float32([0, 0, 1])
    np.savez("all.npz", rgb=np.full((4, 6, 3), 0.5, np.float32), disparity=np.full((1, 4, 6), 0.25), normals=normals)
    ran = convert("all.npz", "--to", "npy", "--out", "o")
    assert ran.stdout.split()[::2] == ["o/all.image.npy", "o/all.depth.npy", "o/all.normal.npy"]
    assert np.load("o/all.depth.npy")[0, 0] == 0.25 and np.load("o/all.normal.npy")[0, 0].tolist() == [0, 0, 1]
    assert np.load("o/all.image.npy")[0, 0, 0] == pytest.approx(0.5, abs=1e-6)


def test_a_channel_chooses_the_array_of_an_npz(convert):
    np.savez("two.npz", inverse=np.full((4, 6), 0.25, np.float32), other=np.full((4, 6), 0.5, np.float32))
    ran = convert("two.npz", "--channel", "other", "--to", "npy", "--out", "o")
    assert ran.exit_code == 0 and np.load("o/two.npy")[0, 0] == 0.5, ran.stderr
    ran = convert("two.npz", "--channel", "none", "--to", "npy", "--out", "o")
    assert ran.exit_code == 2 and "two.npz has no array none" in ran.stderr and "inverse, other" in ran.stderr


def test_parts_of_several_sizes_are_refused(convert):
    np.savez("two.npz", image=np.zeros((8, 8, 3), np.float32), depth=np.full((4, 6), 0.5, np.float32))
    ran = convert("two.npz", "--to", "exr")
    assert ran.exit_code == 2 and "parts of several sizes: image 8 x 8, depth 6 x 4" in ran.stderr
    assert convert("two.npz", "--to", "exr", "--content", "depth").exit_code == 0


def test_an_array_has_no_record_of_an_earlier_one(convert):
    np.save("d.npy", np.full((4, 6), 5, np.float32))
    assert convert("d.npy", "--to", "npy", "--out", "o").exit_code == 0 and Path("o/d.npy.json").is_file()
    ran = convert("d.npy", "--to", "npy", "--as", "disparity", *RANGE, "--overwrite", "--no-metadata", "--out", "o")
    assert ran.exit_code == 0 and not Path("o/d.npy.json").exists(), ran.stderr


def test_hidden_files_of_a_folder_are_left_out(convert):
    Path("in").mkdir()
    for name in ("a.png", "._a.png"):
        write_grey_png(Path("in", name), np.full((4, 6), 0.5, np.float32))
    ran = convert("in", "--to", "npy", "--out", "o")
    assert ran.exit_code == 0 and "._a" not in ran.stderr


def test_a_step_leaves_white_nothing_to_say(convert):
    np.save("d.npy", np.full((4, 6), 5, np.float32))
    ran = convert("d.npy", "--to", "png", "--step", "0.001", "--white", "near")
    assert ran.exit_code == 2 and "--white has no effect with --step" in ran.stderr
