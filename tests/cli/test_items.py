"""Items of a batch that go through the network together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jointnet_cli.engine import Engine

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _small_model(untrained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOINTNET_MODEL", str(untrained))
    monkeypatch.setenv("JOINTNET_STEPS", "2")


@pytest.fixture
def portions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many requests the engine got at once."""
    seen: list[int] = []
    run_all = Engine.run_all

    def noted(engine, tasks, progress=None):
        seen.append(len(tasks))
        return run_all(engine, tasks, progress)

    monkeypatch.setattr(Engine, "run_all", noted)
    return seen


def photo(path: str, shade: int) -> None:
    rows, columns = np.mgrid[:32, :40]
    Image.fromarray(np.stack([rows, columns, rows * 0 + shade], axis=-1).astype(np.uint8)).save(path)


def results(folder: str) -> dict[str, np.ndarray]:
    return {path.name: np.asarray(Image.open(path)).astype(int) for path in Path(folder).glob("*.png")}


def test_images_made_together_are_those_made_alone(invoke, portions):
    Path("prompts.csv").write_text("prompt,seed,width\nreef,3,\nhills,7,\nhills,7,64\nsnow,9,\n")
    together = invoke("generate", "--prompts", "prompts.csv", "--count", "3", "--out", "a", "--json")
    assert (together.exit_code, portions) == (0, [8, 4])  # of the wide ones the device takes 8
    alone = invoke("generate", "--prompts", "prompts.csv", "--count", "3", "--out", "b", "--json", "--tile-batch", "1")
    assert (alone.exit_code, portions[2:]) == (0, [1] * 12)
    first, second = results("a"), results("b")
    assert first.keys() == second.keys() and len(first) == 24
    for name, values in first.items():
        assert values.shape == second[name].shape
        assert np.abs(values - second[name]).max() <= (1 if "image" in name else 8), name  # of 255, of 65,535
    records = [[json.loads(line) for line in ran.stdout.splitlines()] for ran in (together, alone)]
    assert [line["prompt"] for line in records[0]] == [line["prompt"] for line in records[1]]
    settings = [json.loads(path.read_text())["settings"] for path in sorted(Path("a").glob("*.json"))]
    assert {each["evaluations"] for each in settings} == {4.0}
    # Off a terminal every item has its own line, with its part of the seconds.
    said = [line for line in together.stderr.splitlines() if line[0].isdigit() and "/12 " in line]
    assert len(said) == 12 and sum("load the model" in line for line in said) == 1


def test_photos_go_together_where_tile_batch_says_so(invoke, portions):
    Path("photos").mkdir()
    for number in range(3):
        photo(f"photos/{number}.png", 40 * number)
    Path("photos/1b.png").write_bytes(Path("photos/1.png").read_bytes()[:50])
    ran = invoke("depth", "photos", "--tile-batch", "8", "--out", "a", "--json")
    assert ran.exit_code == 1 and "1b.png" in ran.stderr
    assert [json.loads(line)["source"] for line in ran.stdout.splitlines()] == [f"photos/{n}.png" for n in range(3)]
    assert portions == [3]
    portions.clear()
    assert invoke("depth", *(f"photos/{n}.png" for n in range(3)), "--out", "b").exit_code == 0
    assert portions == [1, 1, 1]
    for name, values in results("b").items():
        assert np.abs(values - results("a")[name]).max() <= (1 if "preview" in name else 8), name


def test_what_cannot_be_made_together_is_made_alone(invoke, monkeypatch):
    generate_all = Engine._generate_all

    def narrow(engine, tasks, progress):
        if len(tasks) > 1 or tasks[0].seed == 2:
            raise RuntimeError("too much")
        return generate_all(engine, tasks, progress)

    monkeypatch.setattr(Engine, "_generate_all", narrow)
    ran = invoke("generate", "reef", "--count", "4", "--json")
    assert ran.exit_code == 1
    assert [json.loads(line)["seed"] for line in ran.stdout.splitlines()] == [0, 1, 3]
    assert "item 2 (reef): unexpected RuntimeError: too much" in ran.stderr
