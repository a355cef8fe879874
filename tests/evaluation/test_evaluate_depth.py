"""`jointnet evaluate depth`: its errors against peers, every kind of truth and row, and that nothing is made twice."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from helpers import tables
from helpers.shards import read_shards, write_shard, write_tar
from helpers.tables import values
from helpers.teachers import save_dpt
from numpy.typing import NDArray
from PIL import Image
from torch import distributed
from torchmetrics.functional import mean_absolute_percentage_error, mean_squared_error

from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.captions import Caption
from jointnet_cli.evaluation.cases import FolderCases, Middlebury, ShardCases
from jointnet_cli.evaluation.folders import read_predicted_depth, read_true_depth
from jointnet_cli.evaluation.joint_methods import DEPTH
from jointnet_cli.evaluation.judge.classifier import load_labelled
from jointnet_cli.evaluation.methods import MethodSettings, open_method
from jointnet_cli.evaluation.metrics.depth import at_size, depth_errors
from jointnet_cli.files.exr import write_exr
from jointnet_cli.projection import Projection
from jointnet_cli.sampling.presets import Sampling

SIDE = 40
METRICS = ("AbsRel", "RMSE (disparity)", "delta1", "pixels compared")
Depth = NDArray[np.float32]


evaluate = partial(tables.evaluate, "depth", "--json", "--quiet")


@pytest.fixture
def distances() -> Depth:
    """Metres, with a hole."""
    values = np.random.default_rng(0).uniform(1, 9, (SIDE, SIDE)).astype(np.float32)
    values[:3] = 0
    return values


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = np.random.default_rng(1).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
    Image.fromarray(colours).save(path)


def millimetres(path: Path, values: Depth) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.round(values * 1000).astype(np.uint16)).save(path)


def test_errors_are_those_of_peers() -> None:
    """Least squares by NumPy, AbsRel and RMSE by torchmetrics; so few pixels that every fit takes all."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(30, 30, generator=generator) + 0.2
    predicted = 3 * truth + 0.4 + 0.2 * torch.randn(30, 30, generator=generator)
    truth[:5], predicted[5:8] = 0, 0
    errors, compared = depth_errors(predicted, truth)

    both = (truth > 0) & (predicted > 0)
    x, y = predicted[both].double().numpy(), truth[both].double().numpy()
    aligned = torch.from_numpy(np.polyval(np.polyfit(x, y, 1), x).clip(truth[truth > 0].min().item()))
    assert errors.abs_rel == pytest.approx(mean_absolute_percentage_error(1 / aligned, 1 / torch.from_numpy(y)).item())
    known = truth[truth > 0].numpy()
    rmse = mean_squared_error(aligned, torch.from_numpy(y), squared=False).item()
    assert errors.rmse == pytest.approx(rmse / (np.quantile(known, 0.985) - known.min()), rel=1e-5)
    assert compared == pytest.approx(both.sum().item() / (truth > 0).sum().item()) and compared < 1


def test_an_affine_map_of_the_truth_has_no_error_where_both_are_valid() -> None:
    truth = torch.rand(64, 64, generator=torch.Generator().manual_seed(1)) + 0.1
    predicted = 0.3 * truth + 2
    truth[:9], predicted[:, :9] = 0, 0
    errors, compared = depth_errors(predicted, truth)
    assert (errors.abs_rel, errors.delta1, errors.rmse) == pytest.approx((0, 1, 0), abs=1e-6)
    assert compared == pytest.approx(55 / 64)


def test_a_cap_leaves_the_far_out() -> None:
    truth = torch.tensor([[0.5, 0.25, 0.2, 0.01]])
    predicted = torch.tensor([[0.5, 0.25, 0.2, 3.0]])
    assert depth_errors(predicted, truth, depth_cap=50)[0].abs_rel == pytest.approx(0, abs=1e-6)
    assert depth_errors(predicted, truth)[0].abs_rel > 0.4
    with pytest.raises(UserError, match="no valid pixel"):
        depth_errors(torch.zeros(1, 4), truth)
    with pytest.raises(UserError, match="finite"):
        depth_errors(predicted / 0, truth)


