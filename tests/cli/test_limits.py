"""Requests that a machine cannot fulfil, and a disk that is full."""

from __future__ import annotations

import json
import re
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result


@pytest.fixture(autouse=True)
def _no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a model would be loaded."""
    monkeypatch.setitem(sys.modules, "jointnet_cli.engine", None)


def huge_png(path: str, width: int, height: int) -> None:
    """Write a PNG whose header states a size; its pixels are never decoded."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (header, b"IDAT" + zlib.compress(b""), b"IEND")
    data = b"".join(struct.pack(">I", len(each) - 4) + each + struct.pack(">I", zlib.crc32(each)) for each in chunks)
    Path(path).write_bytes(b"\x89PNG\r\n\x1a\n" + data)


@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", "sea", "--width", "100000", "--height", "100000"],
        ["panorama", "sea", "--width", "1600000", "--height", "1024"],
        ["refine", "photo.png", "--scale", "100"],
        ["depth", "photo.png", "--ensemble", "100000000"],
        ["depth", "huge.png"],
        ["inpaint", "huge.png", "a hut", "--mask", "huge.png"],
        ["convert", "huge.png", "--to", "png"],
        ["view", "small.png", "--depth", "wide.npy", "--no-viewer", "--mesh", "glb"],
    ],
)
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_what_does_not_fit_is_refused_before_a_model_is_loaded(invoke, arguments, more):
    Image.new("RGB", (8, 8)).save("small.png")
    huge_png("photo.png", 12000, 12000)
    np.lib.format.open_memmap("wide.npy", "w+", np.float32, (200_000, 200_000))  # sparse: takes no space on the disk
    huge_png("huge.png", 200_000, 200_000)
    ran = invoke(*arguments, *more)
    assert (ran.exit_code, ran.stdout) == (2, "")
    (line, *hint) = ran.stderr.splitlines()
    assert line.startswith("error: ") and len(hint) <= 1
    assert "GB" in line or "TB" in line or "pixels" in line


def test_convert_and_view_refuse_what_does_not_fit_into_memory(
    invoke: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jointnet_cli.sampling.memory.memory_limit", lambda: 10_000)
    Image.new("L", (20, 10)).save("a.png")
    for command, needed in (
        (["convert", "a.png", "--to", "exr"], "converting"),
        (["view", "a.png", "--depth", "a.png"], "scene"),
    ):
        done = invoke(*command)
        assert (
            done.exit_code == 2
            and "20 x 10 pixels needs about" in done.stderr
            and "the limit here is 10.0 kB" in done.stderr
        )
        assert needed in done.stderr


def test_a_plan_shows_bytes_and_seconds(invoke):
    ran = invoke("generate", "sea", "--dry-run")
    assert re.search(r"128 x 128 pixels; estimate: [67]\d\d\.\d MB, ", ran.stdout)
    (line,) = map(json.loads, invoke("generate", "sea", "--dry-run", "--json").stdout.splitlines())
    assert line["estimate"]["bytes"] > 5e8 and line["estimate"]["gpu_bytes"] == 0 and line["estimate"]["seconds"] > 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seed", "99999999999999999999"], "--seed"),
        (["--seed", str(2**64 - 1), "--count", "2"], f"the last seed would be {2**64}"),
        (["--viewer", "--near", "1e-300", "--far", "1e300"], "are not between 1e-06 and 1e+09"),
        (["--viewer", "--depth-scale", "1e300", "--depth-shift", "1"], "are not between 1e-06 and 1e+09"),
        (["--viewer", "--known-distances", "/dev/zero"], "--known-distances must be a file, not a device"),
        (["--name", "{seed:099999999}"], "makes names too long"),
        (["--name", "{seed:{index}}"], "makes names too long"),
        (["--count", "9" * 30], "--count must be at most 1000000000"),
        (["--guidance", "inf"], "--guidance"),
        (["--guidance", "nan"], "--guidance must be a finite number, got 'nan'"),
        (["--steps", "100000"], "--steps"),
        (["--device", "gpu"], "cuda, a GPU by number"),
        (["--device", ""], "must not be empty"),
        (["--device", "cuda:99"], "device cuda:99 cannot be used"),
        (["--scheduler", ""], "must not be empty"),
        (["--out", ""], "must name a file or folder"),
        (["--out", "-"], "must name a file or folder"),
        (["--out", "a" * 300], "255 bytes"),
        (["--name", "x" * 99 + "{seed}", "--orbit", "y" * 200 + ".mp4"], "shorten it"),
    ],
)
def test_values_are_refused_before_a_model_is_loaded(invoke, flags, message):
    ran = invoke("generate", "sea", *flags)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert message in " ".join(ran.stderr.replace("│", " ").split())
    assert not Path("outputs").exists()


def test_photos_of_impossible_names_are_refused(invoke):
    ran = invoke("depth", "x" * 300 + ".png")
    assert ran.exit_code == 2 and "at most 255 bytes" in ran.stderr


def test_columns_are_refused_alike(invoke):
    for column, value in (("steps", 100000), ("seed", 10**20), ("guidance", "inf"), ("depth", "a" * 300)):
        Path("rows.jsonl").write_text(json.dumps({"prompt": "sea", column: value}))
        ran = invoke("generate", "--prompts", "rows.jsonl")
        assert ran.exit_code == 2 and f"rows.jsonl line 1: {column}" in ran.stderr


def test_photos_of_which_none_can_be_read_are_refused_before_a_model_is_loaded(invoke):
    for name in ("a.png", "b.jpg"):
        Path(name).write_bytes(b"no picture")
    ran = invoke("depth", "a.png", "b.jpg")
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert [line for line in ran.stderr.splitlines() if line.startswith("error")] == [
        "error: item 0 (a.png): a.png is not an image",
        "error: item 1 (b.jpg): b.jpg is not an image",
    ]


