from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import tables
from torchmetrics.functional.classification import binary_auroc
from typer.testing import CliRunner, Result

from jointnet_cli.cli import app
from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.captions import read_prompts
from jointnet_cli.evaluation.judge.prompts import fixed_prompts, prompts_of_all_biomes
from jointnet_cli.evaluation.metrics.consistency import (
    SHIFTS,
    angle_to_normals,
    contrast,
    edge_auc,
    edge_strength,
    wrap_seam,
)
from jointnet_cli.evaluation.metrics.normals import pinhole
from jointnet_cli.files.images import write_grey_png, write_png

pytestmark = pytest.mark.slow

Evaluate = Callable[..., Result]


def plane(height: int, width: int, normal: tuple[float, float, float]) -> np.ndarray:
    """The inverse depth of a plane at one unit from a camera of 60 degrees: 1 / Z = -(n, ray), rays along (x, y, -1)."""
    focal = pinhole(height, width, 60)[0, 0]
    x = (np.arange(width) + 0.5 - width / 2) / focal
    y = (height / 2 - np.arange(height) - 0.5)[:, None] / focal
    n = np.array(normal) / np.linalg.norm(normal)
    return -(n[0] * x + n[1] * y - n[2])


def step(at: int, side: int = 32) -> np.ndarray:
    """0 to the left of a column, 1 from it on."""
    return np.broadcast_to((np.arange(side) >= at).astype(np.float32), (side, side))


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=-1)


def test_a_plane_has_no_edges() -> None:
    slanted = plane(24, 32, (0.3, 0.5, 0.8)).astype(np.float32)
    assert edge_strength(slanted).max() < 1e-6
    assert edge_auc(np.random.default_rng(0).random((24, 32, 3)), slanted) is None


def test_depth_edges_at_image_edges_are_found_and_elsewhere_not() -> None:
    depth = step(16)
    assert edge_auc(grey(depth), depth) > 0.95
    assert edge_auc(grey(step(8)), depth) < 0.5
    assert edge_auc(np.zeros((32, 32, 3)), depth) == 0.5


def test_edges_do_not_depend_on_scale_and_shift() -> None:
    generator = np.random.default_rng(1)
    image, depth = generator.random((32, 40, 3)), generator.random((32, 40))
    assert edge_auc(image, depth) == pytest.approx(edge_auc(image, 7 * depth - 3))


def test_edge_auc_is_the_area_under_the_roc_curve() -> None:
    """Against torchmetrics, with a slow maximum filter."""
    generator = np.random.default_rng(2)
    image, depth = generator.random((20, 24, 3)), generator.random((20, 24))
    strength = edge_strength(depth)
    edges = strength > np.quantile(strength, 0.95)
    wide = np.pad(contrast(image), 1)
    found = np.array([[wide[y : y + 3, x : x + 3].max() for x in range(24)] for y in range(20)])
    expected = binary_auroc(torch.from_numpy(found / found.max()).flatten(), torch.from_numpy(edges).flatten().long())
    assert edge_auc(image, depth) == pytest.approx(expected.item(), abs=1e-6)


def test_the_normals_of_a_plane_follow_from_its_disparity() -> None:
    """At any scale, and at the one shift that is right."""
    normal = (0.2, 0.6, 0.7)
    shift = SHIFTS[9]
    inverse = plane(30, 40, normal)
    disparity = (inverse / inverse.max() * (0.9 + shift) - shift).astype(np.float32)
    assert disparity.min() > 0.01
    told = np.broadcast_to(np.array(normal) / np.linalg.norm(normal), (30, 40, 3)).astype(np.float32)
    assert angle_to_normals(disparity, told) < 0.01
    assert angle_to_normals(disparity, np.zeros_like(told)) is None


def test_another_plane_is_off_by_its_angle() -> None:
    turn = np.radians(25)
    facing = np.full((30, 40), 0.5, dtype=np.float32)
    told = np.broadcast_to(np.array([np.sin(turn), 0, np.cos(turn)]), (30, 40, 3)).astype(np.float32)
    assert angle_to_normals(facing, told) == pytest.approx(25, abs=1e-3)


def test_sky_and_what_is_cut_off_have_no_slope() -> None:
    normal = np.zeros((8, 8, 3), dtype=np.float32)
    normal[..., 2] = 1
    assert angle_to_normals(np.zeros((8, 8), dtype=np.float32), normal) is None
    assert angle_to_normals(np.ones((8, 8), dtype=np.float32), normal) is None


def test_the_wrap_seam_of_a_ramp() -> None:
    """Its columns differ by one, its ends by the width less one; between two ramps the other's beginning counts."""
    ramp = np.broadcast_to(np.arange(16, dtype=np.float32), (4, 16))
    assert wrap_seam(ramp, ramp, 1) == pytest.approx(15)
    assert wrap_seam(ramp, ramp + 10, 1) == pytest.approx(5)


