from __future__ import annotations

import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import tables
from PIL import Image
from typer.testing import Result

from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.commands.panorama import PanoramaEvaluation
from jointnet_cli.evaluation.metrics.panoramas import intra_distance, square_crops
from jointnet_cli.files.images import write_png
from jointnet_cli.model.perceptual import Perceptual, open_perceptual

pytestmark = pytest.mark.slow

INTRA = "intra ST-LPIPS (AlexNet)"


@pytest.fixture(scope="module")
def perceptual() -> Perceptual:
    return open_perceptual()


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prompts") / "prompts.txt"
    path.write_text("a lake\nocean reef\n")
    return path


@pytest.fixture
def evaluate(tiny_folder: Callable[[str], Path], prompts: Path, tmp_path: Path) -> Callable[..., Result]:
    """Run `jointnet evaluate panorama` on a tiny model, two prompts, one seed and two steps."""
    fixed = ["--model", str(tiny_folder("masked")), "--device", "cpu", "--prompts", str(prompts), "--seeds", "1"]

    def run(*arguments: str) -> Result:
        return tables.evaluate("panorama", *fixed, "--steps", 2, "--out", tmp_path / "out", *arguments)

    return run


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((height, width, 3), dtype=np.float32)


def test_crops_are_squares_side_by_side() -> None:
    picture = noise(8, 32)
    crops = square_crops(picture)
    assert crops.shape == (4, 8, 8, 3)
    np.testing.assert_array_equal(np.concatenate(list(crops), axis=1), picture)


def test_crops_reach_from_end_to_end_without_overlap() -> None:
    picture = np.broadcast_to(np.arange(31, dtype=np.float32)[None, :, None], (8, 31, 3))
    columns = square_crops(picture)[:, 0, :, 0]
    assert columns.tolist() == [list(range(left, left + 8)) for left in (0, 11, 23)]
    with pytest.raises(UserError, match="twice as wide"):
        square_crops(noise(8, 15))


def test_intra_distance_of_identical_crops_is_zero(perceptual: Perceptual) -> None:
    assert intra_distance(perceptual, np.tile(noise(32, 32), (1, 4, 1))) == 0


def test_intra_distance_is_the_mean_of_all_six_pairs(perceptual: Perceptual) -> None:
    crops = [noise(32, 32, seed) for seed in range(4)]
    tensors = [torch.from_numpy(crop).permute(2, 0, 1)[None] for crop in crops]
    distances = [perceptual(*pair).item() for pair in combinations(tensors, 2)]
    assert len(distances) == 6
    assert intra_distance(perceptual, np.concatenate(crops, axis=1)) == pytest.approx(np.mean(distances), rel=1e-5)


def test_every_panorama_has_a_seed_of_its_own() -> None:
    cases = PanoramaEvaluation(seeds=3, prompts=None).cases
    drawn = [(cases[number].prompt, cases[number].seed) for number in range(len(cases))]
    assert len(drawn) == 48 == len({seed for _, seed in drawn})
    assert [prompt for prompt, _ in drawn] == 3 * cases.prompts


def test_the_four_methods(evaluate: Callable[..., Result], tmp_path: Path) -> None:
    answer = evaluate("--json", "--limit", "1", "--preset", "paper")
    assert answer.exit_code == 0, answer.output
    table = json.loads(answer.stdout)
    rows = table["rows"]
    # The paper's strides of 8, 16 and 32 at a window of 64 latent pixels, at one of 16.
    assert {name: row["stride"] for name, row in rows.items()} == {
        "direct": None,
        "multidiffusion": 2,
        "syncdiffusion": 4,
        "jointnet": 8,
    }
    assert all(row["seconds"]["value"] > 0 and row[INTRA]["value"] > 0 for row in rows.values())
    assert rows["direct"]["image seam"] is None and rows["jointnet"]["depth seam"]["count"] == 1
    assert "not LPIPS" in table["facts"]["syncdiffusion"]
    with Image.open(tmp_path / "out" / "sheet.png") as sheet:
        assert sheet.width > 4 * 480
    with Image.open(next((tmp_path / "out" / "items").glob("jointnet-*/00000.image.png"))) as picture:
        assert picture.size == (128, 32)


def test_what_is_finished_is_not_made_again(evaluate: Callable[..., Result], tmp_path: Path) -> None:
    rows = ["--method", "jointnet"]
    assert evaluate(*rows, "--limit", "1").exit_code == 0
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "items").rglob("*.*")}
    # Further panoramas and another distance, but the same picture.
    assert evaluate(*rows, "--perceptual", "st-lpips-vgg").exit_code == 0
    assert all(path.stat().st_mtime_ns == time for path, time in made.items())
    assert len(list((tmp_path / "out" / "items").rglob("*.image.png"))) == 2
    assert evaluate(*rows, "--width", "64").exit_code == 2


def test_a_closed_panorama_has_a_wrap_seam(evaluate: Callable[..., Result]) -> None:
    row = json.loads(evaluate("--json", "--wrap", "--method", "direct").stdout)["rows"]["direct"]
    assert row["image wrap seam"]["count"] == 2


def test_all_seams(evaluate: Callable[..., Result]) -> None:
    row = json.loads(evaluate("--json", "--limit", "1", "--all-seams", "--method", "jointnet").stdout)["rows"][
        "jointnet"
    ]
    further = {f"{name} {place}" for name in ("image", "depth") for place in ("stride grid", "seam, 95th percentile")}
    assert further <= {name for name, cell in row.items() if isinstance(cell, dict) and cell["value"] > 0}


def test_finished_pictures_are_compared_too(evaluate: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    write_png(tmp_path / "theirs" / "a.png", np.tile(noise(32, 32), (1, 4, 1)))
    answer = evaluate("--json", "--method", f"theirs=folder:{tmp_path / 'theirs'}")
    row = json.loads(answer.stdout)["rows"]["theirs"]
    assert row[INTRA]["value"] == 0
    assert row["seconds"] is None


def test_faults_are_found_before_anything_is_drawn(evaluate: Callable[..., Result], tmp_path: Path) -> None:
    for arguments, message in [
        (("--method", "multidifusion"), "did you mean multidiffusion"),
        (("--width", "40"), "must be at least twice as wide as high"),
        (("--perceptual", "lpips"), "no perceptual distance"),
        (("--method", "folder:nowhere"), "no folder nowhere"),
    ]:
        answer = evaluate(*arguments)
        assert answer.exit_code == 2 and message in answer.stderr, answer.output
        assert not list((tmp_path / "out").rglob("*.image.png"))