@pytest.mark.parametrize("flags", [[], ["--name", "{prompt}_{seed}", "--json"]])
def test_a_long_plan_streams(start, flags):
    with start("generate", "sea", "--count", "10000000", "--dry-run", *flags) as process:
        assert "sea" in process.stdout.readline()
        process.stdout.close()
        assert (process.wait(30), process.stderr.read()) == (1, "")


@pytest.mark.parametrize(
    "command",
    [
        ["train", "diorama/base"],
        ["prepare", "worlds", "--count", "2"],
        ["evaluate", "depth", "--shards", "worlds"],
        ["generate", "sea"],
    ],
)
def test_no_command_writes_into_a_file(invoke, command, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    Path("file").touch()
    for name in ("file", "file/x", "/dev/null"):
        ran = invoke(*command, "--out", name)
        assert (ran.exit_code, ran.stdout) == (2, "")
        assert ran.stderr.startswith("error: ") and "Error" not in ran.stderr and name.removesuffix("/x") in ran.stderr


@pytest.mark.parametrize(
    "command", [["train", "diorama/base"], ["models", "export", "diorama"], ["models", "import", "diorama"]]
)
def test_no_command_writes_to_an_empty_name_or_a_stream(invoke, command):
    for name in ("", "-"):
        ran = invoke(*command, "--out", name)
        assert (ran.exit_code, ran.stdout) == (2, "")
        assert ran.stderr.startswith(f"error: --out must name a file or folder, got {name!r}\n")


@pytest.mark.parametrize(
    "command",
    [
        ["prepare", "worlds", "--count", "3", "--label", "depth=midas"],
        ["evaluate", "autoencoder", "--shards", "worlds"],
        ["evaluate", "depth", "--shards", "worlds"],
        ["view", "photo.png", "--layers"],
    ],
)
def test_every_command_refuses_a_device_that_is_not_there_before_it_imports_torch(invoke, command, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    ran = invoke(*command, "--device", "cuda:99")
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr.startswith("error: device cuda:99 cannot be used: ") and "hint: --device cpu" in ran.stderr
    assert invoke(*command, "--device", "gpu").stderr.startswith("error: --device must be cpu, cuda, a GPU by number")


def test_a_device_is_no_file_of_prompts_or_depth(invoke):
    for flags in (["--prompts", "/dev/zero"], ["sea", "--depth", "/dev/zero"]):
        ran = invoke("generate", *flags)
        assert ran.exit_code == 2 and "/dev/zero" in ran.stderr


def test_names_that_lead_nowhere_are_mistakes(invoke):
    Path("file").touch()
    for name in ("x" * 300, "file/x"):
        ran = invoke("generate", "--prompts", name)
        assert ran.exit_code == 2 and ran.stderr.startswith("error: ") and name in ran.stderr


def test_a_prompt_is_text(invoke):
    ran = invoke("generate", "sea \udcff", "--dry-run")
    assert (ran.exit_code, ran.stdout) == (2, "") and "PROMPT must be text in UTF-8" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", ""], "RECIPE must not be empty, got ''"),
        (["train", "diorama/base", "--set", "train.seed=1", "--set", ""], "--set must not be empty, got ''"),
        (["generate", "sea", "--model", ""], "--model must not be empty, got ''"),
        (["models", "show", ""], "MODEL must not be empty, got ''"),
        (["convert", "", "--to", "png"], "IN must not be empty, got ''"),
        (["depth", ""], "PHOTO must not be empty, got ''"),
        (["view", ""], "PATH must name a file or folder, got ''"),
        (["prepare", "worlds", "-n", "3", "--worker", "١/٣"], "--worker ١/٣: expected I/N with I from 1 to N"),
        (["evaluate", "depth", "--scheduler", "ddmi", "--shards", "x"], "unknown scheduler ddmi"),
        (["recipe", "copy", ""], "NAME must not be empty, got ''"),
        (["recipe", "copy", "depth", "-"], "FILE must name a file or folder, got '-'"),
        (["recipe", "copy", "depth", __file__ + "/x/"], f"{__file__} is not a folder"),
        (["evaluate", "depth", "--truth", ""], "--truth must name a file or folder, got ''"),
    ],
)
def test_values_of_other_commands_are_refused(invoke, arguments, message):
    ran = invoke(*arguments)
    assert (ran.exit_code, ran.stdout) == (2, "") and ran.stderr.startswith(f"error: {message}\n")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["generate", "sea", "--count", "3"], "--seed 18446744073709551613 or less"),
        (["depth", "small.png", "--ensemble", "2"], "--seed 18446744073709551614 or less"),
    ],
)
def test_the_last_seed_has_64_bits_too(invoke, arguments, hint):
    Image.new("RGB", (8, 8)).save("small.png")
    ran = invoke(*arguments, "--seed", str(2**64 - 1))
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr.splitlines()[1] == f"hint: {hint}"


def test_the_pixels_of_inputs_are_limited_by_a_flag_and_a_variable(invoke):
    Image.new("RGB", (20, 10)).save("a.png")
    for command in (["convert", "a.png", "--to", "png"], ["depth", "a.png"], ["view", "a.png", "--depth", "a.png"]):
        for given, variables in ((["--max-pixels", "199"], {}), ([], {"JOINTNET_MAX_PIXELS": "199"})):
            done = invoke(*command, *given, **variables)
            assert done.exit_code == 2
            assert "a.png has 20 x 10 pixels of 3 bytes, which is more than 199 pixels" in done.stderr
    assert invoke("convert", "a.png", "--to", "png").exit_code == 0, "the limit ends with its command"
