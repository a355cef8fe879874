"""`generate`, `depth` and `panorama` as a user runs them, on an untrained model and once on the embedded one."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _small_model(untrained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOINTNET_MODEL", str(untrained))


def paths(ran) -> list[Path]:
    assert ran.exit_code == 0, ran.stderr
    return [Path(line) for line in ran.stdout.splitlines()]


def photo(name: str, width: int = 96, height: int = 64) -> str:
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([rows * 2, columns * 2, rows + columns], axis=-1).astype(np.uint8)
    Image.fromarray(pixels).save(name)
    return name


def test_generate_prints_the_files_it_wrote(invoke):
    written = paths(invoke("generate", "ocean reef", "--steps", "2"))
    assert [path.name.split(".", 1)[1] for path in written] == ["image.png", "depth.png", "rgbd.exr", "metadata.json"]
    assert sorted(Path("outputs").iterdir()) == sorted(written)


def test_json_has_one_object_a_result(invoke):
    ran = invoke("generate", "--prompts", "-", "--steps", "1", "--seed", "3", "--json", stdin="reef\nsnowy hills\n")
    assert ran.exit_code == 0, ran.stderr
    results = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [(result["prompt"], result["seed"]) for result in results] == [("reef", 3), ("snowy hills", 4)]
    for result in results:
        assert set(result) == {"prompt", "seed", "seconds", "files"}
        assert result["seconds"] > 0
        assert all(Path(file).is_file() for file in result["files"].values())
        assert {"image", "depth", "exr", "metadata"} <= set(result["files"])


def test_the_plan_names_the_files_that_are_written(invoke):
    arguments = ["panorama", "sea", "--width", "96", "--steps", "1", "--json"]
    plan = json.loads(invoke(*arguments, "--dry-run").stdout)
    made = json.loads(invoke(*arguments).stdout)
    assert made["files"] == plan["files"]


@pytest.mark.parametrize("command", [["generate", "lake"], ["panorama", "lake", "--width", "96"], ["depth", "a.png"]])
def test_the_same_command_gives_the_same_bytes(invoke, command):
    photo("a.png")
    first, second = (paths(invoke(*command, "--steps", "2", "--no-metadata", "--out", out)) for out in ("a", "b"))
    assert [path.name for path in first] == [path.name for path in second]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


def test_item_n_of_a_batch_is_the_single_item_with_its_seed(invoke):
    batch = paths(invoke("generate", "lake", "--steps", "2", "--seed", "4", "--count", "2", "--out", "batch"))
    alone = paths(invoke("generate", "lake", "--steps", "2", "--seed", "5", "--out", "alone"))
    second = next(path for path in batch if path.name.startswith("00001_5_") and path.name.endswith("image.png"))
    # Together images differ in their last digits.
    assert np.abs(np.asarray(Image.open(second)).astype(int) - np.asarray(Image.open(alone[0]))).max() <= 1


def test_a_failed_photo_does_not_stop_the_rest(invoke):
    Path("broken.png").write_bytes(b"no picture")
    ran = invoke("depth", photo("a.png"), "broken.png", photo("c.png"), "--steps", "1", "--json")
    assert ran.exit_code == 1
    assert "error: item 1 (broken.png): " in ran.stderr
    assert "Traceback" not in ran.stderr
    assert [json.loads(line)["source"] for line in ran.stdout.splitlines()] == ["a.png", "c.png"]


def test_depth_keeps_the_photo_s_size(invoke):
    written = paths(invoke("depth", photo("a.png", 120, 72), "--steps", "1"))
    depth = Image.open(next(path for path in written if path.name.endswith("depth.png")))
    assert depth.size == (120, 72)
    assert depth.mode.startswith("I;16")


def test_a_panorama_has_the_width_asked_for_and_a_mesh(invoke):
    written = paths(invoke("panorama", "sea", "--width", "96", "--steps", "1"))
    assert Image.open(written[0]).width == 96
    assert any(path.suffix == ".glb" for path in written)


def test_a_size_that_the_model_refuses_is_said_once(invoke):
    ran = invoke("generate", "sea", "--width", "131", "--steps", "1", "--count", "3")
    assert ran.exit_code == 2
    assert ran.stderr.count("131") == 1
    assert not Path("outputs").exists()


def test_ctrl_c_leaves_nothing_half_written(start):
    process = start("generate", "lake", "--steps", "4", "--count", "500", "--json")
    first = json.loads(process.stdout.readline())
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    rest, faults = process.communicate(timeout=60)
    assert process.returncode == 130
    assert faults.endswith("interrupted\n")
    assert "Traceback" not in faults
    results = [first, *map(json.loads, rest.splitlines())]
    assert len(results) < 500
    reported = {Path(file) for result in results for file in result["files"].values()}
    present = set(Path("outputs").iterdir())
    assert reported <= present
    assert all(not path.name.startswith(".") for path in present)


def test_quiet_says_nothing_on_stderr(start):
    process = start("generate", "lake", "--steps", "1", "--quiet")
    written, words = process.communicate(timeout=120)
    assert process.returncode == 0
    assert written
    assert words == ""


def test_doctor_finds_the_model(invoke):
    ran = invoke("doctor", "--json")
    assert ran.exit_code == 0
    model = json.loads(ran.stdout)["model"]
    assert model["loads"] is True
    assert model["hash"]


@pytest.mark.parametrize("command", [["generate", "lake"], ["panorama", "reef", "--width", "512"], ["depth", "a.png"]])
def test_the_embedded_model_needs_no_settings(invoke, embedded, monkeypatch, command):
    monkeypatch.delenv("JOINTNET_MODEL")
    photo("a.png")
    written = paths(invoke(*command, "--steps", "1"))
    assert all(path.stat().st_size > 100 for path in written)


def test_a_file_that_appears_while_an_item_is_made_is_not_replaced(invoke, monkeypatch):
    from jointnet_cli.engine import Engine

    run = Engine.run

    def meanwhile(*arguments, **options):
        Path("outputs").mkdir()
        Path("outputs/00000_0_sea.image.png").write_bytes(b"another's")
        return run(*arguments, **options)

    monkeypatch.setattr(Engine, "run", meanwhile)
    ran = invoke("generate", "sea", "--steps", "1")
    assert ran.exit_code == 2 and "00000_0_sea.image.png exists already" in ran.stderr
    assert [path.read_bytes() for path in Path("outputs").iterdir()] == [b"another's"]
