"""Flags have an effect or are refused; zero is a value."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jointnet_cli.files.exr import write_channels
from jointnet_cli.files.images import write_normal_png

METRES = np.linspace(1, 5, 32, dtype=np.float32).reshape(4, 8)
RANGE = ["--near", "1", "--far", "30"]


@pytest.fixture(autouse=True)
def _files() -> None:
    Image.fromarray(np.rint(METRES * 1000).astype(np.uint16)).save("grey.png")
    Image.new("RGB", (8, 4), (200, 100, 50)).save("photo.png")
    write_normal_png(Path("n.normal.png"), np.tile(np.array([0, 0, 1], np.float32), (4, 8, 1)))
    np.save("metres.npy", METRES)
    np.save("whole.npy", np.rint(METRES * 1000).astype(np.int32))
    write_channels(Path("z.exr"), {"Z": METRES, "depth.Z": 2 * METRES}, {})


@pytest.mark.parametrize(
    "words",
    [
        "metres.npy --to exr --step 0.001: --step has no effect: its distances are metres",
        "metres.npy --to exr --near 1 --far 9: --near and --far have no effect",
        "metres.npy --to npy --depth-scale 1 --depth-shift 1: --depth-scale and --depth-shift have no effect",
        "metres.npy --to npy --from-white near: --from-white has no effect",
        "z.exr --to npy --step 1: --step has no effect",
        "grey.png --to npy --step 1: --step has no effect: it is disparity",
        "grey.png --to png --step 1: --step has no effect: it is disparity",
        "grey.png --to npy --depth-kind distance --step 1 --near 1 --far 9: --near and --far have no effect",
        "grey.png --to npy --depth-kind distance --step 1 --from-white near: --from-white has no effect",
        "whole.npy --to png --depth-kind disparity --step 1: --step has no effect: it is disparity",
        "photo.png --to png --as distance: --as has no effect: the file holds no depth",
        "photo.png --to png --axis radial: --axis has no effect",
        "photo.png --to png --step 1: --step has no effect",
        "photo.png --to png --near 1 --far 2: --near and --far have no effect",
        "photo.png --to png --white near: --white has no effect",
        "photo.png --to png --normals directx: --normals has no effect: the file holds no normal",
        "photo.png --to png --from-normals opengl: --from-normals has no effect",
        "photo.png --to png --from-axis planar: --from-axis has no effect",
        "photo.png --to png --channel Z: photo.png has no channel Z",
        "n.normal.png --to png --normal-layer N: has no channel N",
        "n.normal.png --to png --depth-kind distance: --depth-kind has no effect",
        "photo.png --to png --crop: --crop has no effect",
        "photo.png --to png --width 8: --width has no effect",
        "photo.png --to png --vertical 8: --vertical has no effect",
        "photo.png --to png --projection equirectangular --vertical 8 --from-projection cylindrical: --vertical has no",
        "photo.png --to png --projection cylindrical --crop --from-projection equirectangular: --crop has no effect",
        "photo.png --to png --projection cylindrical --vertical 0 --from-projection equirectangular: cannot be 0 degrees",
        "whole.npy --to exr: holds distance in whole numbers of an unknown unit",
        "grey.png --to exr --step 0 --depth-kind distance: --step must be above 0, got 0",
        "grey.png --to exr --near 0 --far 3 --depth-kind distance: --near must be positive and less than --far, got 0 and 3",
    ],
)
def test_convert_refuses_what_has_no_effect(invoke, words: str) -> None:
    arguments, _, fault = words.partition(": ")
    ran = invoke("convert", *arguments.split())
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert fault in ran.stderr and "hint: " in ran.stderr
    assert not Path("outputs").exists()


def test_of_several_files_each_takes_the_flags_of_what_it_holds(invoke) -> None:
    ran = invoke("convert", "photo.png", "metres.npy", "--to", "exr", "--as", "disparity", *RANGE)
    assert ran.exit_code == 0, ran.stderr
    ran = invoke("convert", "photo.png", "metres.npy", "--to", "exr", "--step", "0.001", "--out", "b")
    assert ran.exit_code == 1 and "metres.npy: --step has no effect" in ran.stderr


@pytest.mark.parametrize("name", ["grey.png", "whole.npy", "uint.npy", "big.npy", "uint.exr", "grey.tiff", "int.tiff"])
def test_a_step_is_metres_of_one_in_whole_numbers_of_any_type(invoke, name: str) -> None:
    levels = np.rint(METRES * 1000)
    np.save("uint.npy", levels.astype(np.uint16))
    np.save("big.npy", levels.astype(">i8"))
    write_channels(Path("uint.exr"), {"Z": levels.astype(np.uint32)}, {})
    Image.fromarray(levels.astype(np.uint16)).save("grey.tiff")
    Image.fromarray(levels.astype(np.int32)).save("int.tiff")
    ran = invoke("convert", name, "--to", "npy", "--depth-kind", "distance", "--step", "0.001", "--out", "o")
    assert ran.exit_code == 0, ran.stderr
    np.testing.assert_allclose(np.load(f"o/{Path(name).stem}.npy"), METRES, atol=0.00051)


def test_a_step_of_eight_bits_is_one_level(invoke) -> None:
    Image.fromarray(np.array([[0, 10, 255]], np.uint8)).save("byte.png")
    assert invoke("convert", "byte.png", "--to", "npy", "--depth-kind", "distance", "--step", "0.1").exit_code == 0
    np.testing.assert_allclose(np.load("outputs/byte.npy"), [[0, 1, 25.5]], rtol=1e-6)


def test_a_step_is_a_level_of_the_file_whatever_its_full_scale(invoke) -> None:
    levels = np.rint(METRES * 1000).astype(">u2")
    Path("camera.pgm").write_bytes(b"P5\n8 4\n5000\n" + levels.tobytes())
    assert invoke("convert", "camera.pgm", "--to", "npy", "--depth-kind", "distance", "--step", "0.001").exit_code == 0
    np.testing.assert_allclose(np.load("outputs/camera.npy"), levels / 1000, rtol=1e-6)


@pytest.mark.parametrize(("number", "dtype"), [(np.nan, "f4"), (255, "f8"), (-1, "i2")])
def test_convert_refuses_pictures_of_an_unknown_range(invoke, number: float, dtype: str) -> None:
    np.save("colours.npy", np.full((4, 8, 3), number).astype(dtype))
    ran = invoke("convert", "colours.npy", "--content", "image", "--to", "png")
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "colours.npy holds values outside of 0 to 1" in ran.stderr or "its array is int16" in ran.stderr


def test_convert_counts_the_colours_that_it_cuts_off(invoke) -> None:
    planes = {name: METRES.copy() for name in "RGB"}
    planes["G"][0, :3], planes["B"][0, 2:5] = -0.5, np.nan
    write_channels(Path("wide.exr"), planes, {})
    ran = invoke("convert", "wide.exr", "--to", "npy")
    assert "wide.exr: 5 pixels have negative or NaN colours, which become 0" in ran.stderr
    shown = [[1, 0, 1], [1, 0, 1], [1, 0, 0], [1, 1, 0], [1, 1, 0], [1, 1, 1]]
    np.testing.assert_allclose(np.load("outputs/wide.npy")[0, :6], shown, rtol=1e-6)


def test_convert_hints_at_the_flag_of_what_is_missing(invoke) -> None:
    write_channels(Path("p.exr"), {f"P.{axis}": METRES for axis in "XYZ"}, {})
    for part, flag in (("depth", "--channel NAME"), ("normal", "--normal-layer NAME"), ("image", "P.X, P.Y, P.Z\n")):
        ran = invoke("convert", "p.exr", "--to", "npy", "--content", part)
        assert ran.exit_code == 2 and f"p.exr holds no {part}" in ran.stderr and flag in ran.stderr


def test_white_is_near_in_distances_between_near_and_far(invoke) -> None:
    Image.fromarray(np.array([[0, 65535, 13107]], np.uint16)).save("white.png")
    flags = ["--to", "npy", "--depth-kind", "distance", "--near", "2", "--far", "12"]
    assert invoke("convert", "white.png", *flags, "--from-white", "near", "--out", "near").exit_code == 0
    assert invoke("convert", "white.png", *flags, "--from-white", "far", "--out", "far").exit_code == 0
    assert invoke("convert", "white.png", *flags, "--out", "bare").exit_code == 0
    np.testing.assert_allclose(np.load("near/white.npy"), [[12, 2, 10]], rtol=1e-6)
    for folder in ("far", "bare"):
        np.testing.assert_allclose(np.load(f"{folder}/white.npy"), [[2, 12, 4]], rtol=1e-6)


def test_convert_says_which_channel_it_took_and_takes_another(invoke) -> None:
    ran = invoke("convert", "z.exr", "--to", "npy")
    assert "read distance (channel Z)" in ran.stderr and "--channel takes depth.Z instead" in ran.stderr
    ran = invoke("convert", "z.exr", "--to", "npy", "--channel", "depth.Z", "--out", "b")
    assert "left out Z" in ran.stderr
    assert np.array_equal(np.load("b/z.npy"), 2 * METRES)
    ran = invoke("convert", "z.exr", "--to", "npy", "--channel", "depth.z", "--out", "c")
    assert ran.exit_code == 2 and "z.exr has no channel depth.z" in ran.stderr and "did you mean depth.Z?" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--near", "5"], "--near has no effect: no scene is made"),
        (["--far", "5"], "--far has no effect: no scene is made"),
        (["--depth-scale", "1", "--depth-shift", "1"], "--depth-scale has no effect"),
        (["--known-distances", "known.csv"], "--known-distances has no effect"),
        (["--sharpen"], "--sharpen has no effect: no scene is made"),
        (["--no-layers"], "--no-layers has no effect: no scene is made"),
        (["--depth-kind", "distance"], "--depth-kind has no effect: no depth file is given"),
        (["--watertight"], "--watertight has no effect: no mesh is made"),
        (["--viewer", "--watertight"], "--watertight has no effect: no mesh is made"),
        (["--mesh", "points", "--max-triangles", "500"], "--max-triangles has no effect: no mesh is made"),
        (["--near", "0", "--viewer"], "must be positive and less than --far, got 0 and 30"),
        (["--far", "0", "--viewer"], "must be positive and less than --far, got 1 and 0"),
        (["--channel", "Z"], "--channel has no effect: no depth file is given"),
        (["--depth", "z.exr", "--channel", "Y"], "z.exr has no channel Y"),
        (["--depth", "z.exr", "--normal-layer", "N"], "--normal-layer has no effect: no normal file is given"),
        (["--depth", "grey.png", "--channel", "Z"], "only OpenEXR and npz files have named channels"),
    ],
)
def test_image_commands_refuse_flags_without_an_effect(invoke, arguments: list[str], words: str) -> None:
    Path("known.csv").write_text("0,0,1\n1,1,2\n")
    ran = invoke("generate", "sea", *arguments, "--device", "cuda:99")
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert words in ran.stderr and "hint: " in ran.stderr
    assert not Path("outputs").exists()


def test_a_panorama_has_a_scene_by_itself(invoke) -> None:
    assert invoke("panorama", "sea", "--near", "5", "--watertight", "--dry-run").exit_code == 0
    ran = invoke("panorama", "sea", "--no-viewer", "--mesh", "points", "--watertight", "--dry-run")
    assert ran.exit_code == 2 and "--watertight has no effect" in ran.stderr


def test_view_refuses_flags_without_an_effect(invoke) -> None:
    ran = invoke("view", "photo.png", "--depth", "z.exr", "--watertight")
    assert ran.exit_code == 2 and "--watertight has no effect: no mesh is made" in ran.stderr
    ran = invoke("view", "photo.png", "--depth", "z.exr", "--near", "0")
    assert ran.exit_code == 2 and "must be positive and less than --far, got 0 and 30" in ran.stderr


def test_view_opens_no_page_that_it_does_not_make(invoke) -> None:
    ran = invoke("view", "photo.png", "--depth", "z.exr", "--no-viewer", "--mesh", "glb", "--open")
    assert ran.exit_code == 2 and "--open has no effect: no page is made" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--method", "direct", "--stride", "64"], "--stride has no effect: the method direct has no tiles"),
        (["--method", "direct", "--taper", "0"], "--taper has no effect"),
        (["--method", "direct", "--whole-image-until", "0"], "--whole-image-until has no effect"),
        (["--method", "direct", "--whole-image-weight", "2"], "--whole-image-weight has no effect"),
        (["--method", "multidiffusion", "--whole-image-weight", "2"], "--whole-image-weight has no effect: the whole"),
        (["--whole-image-until", "0", "--whole-image-weight", "2"], "--whole-image-weight has no effect: the whole"),
        (["--taper", "13"], "taper 13 is not a multiple of 8"),
    ],
)
def test_panorama_refuses_settings_of_tiles_that_it_does_not_use(invoke, arguments: list[str], words: str) -> None:
    ran = invoke("panorama", "sea", *arguments, "--dry-run")
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert words in ran.stderr and "hint: " in ran.stderr


NUMBERS = {
    "generate sea": "--guidance --near --far --depth-scale --depth-shift",
    "depth photo.png": "--guidance --near",
    "refine photo.png": "--scale --strength --guidance --span --far",
    "inpaint photo.png sea": "--strength --guidance --span --near",
    "panorama sea": "--span --whole-image-until --whole-image-weight --guidance --far",
    "view photo.png": "--span --near --far --depth-scale --depth-shift",
    "convert grey.png --to png": "--near --far --depth-scale --depth-shift --step --from-span --vertical",
    "prepare": "--aspect-below --aesthetic-above",
}


@pytest.mark.parametrize("value", ["nan", "inf"])
@pytest.mark.parametrize("command", NUMBERS)
def test_numbers_of_flags_are_finite(invoke, command: str, value: str) -> None:
    for flag in NUMBERS[command].split():
        ran = invoke(*command.split(), flag, value)
        assert (ran.exit_code, ran.stdout) == (2, "")
        assert ran.stderr.startswith(f"error: {flag} must be ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--whole-image-weight", "0"], "--whole-image-weight must be at least 0.01, got '0'"),
        (["--whole-image-weight", "1e300"], "--whole-image-weight must be at most 1000, got '1e300'"),
        (["--guidance", "1e30"], "--guidance must be at most 1000, got '1e30'"),
    ],
)
def test_numbers_that_would_end_as_zero_or_overflow_are_refused(invoke, arguments: list[str], words: str) -> None:
    ran = invoke("panorama", "sea", *arguments, "--dry-run")
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert words in ran.stderr


@pytest.mark.parametrize("value", ["NaN", "Infinity", '"inf"'])
def test_numbers_of_tables_are_finite(invoke, value: str) -> None:
    Path("rows.jsonl").write_text(f'{{"prompt": "sea", "guidance": {value}}}\n')
    ran = invoke("generate", "--prompts", "rows.jsonl", "--dry-run")
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert re.match("error: rows.jsonl line 1: guidance must be (a finite number|at most 1000), got ", ran.stderr)


def test_a_table_names_channels_too(invoke, untrained: Path) -> None:
    Path("rows.csv").write_text("prompt,depth,channel\nsea,z.exr,Q\n")
    ran = invoke("generate", "--prompts", "rows.csv", "--model", str(untrained))
    assert ran.exit_code == 2 and "z.exr has no channel Q" in ran.stderr
