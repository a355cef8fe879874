from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jointnet_cli import __version__
from jointnet_cli.files.metadata import read_record
from jointnet_cli.projection import Projection
from jointnet_cli.record import command, describe, exr_attributes, parameters, png_text, record
from jointnet_cli.results import Result
from jointnet_cli.task_inputs import MapFiles

MakeResult = Callable[..., Result]


KINDS = ["generate", "depth", "inpaint", "refine", "panorama"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_record_is_json_and_says_everything(make_result: MakeResult, kind: str) -> None:
    result = make_result(kind, maps=("depth", "normal"))
    described = describe(result, {"depth": Path("/somewhere/a.depth.png")})
    assert json.loads(json.dumps(described, allow_nan=False)) == described
    assert described["task"] == kind
    assert described["seed"] == 5
    assert described["software"] == f"jointnet-cli {__version__}"
    assert (described["width"], described["height"]) == (64, 16)
    assert described["settings"] == result.settings
    assert described["seconds"] == 2.0
    assert described["timings"] == result.timings
    assert described["files"] == {"depth": "a.depth.png"}
    depth = described["maps"]["depth"]
    assert depth["quantity"].startswith("relative disparity")
    assert (depth["near"], depth["far"], depth["scale"], depth["shift"]) == (1.0, 0.0, "unknown", "unknown")
    assert "x right, y up" in described["maps"]["normal"]["space"]


def test_the_record_of_each_task(make_result: MakeResult) -> None:
    drawn = record(make_result("generate", negative_prompt="fog"))
    assert (drawn["prompt"], drawn["negative_prompt"]) == ("ocean reef", "fog")
    assert drawn["maps"]["depth"]["distance"] == "planar Z"

    photo = record(make_result("depth", ensemble=3))
    assert photo["request"]["source"] == "photos/My Cat.jpg"
    assert photo["request"]["ensemble"] == 3
    assert "image" not in photo["request"]

    painted = record(make_result("inpaint", negative_prompt="fog"))
    assert (painted["prompt"], painted["negative_prompt"]) == ("a palm", "fog")
    assert painted["request"]["sources"] == {"image": "beach.png", "depth": "beach.exr", "mask": "mask.png"}
    assert painted["request"]["strength"] == 1.0
    assert not {"image", "maps", "masks"} & set(painted["request"])

    refined = record(make_result("refine", projection=Projection("cylindrical", 180.0)))
    assert refined["projection"] == refined["request"]["projection"]
    assert refined["projection"] == {"kind": "cylindrical", "span": 180.0, "wrap": False}
    assert not {"image", "maps"} & set(refined["request"])

    ring = record(make_result("panorama", stride=8))
    assert ring["projection"] == {"kind": "cylindrical", "span": 360.0, "wrap": True}
    assert ring["request"]["stride"] == 8
    assert ring["request"]["sampling"]["tile_batch"] == 4
    assert ring["maps"]["depth"]["distance"] == "distance from the vertical axis"


def test_uncertainty_has_its_scale_in_the_record(make_result: MakeResult) -> None:
    result = make_result("depth", maps=("depth", "normal"), ensemble=3)
    assert "uncertainty" not in record(result)["maps"]["depth"]
    result.uncertainty = {name: np.zeros((16, 64), np.float32) for name in result.maps}
    maps = record(result)["maps"]
    assert maps["depth"]["uncertainty"]["png"] == "16-bit grey, 65535 * value"
    assert maps["normal"]["uncertainty"]["png"] == "16-bit grey, 65535 * value / pi"
    assert "radians" in maps["normal"]["uncertainty"]["quantity"]


def test_a_record_is_read_from_our_files_and_from_no_others(make_result: MakeResult, tmp_path: Path) -> None:
    result = make_result("panorama")
    files = result.save(tmp_path)
    assert read_record(files["image"]) == read_record(files["depth"]) == read_record(files["exr"]) == record(result)
    (tmp_path / "words.png").write_text("no picture")
    Image.new("L", (2, 2)).save(tmp_path / "plain.png")
    for other in ("words.png", "plain.png", "missing.png"):
        assert read_record(tmp_path / other) == {}


def test_the_same_command_gives_the_same_record(make_result: MakeResult) -> None:
    first, second = make_result("panorama"), make_result("panorama")
    second.timings["denoise"] = 99.0
    assert png_text(first) == png_text(second)
    assert exr_attributes(first) == exr_attributes(second)


def test_settings_of_any_type_become_json(make_result: MakeResult) -> None:
    result = make_result("generate")
    result.settings |= {
        "path": Path("a/b"),
        "number": np.float32(0.5),
        "array": np.arange(3),
        "tuple": (1, None, True),
        "nested": {1: float("nan")},
        "type": np.dtype("float32"),
    }
    settings = record(result)["settings"]
    assert settings["path"] == "a/b"
    assert settings["number"] == 0.5
    assert settings["array"] == [0, 1, 2]
    assert settings["tuple"] == [1, None, True]
    assert settings["nested"] == {"1": None}
    assert settings["type"] == "float32"
    json.dumps(settings, allow_nan=False)


@pytest.mark.parametrize(
    ("kind", "fields", "expected"),
    [
        (
            "generate",
            {},
            "jointnet generate 'ocean reef' --model diorama --seed 5 --width 64 --height 16"
            " --steps 12 --guidance 3.5 --scheduler ddim --dtype float32",
        ),
        (
            "depth",
            {"prompt": "a cat", "ensemble": 3},
            "jointnet depth 'photos/My Cat.jpg' --model diorama --seed 5 --prompt 'a cat' --ensemble 3"
            " --steps 12 --guidance 3.5 --scheduler ddim --dtype float32",
        ),
        (
            "panorama",
            {"negative_prompt": "fog", "span": 180.0, "wrap": False, "stride": 8},
            "jointnet panorama 'ocean reef' --model diorama --seed 5 --negative-prompt fog --width 64 --height 16"
            " --span 180 --no-wrap --method jointnet --stride 8"
            " --steps 12 --guidance 3.5 --scheduler ddim --tile-batch 4 --dtype float32",
        ),
        (
            "generate",
            {"files": MapFiles(Path("a.exr"), Path("-n.png"))},
            "jointnet generate 'ocean reef' --model diorama --seed 5 --width 64 --height 16 --depth a.exr --normal -n.png"
            " --steps 12 --guidance 3.5 --scheduler ddim --dtype float32",
        ),
        (
            "inpaint",
            {"strength": 0.5, "max_side": 256},
            "jointnet inpaint beach.png 'a palm' --model diorama --seed 5 --depth beach.exr --mask mask.png"
            " --strength 0.5 --max-side 256 --steps 12 --guidance 3.5 --scheduler ddim --dtype float32",
        ),
        (
            "inpaint",
            {"projection": Projection("cylindrical", 180.0)},
            "jointnet inpaint beach.png 'a palm' --model diorama --seed 5 --depth beach.exr --mask mask.png"
            " --strength 1 --span 180 --no-wrap --steps 12 --guidance 3.5 --scheduler ddim --dtype float32",
        ),
        (
            "refine",
            {"prompt": "-", "target": "depth", "projection": Projection("cylindrical", 360.0, True)},
            "jointnet refine 0.image.png 0.depth.png --model diorama --seed 5 --prompt - --target depth --scale 2"
            " --strength 0.4 --span 360 --wrap --steps 12 --guidance 3.5 --scheduler ddim --dtype float32",
        ),
    ],
)
def test_the_command_line(make_result: MakeResult, kind: str, fields: dict[str, object], expected: str) -> None:
    assert command(make_result(kind, **fields)) == expected


def test_the_command_says_how_a_depth_file_was_read_and_which_base_was_taken(make_result: MakeResult) -> None:
    result = make_result("inpaint")
    result.settings |= {"depth_kind": "distance", "base": "models/sd"}
    assert "--base models/sd " in command(result)
    assert "--depth-kind distance " in command(result)


@given(st.text(max_size=40))
def test_a_prompt_stays_one_argument(make_result: MakeResult, prompt: str) -> None:
    words = shlex.split(command(make_result("generate", prompt=prompt)))
    if prompt.startswith("-"):
        assert words[-2:] == ["--", prompt]
    else:
        assert words[2] == prompt


def test_numbers_keep_their_digits(make_result: MakeResult) -> None:
    result = make_result("generate")
    result.settings["guidance"] = 7.123456789
    assert "--guidance 7.123456789 " in command(result)
    assert "CFG scale: 7.123456789," in parameters(result)


def test_parameters(make_result: MakeResult) -> None:
    result = make_result("generate", negative_prompt="fog, rain")
    assert parameters(result) == (
        "ocean reef\nNegative prompt: fog, rain\n"
        "Steps: 12, Sampler: ddim, CFG scale: 3.5, Seed: 5, Size: 64x16, Model hash: 0123abcd, Model: diorama"
    )
    result.settings["model"] = "models/a, b: c"
    assert parameters(result).endswith('Model: "models/a, b: c"')


def test_what_the_engine_does_not_state_is_left_out(make_result: MakeResult) -> None:
    result = make_result("generate")
    result.settings.clear()
    assert command(result) == "jointnet generate 'ocean reef' --seed 5 --width 64 --height 16"
    assert parameters(result) == "ocean reef\nSeed: 5, Size: 64x16"


def test_a_map_of_unknown_meaning_is_refused(make_result: MakeResult) -> None:
    result = make_result("generate")
    result.maps["albedo"] = result.image
    result.projection = Projection("perspective", 60.0)
    with pytest.raises(ValueError, match="albedo"):
        record(result)