def test_the_first_prompts_are_of_all_biomes() -> None:
    biomes = {prompt.text: prompt.biome for prompt in fixed_prompts()}
    mixed = prompts_of_all_biomes()
    assert sorted(mixed) == sorted(prompt.text for prompt in fixed_prompts())
    assert len({biomes[text] for text in mixed[:10]}) == 10


def test_prompts_of_a_table(tmp_path: Path) -> None:
    (tmp_path / "prompts.csv").write_text("prompt,seed\na lake,3\n,4\n")
    with pytest.raises(UserError, match=r"prompts\.csv line 3: no prompt"):
        read_prompts(str(tmp_path / "prompts.csv"))
    (tmp_path / "prompts.csv").write_text("prompt,seed\na lake,3\n")
    assert read_prompts(str(tmp_path / "prompts.csv")) == ["a lake"]


@pytest.fixture
def evaluate(tmp_path: Path) -> Evaluate:
    def run(*arguments: str) -> Result:
        return tables.evaluate("consistency", "--out", tmp_path / "out", "--device", "cpu", *arguments)

    return run


def test_a_model_with_normals(evaluate: Evaluate, tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    model = ["--method", f"ours=jointnet:{tiny_folder('depth-normal')}", "--steps", "1", "--panoramas", "2"]
    answer = evaluate("--json", "--samples", "2", *model)
    assert answer.exit_code == 0, answer.output
    table = json.loads(answer.stdout)
    own, shuffled = table["rows"]["ours"], table["rows"]["ours, shuffled"]
    assert all(cell["count"] == 2 for row in (own, shuffled) for cell in row.values())
    assert all(own[name]["value"] != shuffled[name]["value"] for name in own)
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "items").rglob("*.*")}
    assert evaluate("--samples", "3", *model).exit_code == 0
    assert all(path.stat().st_mtime_ns == time for path, time in made.items())
    assert len(list((tmp_path / "out" / "items").rglob("*.again.png"))) == 3


def test_true_maps_are_consistent_and_those_of_others_are_not(evaluate: Evaluate, evaluation_shards: Path) -> None:
    rows = json.loads(evaluate("--json", "--method", f"worlds=shards:{evaluation_shards}").stdout)["rows"]
    own, shuffled = rows["worlds"], rows["worlds, shuffled"]
    assert own["edge AUC"]["count"] == 8
    assert own["edge AUC"]["value"] > shuffled["edge AUC"]["value"] + 0.1
    assert own["depth to normals, °"]["value"] < shuffled["depth to normals, °"]["value"] / 2
    assert own["image wrap seam"] is None


def test_finished_results_are_measured_too(evaluate: Evaluate, tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    for number in range(2):
        depth = step(12 + number)
        write_png(folder / f"{number}.image.png", grey(depth))
        write_grey_png(folder / f"{number}.depth.png", depth)
    rows = json.loads(evaluate("--json", "--method", f"theirs=folder:{folder}").stdout)["rows"]
    assert rows["theirs"]["edge AUC"]["value"] > 0.95
    assert rows["theirs"]["re-predicted depth, Pearson"] is None


def test_numbers_beside_pictures_are_depth_and_no_normals(evaluate: Evaluate, tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    for number in range(2):
        depth = step(12 + number)
        write_png(folder / f"{number}.png", grey(depth))
        np.save(folder / f"{number}.npy", depth)
    answer = evaluate("--json", "--method", f"theirs=folder:{folder}")
    assert answer.exit_code == 0, answer.stderr
    row = json.loads(answer.stdout)["rows"]["theirs"]
    assert row["edge AUC"]["count"] == 2 and row["depth to normals, °"] is None


def test_prompts_of_stdin(tmp_path: Path, evaluation_shards: Path) -> None:
    method, out = ["--method", f"worlds=shards:{evaluation_shards}"], ["--out", str(tmp_path / "out")]
    command = ["evaluate", "consistency", "--prompts", "-", "--samples", "2", "--json", *method, *out]
    ran = CliRunner().invoke(app, command, input="a lake\nocean reef\n")
    assert ran.exit_code == 0, ran.stderr
    assert json.loads((tmp_path / "out/settings.json").read_text())["prompts"] == ["a lake", "ocean reef"]


def test_a_model_without_depth_is_refused(evaluate: Evaluate, tiny_folder: Callable[[str], Path]) -> None:
    answer = evaluate("--method", f"jointnet:{tiny_folder('base')}")
    assert answer.exit_code == 2
    assert "has no depth branch" in answer.stderr
