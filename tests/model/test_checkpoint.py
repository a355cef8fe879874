"""Models written to folders and read back, by this package and by diffusers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTokenizer

from jointnet_cli.errors import UserError
from jointnet_cli.model.checkpoint import JointModel, load_model, save_model
from jointnet_cli.model.folder import read_folder
from jointnet_cli.sampling.layout import single_tile
from jointnet_cli.sampling.loop import Job, sample
from jointnet_cli.sampling.presets import Resolved

Folders = Callable[[str], Path]
Models = Callable[[str], JointModel]
VARIANTS = ["base", "depth", "depth-normal", "masked"]
EPSILON = {"prediction_type": "epsilon", "rescale_betas_zero_snr": False, "timestep_spacing": "leading"}
"""Stable Diffusion 1's way, beside the velocity and zero terminal SNR of the tiny models."""


@pytest.fixture
def copy(tiny_folder: Folders, tmp_path: Path) -> Path:
    """A joint model's folder that may be changed."""
    return Path(shutil.copytree(tiny_folder("masked"), tmp_path / "model"))


def networks(model: JointModel) -> dict[str, nn.Module]:
    return model.networks


def tensors(model: JointModel) -> dict[str, Tensor]:
    return {f"{name}.{key}": x for name, net in networks(model).items() for key, x in net.state_dict().items()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_float32_comes_back_exactly(tiny_model: Models, tmp_path: Path, variant: str) -> None:
    model = replace(tiny_model(variant), defaults={"steps": 3}, provenance={"seed": [1, 2]})
    save_model(model, tmp_path, torch.float32)
    loaded = load_model(tmp_path)
    before, after = tensors(model), tensors(loaded)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    # The tiny models come from folders too: what their making forgot would be zero before and after.
    assert all(x.any() for key, x in after.items() if key.startswith(("joint.exchange.", "joint.masked.")))
    assert loaded.joint.names == model.joint.names
    assert loaded.joint.has_masked_input == (variant == "masked")
    assert (loaded.factor, loaded.window) == (2, 16)
    assert loaded.defaults["steps"] == 3
    assert loaded.provenance == {"seed": [1, 2]}
    for key in ("prediction_type", "rescale_betas_zero_snr", "timestep_spacing", "clip_sample", "beta_schedule"):
        assert loaded.scheduler[key] == model.scheduler[key]
    assert not any(network.training for network in networks(loaded).values())


def test_float16_is_half_precision_and_half_the_size(tiny_model: Models, tmp_path: Path) -> None:
    model = tiny_model("masked")
    before = tensors(model)
    save_model(model, tmp_path / "half")
    save_model(model, tmp_path / "single", torch.float32)
    assert all(x.dtype == torch.float32 for x in tensors(model).values())
    for path in sorted((tmp_path / "half").rglob("*.safetensors")):
        assert {x.dtype for x in load_file(path).values()} == {torch.float16}, path
    after = tensors(load_model(tmp_path / "half"))
    for key, value in before.items():
        assert torch.allclose(after[key], value, rtol=2**-11, atol=2**-24), key
    sizes = [
        sum(path.stat().st_size for path in (tmp_path / kind).rglob("*.safetensors")) for kind in ("half", "single")
    ]
    assert sizes[0] < 0.75 * sizes[1]


def test_weights_in_shards_are_small_files_and_the_same_model(tiny_model: Models, tmp_path: Path) -> None:
    model = tiny_model("masked")
    save_model(model, tmp_path, torch.float32, shard_size="20KB")
    assert len(list((tmp_path / "unet").glob("*.safetensors"))) > 1
    assert len(list((tmp_path / "text_encoder").glob("*.safetensors"))) > 1
    largest = max(x.nbytes for x in tensors(model).values())
    for path in tmp_path.rglob("diffusion_pytorch_model*.safetensors"):
        assert path.stat().st_size < max(20_000, largest) + 20_000, path
    after = tensors(load_model(tmp_path))
    assert all(torch.equal(after[key], value) for key, value in tensors(model).items())
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path, safety_checker=None)
    assert torch.equal(pipeline.unet.conv_in.weight, model.joint.backbone("rgb").conv_in.weight)


