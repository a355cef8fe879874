"""`jointnet evaluate generation`: every kind of row and of captions, and that nothing is made twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionLDM3DPipeline
from helpers import tables
from helpers.pipelines import SIDE, save_clip, save_judge, save_ldm3d
from helpers.tables import table
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from jointnet_cli.cli import app
from jointnet_cli.data.worlds import vocabulary
from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.captions import Caption, fixed_captions, read_coco
from jointnet_cli.evaluation.cases import Case, FolderImages, PromptCases, ShardCases
from jointnet_cli.evaluation.judge.labels import PAINTED, TIMES, UNKNOWN, named_objects
from jointnet_cli.evaluation.judge.prompts import fixed_prompts
from jointnet_cli.evaluation.methods import MethodSettings, Prediction, open_method
from jointnet_cli.evaluation.metrics.captions import Clip, clip_similarity
from jointnet_cli.evaluation.metrics.metric import Predictions
from jointnet_cli.evaluation.pipelines import GENERATION, Ldm3d, unpack_disparity
from jointnet_cli.evaluation.runner import Runner
from jointnet_cli.files.decode import read_samples
from jointnet_cli.model.checkpoint import extend, load_model, save_model
from jointnet_cli.model.jointnet_json import CONTROLNET_DIRECT_EXTEND, DIRECT_EXTEND
from jointnet_cli.sampling.presets import Sampling

Folders = Callable[[str], Path]
QUICK_SETTINGS = MethodSettings(device="cpu", sampling=Sampling(steps=2, guidance=3.0))
QUICK = ("--steps", "2", "--scheduler", "ddim", "--resamples", "5", "--device", "cpu", "--quiet")


evaluate = partial(tables.evaluate, "generation", "--json", *QUICK)


def save_noise(folder: Path) -> None:
    """Three pictures."""
    folder.mkdir(exist_ok=True)
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 255, (20, 30, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.jpg")


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_judge(tmp_path_factory.mktemp("judge"))


@pytest.fixture(scope="module")
def ldm3d(tmp_path_factory: pytest.TempPathFactory, tiny_pipeline: Folders) -> Callable[[int], Path]:
    """`ldm3d(channels)`: with a VAE of so many."""
    return lambda channels: save_ldm3d(tiny_pipeline("sd1"), tmp_path_factory.mktemp(f"ldm3d-{channels}"), channels)


def test_all_rows_against_worlds(
    tmp_path: Path,
    judge: Path,
    ldm3d: Callable[[int], Path],
    tiny_folder: Folders,
    evaluation_shards: Path,
) -> None:
    out = tmp_path / "out"
    shared = ("--shards", evaluation_shards, "--features", judge, "--judge", judge, "--out", out, "--limit", 4)
    models = (
        *("--method", f"joint=jointnet:{tiny_folder('depth')}", "--method", f"base:{tiny_folder('base')}"),
        *("--method", f"LDM3D=ldm3d:{ldm3d(6)}"),
    )
    first = table(evaluate(*shared, *models))
    names = [column["name"] for column in first["columns"]]
    assert names[0] == "FD-Judge" and {"Judge biome", "Judge time", "Judge objects"} <= set(names[1:])
    assert len(set(names)) == len(names)
    rows = first["rows"]
    assert list(rows) == ["real images", "joint", f"base:{tiny_folder('base')}", "LDM3D"]
    assert rows["real images"]["FD-Judge"] is None
    assert rows["joint"]["FD-Judge"]["value"] > 0 and rows["joint"]["FD-Judge"]["count"] == 4
    assert rows["joint"]["FD-Judge"] != rows["LDM3D"]["FD-Judge"]
    assert first["facts"]["judge on held-out worlds"]["biome"] == 0.9
    assert first["facts"]["rows"]["LDM3D"]["steps"] == 2
    assert first["facts"]["rows"]["joint"]["model_hash"]
    kept = {path: path.stat().st_mtime_ns for path in out.rglob("items/**/*.png")}
    assert sum(path.name.endswith(".image.png") for path in kept) == 12
    assert sum(path.name.endswith(".depth.png") for path in kept) == 8, "the joint model's and LDM3D's"

    again = table(evaluate(*shared, *models))
    assert again["rows"] == rows
    assert {path: path.stat().st_mtime_ns for path in out.rglob("items/**/*.png")} == kept, "nothing was made twice"

    made = next(path.parent for path in kept if "base" in path.parent.name)
    finished = table(evaluate(*shared, "--method", f"done=folder:{made}"))["rows"]
    assert finished["done"]["FD-Judge"]["value"] == pytest.approx(
        rows[f"base:{tiny_folder('base')}"]["FD-Judge"]["value"]
    )
    assert finished["done"]["Judge biome"] == rows[f"base:{tiny_folder('base')}"]["Judge biome"]
    assert (out / "table.md").read_text().startswith("### Generation")
    assert 0 <= rows["joint"]["Judge imagined"]["value"] <= 1
    assert first["facts"]["judge by kind"]["joint"]["biome"] == pytest.approx(rows["joint"]["Judge biome"]["value"])


def test_real_images_through_the_autoencoder(
    tmp_path: Path, judge: Path, tiny_folder: Folders, evaluation_shards: Path
) -> None:
    shared = ("--features", judge, "--judge", judge, "--limit", 3, "--out", tmp_path / "out")
    method = ("--method", f"autoencoder:{tiny_folder('depth')}")
    found = table(evaluate("--shards", evaluation_shards, *shared, *method))
    assert found["rows"][method[1]]["Judge biome"]["count"] <= 3
    with Image.open(next((tmp_path / "out").rglob("*.image.png"))) as image:
        assert image.size == (32, 32), "the size of the model"
    with Image.open(tmp_path / "out/sheet.png") as sheet:
        assert sheet.width > 3 * 32, "a single method's images stand beside each other"
    refused = evaluate("--reference", evaluation_shards, *shared, *method)
    assert refused.exit_code == 2
    assert "no images in" in refused.stderr or "needs real images" in refused.stderr


def test_fixed_prompts_against_worlds(
    tmp_path: Path, judge: Path, tiny_folder: Folders, evaluation_shards: Path
) -> None:
    """The number of a prompt is its seed; the worlds are real images of other captions."""
    networks = ("--features", judge, "--judge", judge, "--limit", 8, "--out", tmp_path / "out")
    method = ("--method", f"joint=jointnet:{tiny_folder('depth')}")
    found = table(evaluate("--prompts", "fixed", "--shards", evaluation_shards, *networks, *method))
    assert found["facts"]["captions"]["source"] == "fixed prompts" and found["facts"]["captions"]["count"] == 200
    (real, joint) = found["rows"].values()
    assert joint["FD-Judge"]["value"] > 0 and joint["Judge biome"]["count"] == 8
    assert joint["Judge imagined"]["count"] == 8 and real["Judge biome"] is None
    records = [json.loads(path.read_text()) for path in sorted((tmp_path / "out/items").glob("jointnet*/0*.json"))]
    made = [(record["prompt"], record["seed"]) for record in records if "seed" in record]
    assert made == [(prompt.text, number) for number, prompt in enumerate(fixed_prompts()[:8])]
    with Image.open(tmp_path / "out/sheet.png") as sheet:
        assert sheet.width == 8 * (32 + 6) + 6, "a single method's images stand beside each other"


def test_rivals_are_jointnet_rows(tmp_path: Path, tiny_folder: Folders) -> None:
    for number, architecture in enumerate((DIRECT_EXTEND, CONTROLNET_DIRECT_EXTEND)):
        model = load_model(tiny_folder("base"))
        model.joint = extend(architecture, model.joint.backbone("rgb"), ["depth"])
        save_model(model, tmp_path / architecture, torch.float32)
        settings = MethodSettings(device="cpu", sampling=Sampling(steps=1, scheduler="ddim"))
        method = open_method(f"jointnet:{tmp_path / architecture}", GENERATION, settings)
        made = method.predict(Case(number, prompt="a lake", seed=number))
        assert made.settings["architecture"] == architecture
        assert made.image is not None and made.depth is not None and made.depth.shape == made.image.shape[:2]


def test_efflite_and_clip_without_anything_real(tmp_path: Path, tiny_folder: Folders) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    (tmp_path / "list.txt").write_text("a lake\nsnowy hills by the sea\n")
    arguments = ("--prompts", tmp_path / "list.txt", "--clip", save_clip(tmp_path / "tiny-clip"), "--out", tmp_path)
    found = table(evaluate(*arguments, "--method", f"joint=jointnet:{tiny_folder('depth')}"))
    assert [column["name"] for column in found["columns"]] == ["IS-EffLite0", "CLIP similarity (tiny-clip)"]
    assert 1 <= found["rows"]["joint"]["IS-EffLite0"]["value"] <= 2
    assert -100 <= found["rows"]["joint"]["CLIP similarity (tiny-clip)"]["value"] <= 100
    assert found["facts"]["captions"]["count"] == 2


def test_a_reference_folder_and_a_table_of_captions(tmp_path: Path, judge: Path, tiny_folder: Folders) -> None:
    save_noise(tmp_path)
    (tmp_path / "list.csv").write_text('caption\n"a lake"\n"ocean reef"\n')
    arguments = ("--reference", tmp_path, "--features", judge, "--out", tmp_path / "out")
    row = ("--method", f"jointnet:{tiny_folder('depth')}")
    found = table(evaluate(*arguments, *row, "--prompts", tmp_path / "list.csv"))
    assert found["facts"]["real"]["images"] == 3
    assert [column["name"] for column in found["columns"]] == ["FD-Judge"]
    (tmp_path / "list.csv").write_text('words\n"a lake"\n')
    refused = evaluate(*arguments, *row, "--prompts", tmp_path / "list.csv")
    assert refused.exit_code == 2 and "line 2 has no caption" in refused.stderr
    refused = evaluate(*row, "--features", judge, "--out", tmp_path / "other")
    assert refused.exit_code == 2 and "nothing to measure" in refused.stderr


def test_other_captions_need_another_folder(tmp_path: Path, judge: Path, tiny_folder: Folders) -> None:
    save_noise(tmp_path)
    row = ("--method", f"jointnet:{tiny_folder('base')}", "--features", judge, "--reference", tmp_path)
    for text in ("a lake", "ocean reef"):
        (tmp_path / "list.txt").write_text(text)
        result = evaluate("--prompts", tmp_path / "list.txt", *row, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "holds items of captions" in result.stderr


def test_coco_captions_are_one_an_image(tmp_path: Path) -> None:
    path = tmp_path / "captions.json"
    annotations = [
        {"image_id": 9, "id": 3, "caption": "nine, again"},
        {"image_id": 4, "id": 7, "caption": " four\n"},
        {"image_id": 9, "id": 1, "caption": "nine"},
    ]
    path.write_text(json.dumps({"images": [], "annotations": annotations}))
    assert [caption.text for caption in read_coco(path)] == ["four", "nine"]
    path.write_text(json.dumps(["a", "b"]))
    assert [caption.text for caption in read_coco(path)] == ["a", "b"]
    faults = dict.fromkeys(("{}", "[]", "3", '[{"text": 1}]'), "has no captions$") | {"{": "cannot be read: "}
    for content, fault in faults.items():
        path.write_text(content)
        with pytest.raises(UserError, match=fault):
            read_coco(path)


def test_only_what_a_caption_says_is_asked_for(evaluation_shards: Path) -> None:
    captions = ShardCases(evaluation_shards).captions
    assert len(captions) == 8
    for caption in captions:
        assert caption.asked is not None
        named = named_objects(caption.text)
        assert caption.asked.present.count(1) == len(named)
        if caption.asked.time != UNKNOWN:
            time = TIMES[caption.asked.time]
            words = (
                *vocabulary.HOURS[time],
                *vocabulary.CLEAR_HOURS[time],
                *vocabulary.DEEP_HOURS[time],
                *vocabulary.MOON,
            )
            assert any(word in caption.text for word in (*words, vocabulary.SPANS[time]))
    fixed = fixed_captions()
    assert len(fixed) == 200
    assert sum(any(colour >= 0 for colour in caption.asked.colour) for caption in fixed if caption.asked) > 50
    assert len(PAINTED) == len(fixed[0].asked.colour) if fixed[0].asked else False


def test_the_pictures_of_a_folder_are_no_maps(tmp_path: Path) -> None:
    others = ("00000_7_a.mesh.front.png", "00000_7_a.360_TB.jpg", "normals/c.png", "notes.txt", ".d/e.png")
    for name in ("00000_7_a.image.png", "00000_7_a.depth.png", "sub/b.jpg", *others):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(path, "PNG") if path.suffix != ".txt" else path.write_text("")
    folder = FolderImages(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in folder.paths] == ["00000_7_a.image.png", "sub/b.jpg"]
    assert folder.image(0).shape == (4, 4, 3) and len(folder) == 2
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no images"):
        FolderImages(tmp_path / "empty")
    with pytest.raises(UserError, match="no folder"):
        FolderImages(tmp_path / "none")


def test_prompts_of_other_images_are_other_cases(training_shards: Path, evaluation_shards: Path) -> None:
    prompts = ["a lake", "ocean reef"]
    every = [PromptCases(prompts, 2)] + [
        PromptCases(prompts, 2, ShardCases(shards)) for shards in (training_shards, evaluation_shards)
    ]
    assert len({cases.identity for cases in every}) == 3
    assert PromptCases(prompts, 2, ShardCases(evaluation_shards)).identity == every[-1].identity


def test_another_clip_of_the_same_name_measures_again(tmp_path: Path) -> None:
    first = Clip(str(save_clip(tmp_path / "a/clip")), torch.device("cpu"))
    folder = save_clip(tmp_path / "b/clip")
    assert Clip(str(folder), torch.device("cpu")).key == first.key
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "logit_scale": weights["logit_scale"] + 1}, folder / "model.safetensors", {"format": "pt"})
    second = Clip(str(folder), torch.device("cpu"))
    assert second.name == first.name and second.key != first.key
    runner = Runner(tmp_path / "out", {})
    image = np.random.default_rng(0).random((16, 16, 3), np.float32)
    made = Predictions("a", "a", {0: {}}, lambda *_: Prediction(image))
    for clip in (first, second):
        clip_similarity(clip, [Caption("a lake")], 5)(made, runner)
    assert len(list((tmp_path / "out/items").iterdir())) == 2


def test_a_folder_of_other_captions(tmp_path: Path, judge: Path, tiny_folder: Folders) -> None:
    made = CliRunner().invoke(
        app,
        ["generate", "a lake", "--steps", "1", "--model", str(tiny_folder("base")), "--out", str(tmp_path / "made")],
    )
    assert made.exit_code == 0, made.stderr
    row = ("--method", f"folder:{tmp_path / 'made'}", "--features", judge, "--reference", tmp_path / "real")
    save_noise(tmp_path / "real")
    (tmp_path / "list.txt").write_text("a lake\nocean reef\n")
    found = table(evaluate("--prompts", tmp_path / "list.txt", *row, "--out", tmp_path / "out"))
    assert found["rows"][f"folder:{tmp_path / 'made'}"]["FD-Judge"] is None, "one picture has no distribution"
    (tmp_path / "list.txt").write_text("ocean reef\na lake\n")
    result = evaluate("--prompts", tmp_path / "list.txt", *row, "--out", tmp_path / "other")
    assert result.exit_code == 2
    assert "'a lake', not for caption 'ocean reef'" in result.stderr


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("jointnet:none", "no model none"),
        ("ldm3d", "ldm3d needs a model: ldm3d:ID"),
        ("ldm4d:x", "unknown method kind"),
        ("base", "base needs a model"),
    ],
)
def test_rows_that_cannot_be(tmp_path: Path, judge: Path, row: str, complaint: str) -> None:
    result = evaluate("--method", row, "--features", judge, "--out", tmp_path)
    assert result.exit_code == 2
    assert complaint in result.stderr


def test_a_joint_model_is_no_base(tmp_path: Path, judge: Path, tiny_folder: Folders) -> None:
    result = evaluate("--method", f"base:{tiny_folder('depth')}", "--features", judge, "--out", tmp_path)
    assert result.exit_code == 2
    assert "is not an RGB-only model" in result.stderr


def test_a_row_whose_model_is_broken_ends_the_command(tmp_path: Path, judge: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.txt").write_text("a lake\na reef\n")
    save_noise(tmp_path / "real")
    row = ("--method", f"ldm3d:{tmp_path / 'empty'}", "--features", judge, "--reference", tmp_path / "real")
    result = evaluate("--prompts", tmp_path / "list.txt", *row, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert result.stderr.count("the StableDiffusionLDM3DPipeline in") == 1
    assert not result.stdout


def test_disparity_of_sixteen_bits_in_two_channels() -> None:
    wanted = torch.arange(0, 65536, 257).reshape(16, 16)
    channels = torch.stack([torch.rand(16, 16), (wanted // 256) / 255, (wanted % 256) / 255])
    assert torch.equal((unpack_disparity(channels) * 65535).round().long(), wanted)
    one = torch.rand(1, 4, 5)
    assert torch.equal(unpack_disparity(one), one[0])


@pytest.mark.parametrize("channels", [4, 6])
def test_ldm3d_is_diffusers_picture_and_our_disparity(ldm3d: Callable[[int], Path], channels: int) -> None:
    folder = ldm3d(channels)
    made = Ldm3d(str(folder), QUICK_SETTINGS).predict(Case(0, prompt="a lake", seed=5))
    pipeline = StableDiffusionLDM3DPipeline.from_pretrained(folder, safety_checker=None, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        "a lake",
        num_inference_steps=2,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(5),
        output_type="np",
    )
    assert made.image is not None and made.image.shape == (SIDE, SIDE, 3)
    assert np.allclose(made.image, theirs.rgb[0], atol=1e-6)
    assert made.depth is not None and made.depth.shape == (SIDE, SIDE)
    assert 0 <= made.depth.min() < made.depth.max() <= 1
    if channels == 4:
        assert np.allclose(made.depth, theirs.depth[0][..., 0], atol=1e-6)
    else:
        assert len(np.unique(theirs.depth[0])) < 5 < len(np.unique(made.depth)), "what diffusers makes of six channels"


def test_ldm3d_reads_long_prompts_to_their_end(ldm3d: Callable[[int], Path]) -> None:
    """The tiny text encoder reads 14 tokens at once."""
    method = Ldm3d(str(ldm3d(4)), QUICK_SETTINGS)
    prompts = ("snowy hills by the " * 4 + end for end in ("lake", "reef"))
    lake, reef = (method.predict(Case(0, prompt=prompt, seed=5)).image for prompt in prompts)
    assert lake is not None and reef is not None
    assert np.abs(lake - reef).max() > 1e-4


def test_ldm3d_keeps_sixteen_bits(tmp_path: Path, judge: Path, ldm3d: Callable[[int], Path]) -> None:
    (tmp_path / "list.txt").write_text("a lake\n")
    save_noise(tmp_path / "real")
    arguments = ("--prompts", tmp_path / "list.txt", "--features", judge, "--reference", tmp_path / "real")
    table(evaluate(*arguments, "--method", f"ldm3d:{ldm3d(4)}", "--out", tmp_path / "out"))
    (path,) = (tmp_path / "out").rglob("*.depth.png")
    assert len(np.unique((read_samples(path) * 65535) % 256)) > 2