def test_a_map_at_another_size_keeps_its_holes() -> None:
    small = torch.ones(8, 8)
    small[:, :2] = 0
    large = at_size(small, 32, 32)
    assert (large[:, :8] == 0).all() and (large[:, 12:] == 1).all() and set(large.unique().tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("image", "truth"),
    [
        ("a.jpg", "a.exr"),
        ("images/s1/a.png", "depth/s1/a.png"),
        ("a_rgb.png", "a_depth.png"),
        ("00000_7_a.image.png", "00000_7_a.depth.npy"),
        ("MegaDepth_v1/0000/dense0/imgs/a.jpg", "MegaDepth_v1/0000/dense0/depths/a.h5"),
    ],
)
def test_truth_is_found_beside_pictures(tmp_path: Path, distances: Depth, image: str, truth: str) -> None:
    picture(tmp_path / image)
    path = tmp_path / truth
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        millimetres(path, distances)
    elif path.suffix == ".npy":
        np.save(path, distances)
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["depth"] = distances
    else:
        import OpenEXR

        header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
        with OpenEXR.File(header, {"Z": np.where(distances > 0, distances, 1e10).astype(np.float32)}) as file:
            file.write(str(path))
    (scene,) = [FolderCases(tmp_path, "depth")[0]]
    expected = np.where(distances > 0, 1 / np.where(distances > 0, distances, 1), 0)
    assert scene.inverse_depth is not None and scene.image.shape == (SIDE, SIDE, 3)
    np.testing.assert_allclose(scene.inverse_depth, expected, rtol=1e-3)


@pytest.mark.usefixtures("process_group")
def test_a_process_leaves_the_others_when_the_table_is_there(evaluation_shards: Path, tmp_path: Path) -> None:
    command = ("--shards", str(evaluation_shards), "--row", "constant", "--limit", "2", "--out", str(tmp_path))
    assert values(evaluate(*command))
    assert not distributed.is_initialized()


