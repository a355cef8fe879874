"""Labellers: real networks, opened by their spec, give maps in our conventions."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.teachers import INVERTED, SIDE, save_dpt, save_onnx
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from jointnet_cli.data.labels.specs import parse_spec
from jointnet_cli.data.labels.teachers import NetworkTeacher, open_teacher
from jointnet_cli.errors import UserError

RAW = "mean=0&std=1"


@pytest.fixture(scope="module")
def dpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_dpt(tmp_path_factory.mktemp("tiny-dpt"))


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(3, 3, 48, 40, generator=torch.Generator().manual_seed(1))


def test_a_dpt_folder_labels_depth_as_transformers_does(dpt: Path, images: torch.Tensor) -> None:
    from transformers import DPTForDepthEstimation

    labeller = open_teacher(f"depth={dpt}", "cpu")
    assert (labeller.modality, labeller.name) == ("depth", dpt.name) and len(labeller.hash) == 12
    found = labeller(images)
    assert found.shape == (3, 48, 40) and found.min() >= 0 and found.std() > 0

    sized = F.interpolate(images, (SIDE, SIDE), mode="bicubic", antialias=True).clamp(0, 1)
    with torch.no_grad():
        raw = DPTForDepthEstimation.from_pretrained(dpt)((sized - 0.5) / 0.5).predicted_depth
    expected = F.interpolate(raw[:, None], (48, 40), mode="bilinear", antialias=True)[:, 0]
    torch.testing.assert_close(found, expected)


def test_a_dpt_with_three_channels_labels_normals(tmp_path: Path, images: torch.Tensor) -> None:
    folder = save_dpt(tmp_path / "normals", channels=3)
    labeller = open_teacher(f"normal=omnidata:{folder}", "cpu")
    assert labeller.name == "omnidata:normals"
    teacher = open_teacher(parse_spec(f"normal=omnidata:{folder}?size=64"), "cpu")
    assert teacher.size == (64, 64) and teacher.hash != labeller.hash
    assert teacher.settings.mean == (0, 0, 0), "Omnidata normalises nothing, whatever the folder says"
    length = labeller(images).norm(dim=1)
    assert ((length - 1).abs() < 1e-4).logical_or(length == 0).all() and (length > 0).any()


def test_a_depth_dpt_is_no_normal_teacher(dpt: Path) -> None:
    with pytest.raises(UserError, match=r"tiny-dpt0 cannot be read: .*mismatched_sizes"):
        open_teacher(f"normal={dpt}", "cpu")


def test_inverted_brightness_is_depth(tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "inverted.onnx", *INVERTED)
    labeller = open_teacher(f"depth=onnx:{path}?size=16&{RAW}", "cpu")
    assert labeller.name == "onnx:inverted.onnx"
    levels = torch.tensor([0.0, 0.25, 1.0])
    found = labeller(levels.view(3, 1, 1, 1).expand(3, 3, 20, 24))
    torch.testing.assert_close(found, (1 - levels).view(3, 1, 1).expand(3, 20, 24))


def test_distance_becomes_inverse_depth(tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "metres.onnx", [[10.0, 0, 0]], [0.0])
    found = open_teacher(f"depth=onnx:{path}?size=16&{RAW}&kind=distance", "cpu")(torch.full((1, 3, 8, 8), 0.5))
    torch.testing.assert_close(found, torch.full((1, 8, 8), 1 / 5))


def test_relative_disparity_below_zero_is_lifted(tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "shifted.onnx", [[1.0, 0, 0]], [-0.75])
    images = torch.stack([torch.full((3, 16, 16), 0.25), torch.full((3, 16, 16), 1.0)])
    images[0, :, 8:] = 0.5
    found = open_teacher(f"depth=onnx:{path}?size=16&{RAW}", "cpu")(images)
    assert found[0, 0, 0] == 0 and found[0, -1, -1] == 0.25 and found[1, 0, 0] == 0.25


@pytest.mark.parametrize(
    ("settings", "seen", "meant"),
    [
        ("axes=rub&encoding=signed", (0.6, 0.0, 0.8), (0.6, 0.0, 0.8)),
        ("axes=rdf&encoding=signed", (0.0, -0.6, -0.8), (0.0, 0.6, 0.8)),
        ("axes=blu&encoding=unsigned", (0.9, 0.2, 0.5), (0.6, 0.0, 0.8)),
        ("", (0.0, 3.0, 4.0), (0.0, 0.6, 0.8)),
    ],
)
def test_normals_are_turned_into_our_camera(
    tmp_path: Path, settings: str, seen: tuple[float, ...], meant: tuple[float, ...]
) -> None:
    path = save_onnx(tmp_path / "constant.onnx", [[0.0] * 3] * 3, seen)
    found = open_teacher(f"normal=onnx:{path}?size=16&{RAW}&{settings}", "cpu")(torch.zeros(1, 3, 8, 12))
    torch.testing.assert_close(found, torch.tensor(meant).view(1, 3, 1, 1).expand(1, 3, 8, 12), atol=1e-5, rtol=0)


def test_omnidata_is_turned_from_opencv_to_our_camera(tmp_path: Path) -> None:
    floor = [(value + 1) / 2 for value in (0.0, -0.98, -0.2)]
    path = save_onnx(tmp_path / "floor.onnx", [[0.0] * 3] * 3, floor)
    found = open_teacher(f"normal=omnidata:{path}", "cpu")(torch.zeros(1, 3, 8, 8))
    assert found[0, 1].min() > 0.97 and found[0, 2].min() > 0.19


def test_an_onnx_file_states_its_size_its_normalisation_and_its_kind(tmp_path: Path) -> None:
    facts = {"mean": "[0.5, 0.5, 0.5]", "std": "0.25", "kind": "distance"}
    path = save_onnx(tmp_path / "stated.onnx", [[1.0, 0, 0]], [3.0], shape=(2, 3, 16, 24), facts=facts)
    teacher = open_teacher(f"depth=onnx:{path}", "cpu")
    assert isinstance(teacher, NetworkTeacher) and teacher.size == (16, 24)
    # A batch of fixed size takes any number of images; 1 / ((1 - 0.5) / 0.25 + 3)
    torch.testing.assert_close(teacher(torch.ones(3, 3, 8, 8)), torch.full((3, 8, 8), 0.2))
    with pytest.raises(UserError, match="16x24"):
        open_teacher(f"depth=onnx:{path}?size=64", "cpu")


def test_what_cannot_be_known_is_asked_for(tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "silent.onnx", *INVERTED)
    with pytest.raises(UserError, match=r"silent.onnx does not say how images are normalised$") as caught:
        open_teacher(f"depth=onnx:{path}", "cpu")
    assert caught.value.hint is not None and "?mean=" in caught.value.hint


@pytest.mark.parametrize("modality", ["depth", "normal"])
def test_the_wrong_number_of_channels_is_found_when_opening(tmp_path: Path, modality: str) -> None:
    channels = 3 if modality == "depth" else 1
    path = save_onnx(tmp_path / "other.onnx", [[0.1] * 3] * channels, [0.0] * channels)
    with pytest.raises(UserError, match="channels"):
        open_teacher(f"{modality}=onnx:{path}?size=16&{RAW}", "cpu")


def test_an_image_that_fails_is_nan_and_the_others_are_not(tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "overflow.onnx", [[3e38, 3e38, 0]], [0.0])
    found = open_teacher(f"depth=onnx:{path}?size=16&{RAW}", "cpu")(
        torch.stack([torch.ones(3, 8, 8), torch.zeros(3, 8, 8)])
    )
    assert found[0].isnan().all() and found[1].isfinite().all()


def test_the_hash_names_weights_and_settings(tmp_path: Path, dpt: Path) -> None:
    first, second = save_onnx(tmp_path / "a.onnx", *INVERTED), save_onnx(tmp_path / "b.onnx", [[1.0] * 3], [0.0])
    hashes = [
        open_teacher(spec, "cpu").hash
        for spec in (
            f"depth=onnx:{first}?size=16&{RAW}",
            f"depth=onnx:{first}?size=32&{RAW}",
            f"depth=onnx:{first}?size=16&{RAW}&kind=distance",
            f"depth=onnx:{second}?size=16&{RAW}",
            f"depth={dpt}",
        )
    ]
    assert len(set(hashes)) == len(hashes)
    assert open_teacher(f"depth=onnx:{first}?{RAW}&size=16", "cpu").hash == hashes[0]


def test_a_metric_depth_anything_is_taken_for_distance(tmp_path: Path) -> None:
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    backbone = Dinov2Config(
        hidden_size=12, num_hidden_layers=4, num_attention_heads=2, image_size=28, patch_size=14,
        out_indices=[1, 2, 3, 4], reshape_hidden_states=False, apply_layernorm=True,
    )  # fmt: skip
    for kind, meaning in (("metric", "distance"), ("relative", "disparity")):
        config = DepthAnythingConfig(
            backbone_config=backbone, reassemble_hidden_size=12, neck_hidden_sizes=[4, 4, 4, 4], fusion_hidden_size=4,
            head_hidden_size=4, depth_estimation_type=kind, max_depth=20,
        )  # fmt: skip
        folder = tmp_path / kind
        DepthAnythingForDepthEstimation(config).save_pretrained(folder)
        facts = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 28, "width": 28}}
        (folder / "preprocessor_config.json").write_text(json.dumps(facts))
        assert open_teacher(parse_spec(f"depth={folder}"), "cpu").settings.kind == meaning


def test_a_pickle_that_runs_code_does_not_run(dpt: Path, tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return (Path.touch, (tmp_path / "owned",))

    folder = shutil.copytree(dpt, tmp_path / "evil")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(), protocol=2))
    with pytest.raises(UserError, match="more than tensors"):
        open_teacher(f"depth={folder}", "cpu")
    assert not (tmp_path / "owned").exists()


def test_weights_of_bin_files_are_read_as_data(dpt: Path, tmp_path: Path, images: torch.Tensor) -> None:
    folder = shutil.copytree(dpt, tmp_path / "pickled")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    torch.testing.assert_close(
        open_teacher(f"depth={folder}", "cpu")(images), open_teacher(f"depth={dpt}", "cpu")(images)
    )


def test_a_folder_that_lacks_weights_or_tensors_is_refused(dpt: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(dpt, tmp_path / "lacking")
    tensors = load_file(folder / "model.safetensors")
    del tensors["head.head.4.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"head\.head\.4\.weight"):
        open_teacher(f"depth={folder}", "cpu")
    # The first fusion stage has nothing to join: MiDaS' files on the hub lack its first residual unit.
    tensors = load_file(dpt / "model.safetensors")
    unused = [name for name in tensors if name.startswith("neck.fusion_stage.layers.0.residual_layer1.")]
    save_file({n: t for n, t in tensors.items() if n not in unused}, folder / "model.safetensors", {"format": "pt"})
    assert unused and open_teacher(f"depth={folder}", "cpu")(torch.zeros(1, 3, 32, 32)).isfinite().all()
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="no weights"):
        open_teacher(f"depth={folder}", "cpu")


HUB_SCRIPT = """
import torch
from jointnet_cli.data.labels.teachers import open_teacher
from jointnet_cli.errors import UserError
labeller = open_teacher("depth=midas", "cpu")
print(labeller.name, labeller(torch.zeros(1, 3, 8, 8)).shape)
try:
    open_teacher("depth=midas-beit-512", "cpu")
except UserError as fault:
    print(fault, fault.hint)
"""


def test_a_named_teacher_comes_from_the_hubs_cache(dpt: Path, tmp_path: Path) -> None:
    """In a process of its own: huggingface_hub reads its settings once."""
    repository = tmp_path / "hub" / "models--Intel--dpt-hybrid-midas"
    shutil.copytree(dpt, repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    own = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "JOINTNET_MODELS": str(tmp_path / "none")}
    run = subprocess.run(
        [sys.executable, "-c", HUB_SCRIPT], env=os.environ | own, capture_output=True, text=True, check=True
    )
    found, lacking = run.stdout.splitlines()
    assert found == "midas-dpt-hybrid torch.Size([1, 8, 8])"
    assert "Intel/dpt-beit-large-512" in lacking and "copy Intel/dpt-beit-large-512 to a folder" in lacking


def test_a_damaged_onnx_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "damaged.onnx"
    path.write_bytes(b"not a protobuf")
    with pytest.raises(UserError, match=r"damaged\.onnx"):
        open_teacher(f"depth=onnx:{path}?{RAW}", "cpu")
