"""`jointnet evaluate normal`: angles in closed form, normals of planes and of worlds' true depth."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers import tables
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.cases import ShardCases
from jointnet_cli.evaluation.metrics.normals import normal_errors, normals_of, pinhole
from jointnet_cli.files.images import write_normal_png

evaluate = partial(tables.evaluate, "normal", "--json", "--quiet")


def towards_viewer(height: int, width: int) -> np.ndarray:
    return np.tile(np.array([0, 0, 1.0]), (height, width, 1))


def test_angles_by_hand() -> None:
    truth = towards_viewer(1, 6)
    degrees = np.array([0, 10, 20, 25, 60, 90])
    predicted = np.stack([np.sin(np.radians(degrees)), np.zeros(6), np.cos(np.radians(degrees))], axis=-1)[None]
    predicted[0, 5] = 0  # no surface where there is one: a right angle off
    errors = normal_errors(predicted, truth)
    assert errors.mean == pytest.approx(205 / 6) and errors.median == pytest.approx(22.5)
    assert (errors.within_11_25, errors.within_22_5, errors.within_30) == pytest.approx((2 / 6, 3 / 6, 4 / 6))


def test_pixels_without_a_true_normal_do_not_count() -> None:
    truth, predicted = towards_viewer(2, 2), towards_viewer(2, 2)
    truth[0, 0], predicted[0, 0] = 0, (1, 0, 0)
    assert normal_errors(predicted, truth).mean == 0
    with pytest.raises(UserError, match="no normal"):
        normal_errors(predicted, np.zeros_like(truth))
    with pytest.raises(UserError, match="finite"):
        normal_errors(predicted * np.nan, truth)
    with pytest.raises(UserError, match="predicted normals are"):
        normal_errors(predicted[:1], truth)


@settings(max_examples=30, deadline=None)
@given(x=st.floats(-0.7, 0.7), y=st.floats(-0.7, 0.7), away=st.floats(0.5, 50), field=st.floats(30, 100))
def test_the_normals_of_a_plane_are_exact(x: float, y: float, away: float, field: float) -> None:
    """A plane through (0, 0, -away) in x right, y up, z towards the viewer; only where it is before the camera."""
    normal = np.array([x, y, 1]) / np.linalg.norm([x, y, 1])
    height, width = 20, 30
    camera = pinhole(height, width, field)
    right = (np.arange(width) + 0.5 - camera[0, 2]) / camera[0, 0]
    up = -(np.arange(height) + 0.5 - camera[1, 2])[:, None] / camera[1, 1]
    facing = normal[2] - normal[0] * right - normal[1] * up
    inverse_depth = (facing / (away * normal[2])).clip(0)
    found = normals_of(inverse_depth, camera)
    there = np.linalg.norm(found, axis=-1) > 0
    np.testing.assert_allclose(found[there], np.broadcast_to(normal, found.shape)[there], atol=1e-5)
    assert there[inverse_depth > 0].mean() > 0.5


def test_a_hole_has_no_normal_nor_have_its_neighbours() -> None:
    inverse_depth = np.ones((5, 5))
    inverse_depth[2, 2] = 0
    there = np.linalg.norm(normals_of(inverse_depth, pinhole(5, 5, 60)), axis=-1) > 0
    cross = np.array([[abs(row - 2) + abs(column - 2) <= 1 for column in range(5)] for row in range(5)])
    np.testing.assert_array_equal(there, ~cross)


def test_true_depth_of_worlds_has_their_true_normals(evaluation_shards: Path) -> None:
    """Two independent outputs of the renderer agree: axes, camera and signs are right."""
    scenes = ShardCases(evaluation_shards, "normal")
    medians = []
    for number in range(len(scenes)):
        scene = scenes[number]
        assert scene.normal is not None and scene.inverse_depth is not None and scene.intrinsics is not None
        medians.append(normal_errors(normals_of(scene.inverse_depth, scene.intrinsics), scene.normal).median)
    assert np.median(medians) < 2


def test_rows_on_reserved_worlds(tmp_path: Path, evaluation_shards: Path, tiny_folder: Callable[[str], Path]) -> None:
    joint, depth, maps = tiny_folder("depth-normal"), tiny_folder("depth"), tmp_path / "maps"
    maps.mkdir()
    scenes = ShardCases(evaluation_shards, "normal")
    for number in range(2):
        scene = scenes[number]
        assert scene.normal is not None and scene.inverse_depth is not None
        write_normal_png(maps / f"{scene.key}.normal.png", scene.normal)
        np.save(maps / f"{scene.key}.depth.npy", scene.inverse_depth)
    command = [
        *("--shards", str(evaluation_shards), "--limit", "2", "--steps", "1", "--out", str(tmp_path / "out")),
        *(
            "--method",
            f"ours=jointnet:{joint}",
            "--method",
            f"depth=from-depth:{depth}",
            "--method",
            f"true=folder:{maps}",
        ),
        *("--method", f"true depth=from-depth:folder:{maps}?kind=disparity", "--method", "flat=from-depth:constant"),
    ]
    result = evaluate(*command)
    assert result.exit_code == 0, result.stderr
    table = json.loads(result.stdout)
    mean = {name: cells["mean angle, °"]["value"] for name, cells in table["rows"].items()}
    assert list(mean) == ["ours", "depth", "true", "true depth", "flat"]
    assert mean["true"] < 1 < mean["true depth"] < min(mean["ours"], mean["depth"], mean["flat"])
    assert table["rows"]["true"]["< 11.25°"]["value"] == 1
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("out/items/*/*")}
    assert json.loads(evaluate(*command).stdout)["rows"] == table["rows"] and len(before) == 10
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("out/items/*/*")} == before


def test_normals_of_depth_that_has_seen_the_truth_do_not_compete(tmp_path: Path, evaluation_shards: Path) -> None:
    methods = [word for kind in ("reduced:2", "reduced:8", "constant") for word in ("--method", f"from-depth:{kind}")]
    result = evaluate("--shards", evaluation_shards, "--limit", 2, *methods, "--out", tmp_path)
    assert result.exit_code == 0, result.stderr
    assert "**" not in (tmp_path / "table.md").read_text()


def test_a_folder_of_normals_and_what_is_assumed_of_depth(tmp_path: Path) -> None:
    truth, depth = tmp_path / "truth", tmp_path / "depth"
    for folder in (truth / "images", truth / "normals", depth):
        folder.mkdir(parents=True)
    Image.new("RGB", (24, 16), "grey").save(truth / "images/wall.jpg")
    write_normal_png(truth / "normals/wall.png", towards_viewer(16, 24).astype(np.float32))
    np.save(depth / "wall.npy", np.full((16, 24), 0.5))
    result = evaluate(
        "--truth", str(truth), "--method", f"wall=from-depth:folder:{depth}", "--out", str(tmp_path / "out")
    )
    assert result.exit_code == 0, result.stderr
    table = json.loads(result.stdout)
    assert table["rows"]["wall"]["mean angle, °"]["value"] < 0.5
    assert table["facts"]["rows"]["wall"]["field of view"] == "60° assumed"
    assert table["facts"]["rows"]["wall"]["range of depth"] == "1 to 30 assumed"


def test_mistakes_are_said(tmp_path: Path, evaluation_shards: Path, tiny_folder: Callable[[str], Path]) -> None:
    shards = ("--shards", str(evaluation_shards), "--out", str(tmp_path / "out"))
    for arguments, words in {
        (): "no ground truth",
        (*shards, "--method", f"jointnet:{tiny_folder('masked')}"): "no normal branch",
        (*shards, "--method", "constant"): "unknown method kind 'constant'",
        (*shards, "--method", "from-depth:nowhere"): "nowhere",
    }.items():
        result = evaluate(*arguments)
        assert result.exit_code == 2 and words in result.stderr, result.stderr
    bare = tables.evaluate("normal")
    assert "no ground truth" in bare.stderr, "a command with defaults for all runs without words too"