def test_pictures_without_truth_are_refused(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    with pytest.raises(UserError, match="1 images and 0 maps") as fault:
        FolderCases(tmp_path, "depth")
    assert fault.value.hint
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["other"] = np.ones((2, 2))
    with pytest.raises(UserError, match="no data set depth"):
        FolderCases(tmp_path, "depth")[0]


def test_what_numbers_mean(tmp_path: Path) -> None:
    values = np.array([[0.5, 0.25, 0, np.nan]], np.float32)
    np.save(tmp_path / "a.npy", values)
    np.testing.assert_array_equal(read_predicted_depth(tmp_path / "a.npy"), [[0.5, 0.25, 0, 0]])
    np.testing.assert_array_equal(read_true_depth(tmp_path / "a.npy"), [[2, 4, 0, 0]])
    np.testing.assert_array_equal(read_predicted_depth(tmp_path / "a.npy", "distance"), [[2, 4, 0, 0]])
    np.testing.assert_array_equal(read_true_depth(tmp_path / "a.npy", "disparity"), [[0.5, 0.25, 0, 0]])
    np.save(tmp_path / "b.npy", values * 100)
    np.testing.assert_allclose(read_predicted_depth(tmp_path / "b.npy"), [[0.02, 0.04, 0, 0]])
    ours = np.full((1, 1, 3), 0.5, np.float32), {"depth": np.full((1, 1), 0.7, np.float32)}
    write_exr(tmp_path / "c.exr", *ours, {}, Projection("perspective", 60))
    np.testing.assert_allclose(read_true_depth(tmp_path / "c.exr"), [[0.7]], rtol=1e-6)


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom jointnet_cli.cli import app\n"
        "app(['evaluate', 'depth', '--help'], standalone_mode=False)\n"
        "print(sorted(sys.modules.keys() & {'torch', 'numpy', 'diffusers', 'accelerate', 'matplotlib', 'PIL'}))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


def test_middlebury_is_in_metres() -> None:
    scene = Middlebury()[0]
    assert scene.inverse_depth is not None and scene.image.shape == (500, 741, 3)
    metres = 1 / scene.inverse_depth[scene.inverse_depth > 0]
    assert 2 < metres.min() < 2.2 and 4.9 < metres.max() < 5.1, "a motorcycle in a garage"
    assert 0.92 < (scene.inverse_depth > 0).mean() < 0.93


def test_scenes_of_shards_come_in_any_order(evaluation_shards: Path) -> None:
    scenes = ShardCases(evaluation_shards, "depth")
    assert len(scenes) == 8 and scenes.depth_cap == 80
    assert [scenes[number].key for number in (7, 0)] == sorted([scenes[7].key, scenes[0].key], reverse=True)
    assert scenes[3].intrinsics is not None and scenes[3].intrinsics[0, 2] == 24


def test_worlds_with_training_seeds_are_named(
    training_shards: Path, evaluation_shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = ShardCases(training_shards, "depth").facts
    assert facts["worlds"] == ShardCases(training_shards).image_facts["worlds"] == "training seeds"
    said = capsys.readouterr().err
    assert said.count("have training seeds") == 2
    hint = "jointnet prepare worlds --evaluation --count 512 --out"
    assert f"hint: {hint} shards/evaluation" in said
    with pytest.raises(UserError, match="no complete shards") as caught:
        ShardCases("nowhere", "depth")
    assert caught.value.hint == f"make some: {hint} nowhere"
    assert "worlds" not in ShardCases(evaluation_shards, "depth").facts
    assert capsys.readouterr().err == ""


def test_training_seeds_in_a_later_shard_are_named(
    tmp_path: Path, training_shards: Path, evaluation_shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, folder in enumerate((evaluation_shards, training_shards)):
        for ending in (".tar", "_stats.json"):
            shutil.copy(folder / f"00000{ending}", tmp_path / f"0000{number}{ending}")
    assert ShardCases(tmp_path, "depth").facts["worlds"] == "training seeds"
    assert capsys.readouterr().err.count("have training seeds") == 1


def test_every_row_on_reserved_worlds(
    tmp_path: Path,
    evaluation_shards: Path,
    training_shards: Path,
    tiny_folder: Callable[[str], Path],
) -> None:
    model, dpt, out = tiny_folder("depth"), save_dpt(tmp_path / "dpt"), tmp_path / "out"
    maps = tmp_path / "maps"
    maps.mkdir()
    scenes = ShardCases(evaluation_shards, "depth")
    for number in range(2):
        scene = scenes[number]
        assert scene.inverse_depth is not None
        np.save(maps / f"{scene.key}.npy", scene.inverse_depth)
    specs = {
        "ours": f"jointnet:{model}",
        "midas": f"midas:{dpt}",
        "refined": f"refine:{model}",
        "true": f"folder:{maps}?kind=disparity",
        "constant": "constant",
        "mean": f"mean-depth:{training_shards}",
        "vae": f"autoencoder:{model}",
    }
    arguments = [word for name, spec in specs.items() for word in ("--method", f"{name}={spec}")]
    command = [
        "--shards",
        str(evaluation_shards),
        "--limit",
        "2",
        "--steps",
        "2",
        "--refine-from",
        f"midas:{dpt}",
        "--ensemble",
        "2",
    ]
    result = evaluate(*command, *arguments, "--out", str(out))
    found = values(result)
    assert list(found) == list(specs)
    assert all(found[name][metric] is not None for name in found for metric in METRICS)
    assert (found["true"]["AbsRel"], found["true"]["delta1"]) == pytest.approx((0, 1), abs=1e-5)
    assert found["mean"]["AbsRel"] < found["constant"]["AbsRel"]
    assert found["refined"] != found["midas"] != found["ours"]
    facts = json.loads(result.stdout)["facts"]
    assert facts["rows"]["ours"]["steps"] == 2 and facts["rows"]["ours"]["ensemble"] == 2
    assert facts["rows"]["refined"]["of"]["hash"] == facts["rows"]["midas"]["hash"]
    assert facts["depth cap"] == 80 and facts["scenes"] == 2
    assert {path.name for path in out.iterdir()} == {"settings.json", "items", "table.json", "table.md", "table.png"}

    before = {path: path.stat().st_mtime_ns for path in out.rglob("0*.json")}
    assert values(evaluate(*command, *arguments, "--out", str(out))) == found
    assert {path: path.stat().st_mtime_ns for path in out.rglob("0*.json")} == before and len(before) == 14
    np.save(maps / f"{scene.key}.npy", np.ones((48, 48)))
    again = values(evaluate(*command, "--method", "true=" + specs["true"], "--method", "constant", "--out", str(out)))
    assert again["constant"] == found["constant"] and again["true"]["AbsRel"] > 0.1, "other maps are other items"


def test_refinement_of_reduced_depth(
    tmp_path: Path, evaluation_shards: Path, tiny_folder: Callable[[str], Path]
) -> None:
    """Reduced depth is the mean of blocks, which refinement takes as it is."""
    cases = ShardCases(evaluation_shards, "depth")
    (tmp_path / "maps").mkdir()
    for number in range(2):
        blocks = cases[number].relative_depth.reshape(12, 4, 12, 4).mean(axis=(1, 3), dtype=np.float32)
        np.save(tmp_path / f"maps/{cases[number].key}.npy", blocks.repeat(4, axis=0).repeat(4, axis=1))
    specs = ("reduced:8", "reduced:4", f"same=folder:{tmp_path / 'maps'}?kind=disparity")
    methods = [word for spec in (*specs, f"fine=refine:{tiny_folder('depth')}") for word in ("--method", spec)]
    command = ("--shards", evaluation_shards, "--limit", 2, "--steps", 1, "--refine-from", "reduced:4", *methods)
    found = values(evaluate(*command, "--out", tmp_path / "out"))
    assert found["reduced:4"] == pytest.approx(found["same"], rel=1e-6)
    assert 0 < found["reduced:4"]["AbsRel"] < found["reduced:8"]["AbsRel"]
    assert found["fine"]["AbsRel"] != found["reduced:4"]["AbsRel"]


def test_checkpoints_of_a_run(tmp_path: Path, evaluation_shards: Path, tiny_folder: Callable[[str], Path]) -> None:
    for step in (0, 20):
        shutil.copytree(tiny_folder("depth"), tmp_path / f"run/models/{step:07}")
    methods = ("--method", f"checkpoints:{tmp_path / 'run'}?steps=1", "--method", "constant")
    result = evaluate("--shards", evaluation_shards, "--limit", 2, *methods, "--out", tmp_path / "out")
    found = values(result)
    assert list(found) == ["run 0", "run 20", "constant"] and found["run 0"] == found["run 20"]
    assert json.loads(result.stdout)["facts"]["rows"]["run 20"]["steps"] == 1
    assert (tmp_path / "out/table.png").read_bytes().startswith(b"\x89PNG")
    refused = evaluate(
        "--shards", evaluation_shards, "--method", f"checkpoints:{tmp_path}", "--out", tmp_path / "other"
    )
    assert refused.exit_code == 2 and "has no exported models" in refused.stderr


def test_a_mean_of_images_of_different_sizes_is_refused(tmp_path: Path, training_shards: Path) -> None:
    first, second = list(read_shards([training_shards / "00000.tar"]))[:2]
    assert second.inverse_depth is not None
    half = replace(second, image=second.image[::2], inverse_depth=second.inverse_depth[::2])
    (tmp_path / "set").mkdir()
    write_shard(tmp_path / "set/00000.tar", [first, half])
    command = ("--shards", training_shards, "--limit", 2, "--out", tmp_path / "out")
    result = evaluate(*command, "--method", f"mean-depth:{tmp_path / 'set'}")
    assert result.exit_code == 2 and result.stderr.count("mean-depth needs samples of one size") == 1, result.stderr
    assert f"{half.key} is 48x24, those before it 48x48" in result.stderr


def test_the_mean_of_shards_wherever_they_are(training_shards: Path) -> None:
    names = f"{training_shards}/{{00000..00000}}.tar"
    specs = [f"mean-depth:{place}" for place in (training_shards, names, f"file://{training_shards}")]
    methods = [open_method(spec, DEPTH, MethodSettings()) for spec in specs]
    assert len({method.identity for method in methods}) == 1
    case = ShardCases(training_shards)[0]
    depths = [method.predict(case).depth for method in methods]
    assert all(np.array_equal(depth, depths[0]) for depth in depths)


def test_other_images_are_other_cases(tmp_path: Path, distances: Depth) -> None:
    picture(tmp_path / "images/a.png")
    millimetres(tmp_path / "depth/a.png", distances)
    before = FolderCases(tmp_path, "depth").identity
    assert FolderCases(tmp_path, "depth").identity == before
    Image.new("RGB", (SIDE, SIDE)).save(tmp_path / "images/a.png")
    assert FolderCases(tmp_path, "depth").identity != before


FOREIGN = [
    {"scene": "ai_001_001"},
    {"scene": ["a"]},
    {"scene": None},
    {"scene": {"camera": "pinhole"}},
    {"scene": {"camera": {"intrinsics": [1, 2]}}},
    {"scene": {"biome": "kitchen", "time": "day", "objects": [], "camera": {"pitch": 0}}},
]


@pytest.mark.parametrize("record", FOREIGN, ids=str)
def test_samples_of_another_data_set_have_no_scene(
    record: dict[str, Any], tmp_path: Path, evaluation_shards: Path
) -> None:
    world = next(read_shards([evaluation_shards / "00000.tar"]))
    write_shard(tmp_path / "00000.tar", [replace(world, record=record)])
    cases = ShardCases(tmp_path, "depth")
    assert cases[0].intrinsics is None and cases[0].inverse_depth is not None
    assert cases.captions == [Caption(world.caption)]
    with pytest.raises(UserError, match="has no scene record"):
        load_labelled(tmp_path)


def test_a_damaged_record_is_none(tmp_path: Path, evaluation_shards: Path) -> None:
    with tarfile.open(evaluation_shards / "00000.tar") as tar:
        members = {info.name: tar.extractfile(info).read() for info in tar if info.isreg()}  # type: ignore[union-attr]
    name = next(name for name in members if name.endswith(".json"))
    for damaged in (members[name][:-9], b"3"):
        shard = write_tar(tmp_path / "00000.tar", {**members, name: damaged})
        cases = ShardCases(shard)
        assert [caption.asked is None for caption in cases.captions] == [True] + 7 * [False]
        assert cases.captions[0].text
        with pytest.raises(UserError, match="the record of sample"):
            cases[0]
        assert cases[1].intrinsics is not None
        result = evaluate("--shards", shard, "--limit", 2, "--method", "constant", "--out", tmp_path / "out")
        assert result.exit_code == 1 and json.loads(result.stdout)["facts"]["scenes"] == 1, result.stderr
        shutil.rmtree(tmp_path / "out")


def test_refined_depth_is_kept_by_what_it_starts_from(
    tmp_path: Path, evaluation_shards: Path, tiny_folder: Callable[[str], Path]
) -> None:
    """In one folder of items; refined from the truth it does not compete."""
    command = ("--shards", str(evaluation_shards), "--limit", "2", "--steps", "2", "--out", str(tmp_path))
    methods = ("--method", f"fine=refine:{tiny_folder('depth')}", "--method", "constant")
    found = {}
    for start in ("reduced:2", "reduced:8", "constant"):
        result = evaluate(*command, *methods, "--refine-from", start)
        found[start] = values(result)["fine"]["AbsRel"]
        assert json.loads(result.stdout)["facts"]["rows"]["fine"]["of"]["method"] == start
        assert ("**" in (tmp_path / "table.md").read_text()) == (start == "constant")
    assert len(set(found.values())) == 3
    refused = evaluate(*command, *methods, "--refine-from", "refine:diorama")
    assert refused.exit_code == 2 and "unknown method kind 'refine'" in refused.stderr


def test_more_steps_are_other_items(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> None:
    spec = f"jointnet:{tiny_folder('depth')}"
    one, two = (open_method(spec, DEPTH, MethodSettings(sampling=Sampling(steps=steps))) for steps in (1, 2))
    assert one.key != two.key
    assert open_method(f"{spec}?steps=2", DEPTH, MethodSettings()).identity == two.identity


def test_a_scene_that_fails_is_left_out_and_the_exit_code_says_so(tmp_path: Path, distances: Depth) -> None:
    truth, maps = tmp_path / "truth", tmp_path / "maps"
    for name in ("a", "b", "c"):
        picture(truth / f"images/{name}.png")
        millimetres(truth / f"depth/{name}.png", distances if name != "c" else np.zeros_like(distances))
    millimetres(maps / "a.png", distances)
    command = ("--truth", str(truth), "--method", f"maps=folder:{maps}?kind=distance", "--out", str(tmp_path / "out"))
    result = evaluate(*command)
    assert result.exit_code == 1 and "no map of b" in result.stderr
    table = json.loads(result.stdout)
    assert table["rows"]["maps"]["AbsRel"]["count"] == 1
    assert table["rows"]["maps"]["AbsRel"]["value"] == pytest.approx(0, abs=1e-4)
    assert table["facts"]["scenes"] == table["facts"]["scenes without truth"] == 1
    assert table["facts"]["rows"]["maps"]["failed"] == 1
    millimetres(maps / "00000_3_b.depth.png", distances)
    millimetres(maps / "c.png", distances)
    assert evaluate(*command).exit_code == 0


def test_mistakes_are_said(tmp_path: Path, evaluation_shards: Path, tiny_folder: Callable[[str], Path]) -> None:
    out = ("--out", str(tmp_path / "out"))
    shards = ("--shards", str(evaluation_shards), *out)
    for arguments, words in {
        out: "no ground truth: give --shards DIR or --truth DIR or --middlebury",
        (*shards, "--middlebury"): "more than one ground truth",
        (*shards, "--method", "midass:x"): "did you mean midas?",
        (*shards, "--method", "midas:dpt_beit_large_51"): "no teacher",
        (*shards, "--method", f"jointnet:{tiny_folder('base')}"): "no depth branch",
        (*shards, "--method", f"folder:{tmp_path}/nowhere"): "no folder",
        (*shards, "--method", "mean-depth:nowhere"): "no complete shards in nowhere",
        (*shards, "--method", f"mean-map:{tmp_path}"): "no complete shards",
        ("--truth", str(tmp_path / "nowhere"), *out): "no folder",
    }.items():
        result = evaluate(*arguments)
        assert result.exit_code == 2 and words in result.stderr, result.stderr
    occupied = tmp_path / "table.csv"
    occupied.touch()
    result = evaluate(*shards[:2], "--out", occupied)
    assert (result.exit_code, result.stderr) == (
        2,
        f"error: {occupied} is not a folder\nhint: choose another folder with --out\n",
    )
