"""Batches that are run again: `--skip-existing`, `--name`, and photos whose results depend on nothing but themselves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _small_model(untrained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOINTNET_MODEL", str(untrained))
    monkeypatch.setenv("JOINTNET_STEPS", "1")


def photo(path: str, shade: int = 0) -> None:
    Path(path).parent.mkdir(exist_ok=True)
    rows, columns = np.mgrid[:32, :40]
    Image.fromarray(np.stack([rows, columns, rows * 0 + shade], axis=-1).astype(np.uint8)).save(path)


def lines(ran) -> list[dict]:
    assert ran.exit_code == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


def stamps() -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in Path("photos").iterdir()}


def test_a_photo_that_is_added_changes_nothing_else(invoke):
    photo("photos/b.png", 50)
    photo("photos/été.png", 90)
    command = ["depth", "photos", "--out", "photos", "--seed", "3", "--json"]
    first = lines(invoke(*command, "--skip-existing"))
    assert [(Path(line["files"]["depth"]).name, line["seed"]) for line in first] == [
        ("b.depth.png", 3),
        ("été.depth.png", 3),
    ]
    before = stamps()
    for path in ("photos/a.png", "photos/B.png"):
        photo(path, 70)
    second = lines(invoke(*command, "--skip-existing"))
    # The new photos alone: neither results nor their maps are photos, and B.png and b.png stay apart.
    assert [line["source"] for line in second] == ["photos/B.png", "photos/a.png"]
    assert Path(second[0]["files"]["depth"]).name.startswith("B-")
    assert {name: stamp for name, stamp in stamps().items() if name in before} == before
    assert lines(invoke(*command, "--skip-existing", "--dry-run")) == []
    # The same photo gives the same result alone.
    (alone,) = lines(invoke("depth", "photos/été.png", "--seed", "3", "--out", "alone", "--json"))
    assert Path(alone["files"]["depth"]).read_bytes() == Path("photos/été.depth.png").read_bytes()
    photo("photos/b.png", 51)
    ran = invoke("depth", "photos/a.depth.png")
    assert ran.exit_code == 2 and "a.depth.png was made by an earlier run" in ran.stderr


def test_a_photo_of_the_same_name_from_another_folder_is_made_beside_it(invoke):
    photo("b/sea.png", 20)
    photo("a/sea.png", 10)
    command = ["depth", "--skip-existing", "--json"]
    (first,) = lines(invoke(*command, "b/sea.png"))
    assert Path(first["files"]["depth"]).name == "sea.depth.png"
    ran = invoke(*command, "a/sea.png")
    (second,) = lines(ran)
    assert Path(second["files"]["depth"]).name.startswith("sea-")
    ran = invoke(*command, "a", "b")
    assert lines(ran) == [] and "2 of 2 exist already" in ran.stderr
    Path(second["files"]["depth"]).unlink()
    ran = invoke(*command, "b", "a")
    assert lines(ran)[0]["files"] == second["files"]
    assert "2/2 sea: " in ran.stderr
    assert "sea.depth.png exists already" in invoke("depth", "a/sea.png").stderr


def test_only_missing_and_incomplete_results_are_made(invoke):
    command = ["generate", "--prompts", "-", "--skip-existing", "--json"]
    prompts = "reef\nlake\nhut\nsea\n"
    made = lines(invoke(*command, stdin=prompts))
    files = [{key: Path(path) for key, path in line["files"].items()} for line in made]
    files[0]["metadata"].unlink()
    files[1]["depth"].unlink()
    files[2]["metadata"].write_text('{"files": ')
    kept = files[3]["image"].stat().st_mtime_ns
    ran = invoke(*command, stdin=prompts)
    assert [line["prompt"] for line in lines(ran)] == ["reef", "lake", "hut"]
    assert "1 of 4 exist already" in ran.stderr
    assert all(path.is_file() for paths in files for path in paths.values())
    assert files[3]["image"].stat().st_mtime_ns == kept
    ran = invoke(*command, "--viewer", stdin="reef\n")
    assert list(lines(ran)[0]["files"])[-2:] == ["viewer", "metadata"], "a result without a file that is asked for"


def test_nothing_to_do_loads_no_model(invoke, monkeypatch):
    lines(invoke("generate", "reef", "--json"))
    from jointnet_cli.engine import Engine

    monkeypatch.setattr(Engine, "open", lambda *_, **__: pytest.fail("the model was loaded"))
    assert lines(invoke("generate", "reef", "--skip-existing", "--json")) == []


def test_results_of_another_request_are_not_taken_for_done(invoke):
    lines(invoke("generate", "reef", "--name", "x", "--json"))
    for flags, words in ((["--skip-existing"], "is the record of another result"), ([], "exists already")):
        ran = invoke("generate", "lake", "--name", "x", *flags)
        assert ran.exit_code == 2 and words in ran.stderr


def test_names_by_a_template(invoke):
    ran = invoke("generate", "Ocean reef", "--name", "{prompt}_{seed}", "--count", "2", "--dry-run", "--json")
    assert [Path(line["files"]["image"]).name for line in lines(ran)] == [
        "ocean-reef_0.image.png",
        "ocean-reef_1.image.png",
    ]
    ran = invoke("generate", "reef", "--name", "{prompt}", "--count", "2", "--dry-run", "--json")
    assert len({line["files"]["image"] for line in lines(ran)}) == 2
    ran = invoke("generate", "reef", "--name", "{slug}", "--dry-run")
    assert ran.exit_code == 2 and "no field {slug}" in ran.stderr and "prompt, image, title" in ran.stderr
    ran = invoke("generate", "reef", "--skip-existing", "--overwrite", "--dry-run")
    assert ran.exit_code == 2 and "--overwrite" in ran.stderr