def test_diffusers_runs_a_folder_in_half_precision(tiny_model: Models, tmp_path: Path) -> None:
    save_model(tiny_model("base"), tmp_path)
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    assert {pipeline.unet.dtype, pipeline.vae.dtype, pipeline.text_encoder.dtype} == {torch.float32}
    assert pipeline("sea", num_inference_steps=1, output_type="np").images.shape == (1, 32, 32, 3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_network_is_of_the_type_asked_for(tiny_folder: Folders, dtype: torch.dtype) -> None:
    loaded = load_model(tiny_folder("masked"), dtype)
    for name, network in networks(loaded).items():
        # bfloat16 has fewer levels than an image.
        wanted = torch.float32 if name == "vae" and dtype == torch.bfloat16 else dtype
        assert {weights.dtype for weights in network.parameters()} == {wanted}, name


def test_loading_and_saving_draw_no_bar(
    tiny_folder: Folders, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    save_model(load_model(tiny_folder("depth")), tmp_path)
    assert capfd.readouterr().err == ""


def test_a_loaded_model_predicts_what_the_saved_one_did(tiny_model: Models, tmp_path: Path) -> None:
    model = tiny_model("masked")
    save_model(model, tmp_path, torch.float32)
    loaded = load_model(read_folder(tmp_path))
    torch.manual_seed(0)
    latents, known = torch.randn(1, 2, 5, 16, 16), torch.randn(1, 2, 6, 16, 16)
    with torch.inference_mode():
        before, after = (each.joint(latents, 99, each.encode_text(["sea"]), known) for each in (model, loaded))
    assert torch.equal(before, after)


def test_a_base_folder_is_one_branch(tiny_folder: Folders, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_folder("base"), tmp_path / "base"))
    assert not (folder / "exchange.safetensors").exists()
    (folder / "jointnet.json").unlink()
    model = load_model(folder)
    assert model.joint.names == ["rgb"]
    assert not model.joint.has_masked_input
    assert len(model.joint.exchange) == 0


@pytest.mark.parametrize("schedule", [{}, EPSILON], ids=["velocity", "epsilon"])
def test_diffusers_pipeline_gives_the_same_latents(
    tiny_folder: Folders, tmp_path: Path, schedule: dict[str, Any]
) -> None:
    """The folder is a Stable Diffusion folder, and the loop is Stable Diffusion's on it."""
    folder = Path(shutil.copytree(tiny_folder("base"), tmp_path / "base"))
    config = folder / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **schedule}))
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn((1, 5, 12, 20), generator=torch.Generator().manual_seed(3))
    asked = {"height": 24, "width": 40, "num_inference_steps": 3, "guidance_scale": 3.0}
    expected = pipeline("snowy hills", negative_prompt="a lake", latents=noise, output_type="latent", **asked).images
    model = load_model(folder)
    job = Job(
        prompt="snowy hills",
        negative_prompt="a lake",
        seed=3,
        layout=single_tile(12, 20),
        sampling=Resolved(preset="paper", scheduler="ddim", steps=3, guidance=3.0),
    )
    latents = sample(model, job).latents
    assert torch.allclose(latents, expected, atol=1e-4 * float(expected.abs().max()))
    with torch.inference_mode():
        decoded = pipeline.vae.decode(expected / pipeline.vae.config.scaling_factor).sample
    assert torch.allclose(model.decode(latents).detach(), decoded, atol=1e-3)
    image = pipeline("sea", num_inference_steps=2, output_type="np").images
    assert image.shape == (1, 32, 32, 3)


def test_a_joint_folder_is_still_a_pipeline(tiny_folder: Folders) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_folder("depth"), safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline("sea", num_inference_steps=2, output_type="np").images.shape == (1, 32, 32, 3)


def test_older_readers_find_the_tokenizer(tiny_folder: Folders, tiny_model: Models) -> None:
    folder, tokenizer = tiny_folder("base") / "tokenizer", tiny_model("base").text.tokenizer
    files = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    for text in ("snowy hills by the sea", "Unheard, of 海!", ""):
        assert files(text).input_ids == tokenizer(text).input_ids


def test_text_is_padded_and_cut(tiny_model: Models) -> None:
    model = tiny_model("base")
    with torch.inference_mode():
        texts = model.encode_text(["", "sea", "sea " * 30], cut=True).text
        assert torch.equal(model.encode_text(["sea " * 90], cut=True).text, texts[2:])
    assert texts.shape == (3, 16, 16)
    assert not torch.equal(texts[0], texts[1])


def test_latents_are_scaled_and_shifted(tiny_folder: Folders) -> None:
    model = load_model(tiny_folder("base"))
    maps = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.inference_mode():
        plain, pixels = model.encode(maps), model.decode(model.encode(maps))
        model.vae.register_to_config(scaling_factor=1.4, shift_factor=0.25)
        assert torch.allclose(model.encode(maps), 2 * (plain - 0.7 * 0.25), atol=1e-5)
        assert torch.allclose(model.decode(model.encode(maps)), pixels, atol=1e-5)


@pytest.mark.parametrize(
    "piece", ["unet", "vae", "text_encoder", "branches/depth", "exchange.safetensors"], ids=lambda piece: piece
)
@pytest.mark.parametrize("fault", ["missing", "damaged"])
def test_missing_or_damaged_weights_are_the_user_s_to_mend(copy: Path, piece: str, fault: str) -> None:
    weights = copy / piece
    if weights.is_dir():
        weights = next(weights.glob("*.safetensors"))
    if fault == "missing":
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:-50])
    with pytest.raises(UserError, match=r"cannot be read: | lacks ") as refused:
        load_model(copy)
    assert str(copy) in str(refused.value)
    assert refused.value.hint


@pytest.mark.parametrize("change", ["missing", "unexpected", "misshapen"])
def test_an_exchange_that_does_not_fit_is_refused(copy: Path, change: str) -> None:
    path = copy / "exchange.safetensors"
    weights = load_file(path)
    key = "exchange.depth_to_rgb.skips.2.weight"
    if change == "missing":
        del weights[key]
    elif change == "unexpected":
        weights["exchange.normal_to_rgb.middle.bias"] = weights[key].clone()
    else:
        weights[key] = weights[key][:-1]
    save_file(weights, path)
    with pytest.raises(UserError, match=r"exchange\.safetensors") as refused:
        load_model(copy)
    assert "rgb" in str(refused.value)
    assert refused.value.hint


def test_branches_of_other_widths_are_refused(copy: Path, tiny_unet: Callable[..., Any]) -> None:
    tiny_unet(block_out_channels=(8, 16, 24)).save_pretrained(copy / "branches" / "depth")
    with pytest.raises(UserError, match="same widths"):
        load_model(copy)
