"""What commands say to files that are given: before a model is loaded, in a line or two."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from jointnet_cli.cli.inputs import projection_of
from jointnet_cli.errors import UserError
from jointnet_cli.projection import Projection
from jointnet_cli.task_inputs import ViewOptions


@pytest.fixture(autouse=True)
def _files() -> None:
    Image.new("RGB", (40, 24), (200, 100, 50)).save("a.png")
    Image.fromarray(np.linspace(0, 65535, 40 * 24).astype(np.uint16).reshape(24, 40)).save("a.depth.png")
    Image.new("RGB", (40, 24), (128, 128, 255)).save("a.normal.png")
    Image.new("L", (40, 24), 255).save("white.png")
    Image.new("L", (40, 24), 0).save("black.png")
    Image.new("L", (20, 12), 255).save("half.png")
    Image.new("L", (24, 40), 255).save("upright.png")
    Path("words.png").write_text("no picture")
    Path("prompts.txt").write_text("a palm")


MISTAKES = {
    "no image": (["inpaint", "--prompts", "prompts.txt", "--mask", "white.png"], "no image", "column image"),
    "no prompt": (["inpaint", "a.png", "--mask", "white.png"], "no prompt", "say what to draw"),
    "no mask": (["inpaint", "a.png", "a palm"], "no mask", "white is repainted"),
    "missing image": (["inpaint", "none.png", "a palm", "--mask", "white.png"], "no file none.png", None),
    "missing mask": (["inpaint", "a.png", "a palm", "--mask", "none.png"], "no file none.png", None),
    "folder": (["inpaint", "a.png", "a palm", "--mask", "."], ". is a folder", None),
    "empty mask": (["inpaint", "a.png", "a palm", "--mask", "black.png"], "black.png marks no pixel", "white"),
    "small mask": (
        ["inpaint", "a.png", "a palm", "--mask", "half.png"],
        "half.png is 20 x 12 pixels, and a.png is 40 x 24 pixels",
        "resize one of them",
    ),
    "small depth": (
        ["inpaint", "a.png", "a palm", "--mask", "white.png", "--depth", "half.png"],
        "half.png is 20 x 12 pixels",
        "resize one of them",
    ),
    "no picture": (["inpaint", "words.png", "a palm", "--mask", "white.png"], "words.png is not an image", "PNG"),
    "two sizes of maps": (
        ["generate", "sea", "--depth", "half.png", "--normal", "a.normal.png"],
        "a.normal.png is 40 x 24 pixels, and half.png is 20 x 12 pixels",
        "resize one of them",
    ),
    "colour as depth": (["generate", "sea", "--depth", "a.png"], "a.png is a colour image, not a depth map", "grey"),
    "nothing to refine": (["refine"], "no image", "column image"),
    "missing depth": (["refine", "a.png", "none.exr"], "no file none.exr", None),
    "another shape": (
        ["refine", "a.png", "upright.png"],
        "upright.png is 24 x 40 pixels, and of another shape: a.png is 40 x 24 pixels",
        "aspect ratio",
    ),
    "smaller": (["refine", "a.png", "--scale", "0.5"], "--scale", None),
    "half a ring": (["refine", "a.png", "--span", "180", "--wrap"], "--wrap needs a span of 360, not 180", "--no-wrap"),
    "unknown method": (["panorama", "sea", "--method", "multi"], "--method", None),
}


@pytest.mark.parametrize(("arguments", "words", "hint"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_said_before_a_model_is_loaded(invoke, arguments, words, hint):
    ran = invoke(*arguments, "--device", "cuda:99")
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert words in ran.stderr
    assert hint is None or hint in ran.stderr
    assert not Path("outputs").exists()


def _spheres() -> None:
    from jointnet_cli.files.exr import write_channels
    from jointnet_cli.files.images import write_grey_png
    from jointnet_cli.files.metadata import gpano_xmp
    from jointnet_cli.files.text import PNG_KEY
    from jointnet_cli.projection import Sphere

    record = {"projection": {"kind": "equirectangular", "span": 360, "full_width": 40, "left": 0, "top": 0}}
    grey = np.linspace(0, 1, 40 * 20, dtype=np.float32).reshape(20, 40)
    Image.new("RGB", (40, 20)).save("gpano.jpg", xmp=gpano_xmp(Sphere(40), 40, 20).encode())
    write_grey_png(Path("record.png"), grey, {"jointnet": json.dumps(record)})
    write_grey_png(Path("gpano.png"), grey, {PNG_KEY: gpano_xmp(Sphere(40), 40, 20)})
    write_channels(Path("envmap.exr"), {"Z": grey + 1}, {}, sphere=True)
    np.save("sidecar.npy", grey)
    Path("sidecar.npy.json").write_text(json.dumps(record))
    Image.new("RGB", (40, 20)).save("flat.png")


@pytest.mark.parametrize("name", ["gpano.jpg", "record.png", "gpano.png", "envmap.exr", "sidecar.npy"])
def test_a_sphere_is_refused_by_every_task(invoke, name):
    _spheres()
    commands = [
        ["generate", "sea", "--depth", name],
        ["inpaint", "flat.png", "sea", "--mask", "white.png", "--depth", name],
        ["refine", "flat.png", name],
        ["view", "flat.png", "--depth", name],
        *([["inpaint", name, "sea", "--mask", "white.png"], ["refine", name], ["depth", name]] * (name == "gpano.jpg")),
    ]
    for command in commands:
        ran = invoke(*command, "--dry-run")
        assert (ran.exit_code, ran.stdout) == (2, ""), command
        assert f"{name} shows a sphere (equirectangular)" in ran.stderr and "--projection cylindrical" in ran.stderr


def test_what_an_exr_needed_is_said_of_pictures_and_maps(invoke, untrained):
    import OpenEXR

    values = np.full((12, 20), 0.5, np.float32)
    windows = {"dataWindow": (np.array([2, 3], np.int32), np.array([21, 14], np.int32))}
    windows |= {"displayWindow": (np.array([0, 0], np.int32), np.array([31, 31], np.int32))}
    with OpenEXR.File({"type": OpenEXR.scanlineimage, **windows}, dict.fromkeys(["R", "G", "B", "Z"], values)) as file:
        file.write("cut.exr")
    for arguments in (["depth", "cut.exr"], ["generate", "sea", "--depth", "cut.exr"]):
        ran = invoke(*arguments, "--model", str(untrained), "--steps", "1", "--out", arguments[0])
        assert ran.exit_code == 0, ran.stderr
        assert "data window of 20 x 12 pixels at 2, 3 in the display window of 32 x 32" in ran.stderr
    from jointnet_cli.files.exr import read_exr

    red = read_exr(next(Path("depth").glob("*.exr"))).channels["R"]
    assert red.shape == (32, 32) and not red[:3].any() and red[3:15, 2:22].all() and not red[15:].any()


PLANS = {
    "generate": (["generate", "sea", "--depth", "a.depth.png"], {"prompt": "sea", "seed": 0}),
    "inpaint": (
        ["inpaint", "a.png", "a palm", "--mask", "white.png", "--depth", "a.depth.png"],
        {"prompt": "a palm", "source": "a.png", "width": 40, "height": 24},
    ),
    "depth alone": (["inpaint", "a.png", "a palm", "--depth-mask", "white.png"], {"source": "a.png", "width": 40}),
    "refine": (["refine", "a.png", "half.png", "--scale", "1.5"], {"source": "a.png", "width": 60, "height": 36}),
    "baseline": (["panorama", "sea", "--method", "syncdiffusion", "--width", "512"], {"width": 512, "height": 128}),
}


@pytest.mark.parametrize(("arguments", "expected"), PLANS.values(), ids=PLANS.keys())
def test_plans(invoke, arguments, expected):
    ran = invoke(*arguments, "--dry-run", "--json")
    assert ran.exit_code == 0, ran.stderr
    (item,) = [json.loads(line) for line in ran.stdout.splitlines()]
    assert item.items() >= expected.items()
    assert {"image", "depth", "exr", "metadata"} <= set(item["files"])
    assert ("mesh" in item["files"]) == (arguments[0] == "panorama")
    assert not Path("outputs").exists()


def test_a_plain_plan_names_image_and_prompt(invoke):
    ran = invoke("inpaint", "a.png", "a palm", "--mask", "white.png", "--dry-run")
    assert ran.stdout.startswith("00000: a.png: a palm, seed 0, 40 x 24 pixels; ")


def test_an_ensemble_plans_its_uncertainty(invoke):
    ran = invoke("depth", "a.png", "--ensemble", "3", "--dry-run", "--json")
    files = json.loads(ran.stdout)["files"]
    assert files["depth_uncertainty"] == "outputs/a.depth-uncertainty.png"


def stating(name: str, span: float, wrap: bool) -> Path:
    """A picture that says it is a panorama."""
    info = PngInfo()
    projection = {"kind": "cylindrical", "span": span, "wrap": wrap}
    info.add_text("jointnet", json.dumps({"projection": projection}))
    Image.new("RGB", (64, 16)).save(name, pnginfo=info)
    return Path(name)


RING = Projection("cylindrical", 360.0, True)


@pytest.mark.parametrize(
    ("flags", "of_ring", "of_photo"),
    [
        ({}, RING, None),
        ({"wrap": True}, RING, RING),
        ({"wrap": False}, Projection("cylindrical", 360.0, False), None),
        ({"span": 360.0}, RING, RING),
        ({"span": 90.0}, Projection("cylindrical", 90.0, False), Projection("cylindrical", 90.0, False)),
    ],
)
def test_the_view_is_what_flags_say_and_then_what_files_say(flags, of_ring, of_photo):
    ring = stating("ring.png", 360.0, True)
    assert projection_of(ViewOptions(**flags), ring) == of_ring
    assert projection_of(ViewOptions(**flags), Path("a.png"), ring) == of_ring
    assert projection_of(ViewOptions(**flags), Path("a.png")) == of_photo


def test_half_a_circle_does_not_close():
    half = stating("half-circle.png", 180.0, False)
    assert projection_of(ViewOptions(), half) == Projection("cylindrical", 180.0, False)
    with pytest.raises(UserError, match="span of 360, not 180"):
        projection_of(ViewOptions(wrap=True), half)


def test_a_panorama_stays_one_when_it_is_refined(invoke):
    ran = invoke("refine", str(stating("ring.png", 360.0, True)), "--dry-run", "--json")
    assert json.loads(ran.stdout)["files"]["mesh"] == "outputs/00000_0_refined-ring.mesh.glb"
