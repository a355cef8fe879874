"""Commands that start from pictures and maps, as a user runs them, on untrained models."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jointnet_cli.files.exr import read_exr

WIDTH, HEIGHT = 48, 32


@pytest.fixture(autouse=True)
def _given(untrained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A photo with its depth and normals, a mask of its right half, and a model of 32 pixels a side."""
    monkeypatch.setenv("JOINTNET_MODEL", str(untrained))
    random = np.random.default_rng(3)
    Image.fromarray(random.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save("a.png")
    Image.fromarray(random.integers(0, 65536, (HEIGHT, WIDTH), dtype=np.uint16)).save("a.depth.png")
    Image.new("RGB", (WIDTH, HEIGHT), (128, 128, 255)).save("a.normal.png")
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, WIDTH // 2 :] = 255
    Image.fromarray(mask).save("right.png")


def made(ran) -> dict[str, Path]:
    """The files of the only result, by key."""
    assert ran.exit_code == 0, ran.stderr
    (line,) = ran.stdout.splitlines()
    return {key: Path(file) for key, file in json.loads(line)["files"].items()}


def pixels(path: Path | str) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


INPAINT = ["inpaint", "a.png", "a lake", "--mask", "right.png", "--depth", "a.depth.png", "--steps", "2", "--json"]


@pytest.mark.parametrize("variant", ["depth", "masked"])
def test_what_is_not_masked_stays_byte_for_byte(invoke, tiny_folder: Callable[[str], Path], variant: str):
    files = made(invoke(*INPAINT, "--model", str(tiny_folder(variant))))
    half = WIDTH // 2
    for key, given in (("image", "a.png"), ("depth", "a.depth.png")):
        assert np.array_equal(pixels(files[key])[:, :half], pixels(given)[:, :half])
        assert (pixels(files[key])[:, half:] != pixels(given)[:, half:]).mean() > 0.9


def test_the_depth_alone_is_repainted(invoke):
    arguments = ["inpaint", "a.png", "a lake", "--depth", "a.depth.png", "--depth-mask", "right.png"]
    files = made(invoke(*arguments, "--steps", "1", "--json"))
    assert np.array_equal(pixels(files["image"]), pixels("a.png"))
    assert not np.array_equal(pixels(files["depth"]), pixels("a.depth.png"))


def test_several_prompts_for_one_image(invoke):
    Path("prompts.txt").write_text("a lake\nsnowy hills\n")
    arguments = ["inpaint", "a.png", "--prompts", "prompts.txt", "--mask", "right.png", "--depth", "a.depth.png"]
    ran = invoke(*arguments, "--count", "2", "--steps", "1", "--json")
    assert ran.exit_code == 0, ran.stderr
    results = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [(result["prompt"], result["seed"], result["source"]) for result in results] == [
        ("a lake", 0, "a.png"),
        ("a lake", 1, "a.png"),
        ("snowy hills", 2, "a.png"),
        ("snowy hills", 3, "a.png"),
    ]


def test_a_failed_row_does_not_stop_the_rest(invoke):
    Image.new("L", (8, 8), 255).save("small.png")
    Path("edits.csv").write_text("mask,prompt\nright.png,sea\nsmall.png,sea\nright.png,lake\n")
    arguments = ["inpaint", "a.png", "--depth", "a.depth.png", "--prompts", "edits.csv"]
    ran = invoke(*arguments, "--steps", "1", "--json")
    assert ran.exit_code == 1
    assert "error: item 1 (a.png): small.png is 8 x 8 pixels, and a.png is 48 x 32 pixels\n" in ran.stderr
    assert [json.loads(line)["prompt"] for line in ran.stdout.splitlines()] == ["sea", "lake"]


def test_a_fault_of_all_items_is_said_once(invoke):
    Image.new("L", (8, 8), 255).save("small.png")
    ran = invoke("inpaint", "a.png", "sea", "--mask", "small.png", "--count", "3", "--steps", "1")
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr.count("small.png") == 1


def test_an_image_for_a_given_depth(invoke):
    free = made(invoke("generate", "lake", "--steps", "2", "--json", "--width", "48", "--out", "free"))
    bound = made(
        invoke(
            "generate", "lake", "--steps", "2", "--json", "--width", "48", "--depth", "a.depth.png", "--out", "bound"
        )
    )
    assert Image.open(bound["image"]).size == Image.open(free["image"]).size == (48, 32)
    assert not np.array_equal(pixels(free["image"]), pixels(bound["image"]))


def test_a_map_that_the_model_does_not_have_is_refused(invoke):
    ran = invoke("generate", "lake", "--normal", "a.normal.png", "--steps", "1")
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "no normal branch" in ran.stderr


def test_an_ensemble_writes_how_far_it_differs(invoke):
    files = made(invoke("depth", "a.png", "--ensemble", "2", "--steps", "1", "--json"))
    uncertainty = pixels(files["depth_uncertainty"]) / 65535
    assert uncertainty.shape == (HEIGHT, WIDTH)
    assert 0 < uncertainty.mean() < 0.5
    stored = read_exr(files["exr"]).channels["uncertainty.disparity"]
    np.testing.assert_allclose(uncertainty, stored, atol=0.51 / 65535)
    assert "uncertainty" in json.loads(files["metadata"].read_text())["maps"]["depth"]


def test_a_photo_may_be_larger_than_the_model(invoke):
    files = made(invoke("depth", "a.png", "--max-side", "48", "--tile-batch", "1", "--steps", "1", "--json"))
    assert pixels(files["depth"]).shape == (HEIGHT, WIDTH)
    assert json.loads(files["metadata"].read_text())["settings"]["width"] == 48


@pytest.mark.parametrize("what", ["both", "image", "depth"])
def test_refined_pictures_grow(invoke, what):
    ran = invoke("refine", "a.png", "a.depth.png", "--target", what, "--scale", "1.5", "--steps", "2", "--json")
    files = made(ran)
    assert list(files) == ["image", "depth", "exr", "metadata"]
    assert files["image"].name == "00000_0_refined-a.image.png"
    assert Image.open(files["image"]).size == Image.open(files["depth"]).size == (72, 48)


def test_a_refined_panorama_is_a_panorama(invoke):
    drawn = made(invoke("panorama", "sea", "--width", "64", "--steps", "1", "--json"))
    ran = invoke("refine", str(drawn["image"]), str(drawn["depth"]), "--scale", "1.5", "--steps", "2", "--json")
    files = made(ran)
    assert files["mesh"].is_file()
    assert read_exr(files["exr"]).attributes["wrapmodes"] == "periodic,clamp"
    record = json.loads(files["metadata"].read_text())
    assert record["projection"] == {"kind": "cylindrical", "span": 360.0, "wrap": True}
    assert record["settings"]["layout"]["wrap"] is True


def test_the_depth_of_a_panorama_is_that_of_a_panorama(invoke):
    drawn = made(invoke("panorama", "sea", "--width", "64", "--steps", "1", "--json"))
    files = made(invoke("depth", str(drawn["image"]), "--steps", "1", "--out", "depth", "--json"))
    assert list(files) == ["depth", "preview", "exr", "metadata"]
    assert read_exr(files["exr"]).attributes["wrapmodes"] == "periodic,clamp"
    record = json.loads(files["metadata"].read_text())
    assert record["projection"] == {"kind": "cylindrical", "span": 360.0, "wrap": True}
    assert record["settings"]["layout"]["wrap"] is True and record["settings"]["width"] == 64


def test_all_maps_of_a_model_with_two(invoke, tiny_folder: Callable[[str], Path]):
    model = ["--model", str(tiny_folder("depth-normal")), "--steps", "1", "--json"]
    given = ["--depth", "a.depth.png", "--normal", "a.normal.png"]
    files = made(invoke("inpaint", "a.png", "sea", "--mask", "right.png", *given, *model))
    half = WIDTH // 2
    assert np.array_equal(pixels(files["normal"])[:, :half], pixels("a.normal.png")[:, :half])
    files = made(invoke("depth", "a.png", "--ensemble", "2", *model))
    assert {"depth", "depth_uncertainty", "normal", "normal_uncertainty", "preview"} <= set(files)
    files = made(invoke("refine", "a.png", "a.depth.png", *given[2:], "--target", "normal", *model))
    assert Image.open(files["normal"]).size == (2 * WIDTH, 2 * HEIGHT)


COMMANDS = {
    "generate": ["generate", "sea", "--depth", "far.npy", "--depth-kind", "disparity", "--negative-prompt", "fog"],
    "depth": ["depth", "a.png", "--ensemble", "2", "--max-side", "48", "--prompt", "hills"],
    "inpaint": [
        "inpaint",
        "--mask",
        "right.png",
        "--depth",
        "a.depth.png",
        "--strength",
        "0.7",
        "--seed",
        "4",
        "--",
        "a.png",
        "-sea",
    ],
    "refine": ["refine", "a.png", "a.depth.png", "--target", "depth", "--scale", "1.5", "--span", "360", "--no-wrap"],
    "panorama": ["panorama", "sea", "--width", "64", "--method", "multidiffusion", "--taper", "4", "--tile-batch", "2"],
    "preset": ["panorama", "sea", "--width", "64", "--preset", "fast"],
    "tiling": ["panorama", "sea", "--width", "64", "--preset", "fast", "--tiling", "paper"],
    "spacing": ["generate", "sea", "--scheduler", "ddim", "--spacing", "linspace", "--guidance-interval", "250", "750"],
}


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS.keys())
def test_the_command_in_the_record_makes_the_same_pixels_again(invoke, arguments):
    np.save("far.npy", np.linspace(1, 9, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH))
    first = made(invoke(arguments[0], "--steps", "2", "--json", *arguments[1:]))
    record = json.loads(first["metadata"].read_text())
    program, verb, *again = shlex.split(record["command"])
    assert (program, verb) == ("jointnet", arguments[0])
    second = made(invoke(verb, "--json", "--out", "again", *again))
    assert list(first) == list(second)
    for key in (key for key in first if first[key].suffix == ".png"):
        assert np.array_equal(pixels(first[key]), pixels(second[key])), key
    assert json.loads(second["metadata"].read_text())["command"] == record["command"]
