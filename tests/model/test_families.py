"""Every family of base models, against diffusers' own pipelines."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file
from torch import Tensor

from jointnet_cli.errors import UserError
from jointnet_cli.model.branch import Conditioning
from jointnet_cli.model.checkpoint import JointModel, load_model, save_model
from jointnet_cli.model.folder import describe, read_folder
from jointnet_cli.model.hub import find_model
from jointnet_cli.model.joint import JointNet

Folders = Callable[[str], Path]
Joints = Callable[[str, list[str]], Path]
FAMILIES = ["sd1", "sd2", "sdxl", "if"]
PIPELINES = {
    "sd1": "StableDiffusionPipeline",
    "sd2": "StableDiffusionPipeline",
    "sdxl": "StableDiffusionXLPipeline",
    "if": "IFPipeline",
}
PROMPTS = ["Snowy hills by the sea", "ocean reef"]


def open_pipeline(folder: Path) -> DiffusionPipeline:
    pipeline = DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def encode_prompt(pipeline: DiffusionPipeline, prompts: list[str], negative: list[str] | None) -> list[Tensor]:
    """diffusers' embeddings: of prompts and negative prompts, and of SDXL also the pooled ones."""
    given = {"do_classifier_free_guidance": True, "negative_prompt": negative, "num_images_per_prompt": 1}
    with torch.inference_mode():
        return list(pipeline.encode_prompt(prompts, device="cpu", **given))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pipeline_becomes_a_joint_model_that_equals_it(tiny_pipeline: Folders, family: str) -> None:
    pipeline, model = open_pipeline(tiny_pipeline(family)), load_model(tiny_pipeline(family))
    joint = JointNet.extend(model.joint.backbone("rgb"), ["depth", "normal"], masked_input=True).eval()
    channels = joint.channels
    latents = torch.randn(2, 3, channels, 16, 24, generator=torch.Generator().manual_seed(0))
    known = torch.randn(2, 3, channels + 1, 16, 24)
    timestep = torch.tensor([901, 7])
    with torch.inference_mode():
        given = model.encode_text(PROMPTS)
        predicted = joint(latents, timestep, given, known)
        alone = [
            pipeline.unet(x, timestep, given.text, added_cond_kwargs=given.added).sample for x in latents.unbind(1)
        ]
    assert predicted.shape[2] == (6 if family == "if" else channels)
    assert torch.equal(predicted, torch.stack(alone, dim=1))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("negative", [None, ["a lake", "lake sea"]])
def test_prompts_are_encoded_as_diffusers_does(tiny_pipeline: Folders, family: str, negative: list[str] | None) -> None:
    expected = encode_prompt(open_pipeline(tiny_pipeline(family)), PROMPTS, negative)
    model = load_model(tiny_pipeline(family))
    with torch.inference_mode():
        halves = [model.encode_text(PROMPTS), model.encode_text(negative or ["", ""])]
    for given, text in zip(halves, expected[:2], strict=True):
        assert torch.equal(given.text, text)
        assert (given.added is not None) == (family == "sdxl")
    assert expected[0].std() > 0.1
    assert expected[1].any() == (family != "sdxl" or negative is not None)
    for given, pooled in zip(halves, expected[2:], strict=False):
        assert given.added is not None
        assert torch.equal(given.added["text_embeds"], pooled)
        assert given.added["time_ids"].tolist() == [[32, 32, 0, 0, 32, 32]] * 2


def test_an_empty_prompt_of_sdxl_is_text_where_the_base_says_so(tiny_pipeline: Folders, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_pipeline("sdxl"), tmp_path / "sdxl"))
    change(folder / "model_index.json", force_zeros_for_empty_prompt=False)
    expected = encode_prompt(open_pipeline(folder), PROMPTS, None)
    model = load_model(folder)
    with torch.inference_mode():
        assert torch.equal(model.encode_text(["", ""]).text, expected[1])
    save_model(model, tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "model_index.json").read_text())["force_zeros_for_empty_prompt"] is False


@pytest.mark.parametrize("family", FAMILIES)
def test_a_joint_model_comes_back_and_is_still_the_pipeline(
    tiny_pipeline: Folders, tiny_joint: Joints, tmp_path: Path, family: str
) -> None:
    model = load_model(find_model(str(tiny_joint(family, ["depth"]))))
    save_model(model, tmp_path, torch.float32)
    again = load_model(tmp_path)
    assert model.joint.names == again.joint.names == ["rgb", "depth"]
    for name, network in model.networks.items():
        before, after = network.state_dict(), again.networks[name].state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before), name
    assert again.scheduler == model.scheduler == load_model(tiny_pipeline(family)).scheduler
    original, saved = open_pipeline(tiny_pipeline(family)), open_pipeline(tmp_path)
    assert type(saved).__name__ == PIPELINES[family]
    assert type(saved.scheduler) is type(original.scheduler)
    assert dict(saved.scheduler.config) == dict(original.scheduler.config)
    images = [draw(pipeline) for pipeline in (original, saved)]
    assert images[0].shape == (1, 32, 32, 3)
    assert (images[0] == images[1]).all()


def draw(pipeline: DiffusionPipeline) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    given = {"height": 32, "width": 32, "num_inference_steps": 2, "generator": generator, "output_type": "np"}
    return torch.from_numpy(pipeline("ocean reef", **given).images)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_folder_says_what_the_model_is(tiny_joint: Joints, family: str) -> None:
    facts, model = read_folder(tiny_joint(family, ["depth"])), load_model(tiny_joint(family, ["depth"]))
    factor = 1 if family == "if" else 2
    assert (facts.factor, facts.window, facts.size) == (factor, 32 // factor, 32)
    assert (model.factor, model.window, model.joint.channels) == (factor, facts.window, 3 if family == "if" else 4)
    assert facts.multiple == (2 if family == "if" else 1)
    maps = torch.rand(2, 3, 32, 64) * 2 - 1
    with torch.inference_mode():
        latents = model.encode(maps)
        assert latents.shape == (2, model.joint.channels, 32 // factor, 64 // factor)
        assert model.decode(latents).shape == maps.shape


def test_without_a_vae_a_map_is_its_own_latents(tiny_joint: Joints) -> None:
    model = load_model(tiny_joint("if", ["depth"]))
    maps = torch.rand(1, 3, 8, 8)
    assert model.vae is None
    assert torch.equal(model.encode(maps), maps) and torch.equal(model.decode(maps), maps)


def test_sides_that_deepfloyd_if_cannot_double_are_refused(tiny_joint: Joints) -> None:
    facts = read_folder(tiny_joint("if", ["depth"]))
    assert facts.latent_side(34, "width") == 34
    with pytest.raises(UserError, match="width must be a multiple of 2, got 33") as fault:
        facts.latent_side(33, "width")
    assert fault.value.hint == "--width 32"


@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision(tiny_joint: Joints, family: str) -> None:
    model = load_model(tiny_joint(family, ["depth"]), torch.float16)
    assert {weights.dtype for weights in model.joint.parameters()} == {torch.float16}
    # As in diffusers: SDXL's VAE overflows in float16.
    if model.vae is not None:
        assert model.vae.dtype == (torch.float32 if family == "sdxl" else torch.float16)
    with torch.inference_mode():
        assert model.encode_text(["sea"]).text.dtype == torch.float16
        latents = model.encode(torch.zeros(1, 3, 32, 32))
        assert latents.dtype == torch.float32
        assert model.decode(latents).isfinite().all()


def test_latents_are_normalised_by_their_statistics(tiny_pipeline: Folders) -> None:
    model = load_model(tiny_pipeline("sdxl"))
    maps = torch.rand(1, 3, 32, 32) * 2 - 1
    mean, std = [0.1, -0.2, 0.3, 0.0], [2.0, 0.5, 1.0, 4.0]
    with torch.inference_mode():
        plain = model.encode(maps) / 0.13025
        pixels = model.decode(model.encode(maps))
        model.vae.register_to_config(latents_mean=mean, latents_std=std)
        normalised = (plain - torch.tensor(mean).view(1, 4, 1, 1)) * 0.13025 / torch.tensor(std).view(1, 4, 1, 1)
        assert torch.allclose(model.encode(maps), normalised, atol=1e-5)
        assert torch.allclose(model.decode(model.encode(maps)), pixels, atol=1e-5)


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"_class_name": "FluxPipeline"}, "FluxPipeline"),
        ({"vae": ["diffusers", "AutoencoderTiny"]}, "AutoencoderTiny"),
        ({"text_encoder": ["somewhere", "Custom"]}, "text_encoder is Custom"),
    ],
)
def test_other_pipelines_are_refused(
    tiny_pipeline: Folders, tmp_path: Path, changed: dict[str, object], words: str
) -> None:
    folder = Path(shutil.copytree(tiny_pipeline("sd1"), tmp_path / "sd1"))
    change(folder / "model_index.json", **changed)
    with pytest.raises(UserError, match=words) as fault:
        read_folder(folder)
    assert "Stable Diffusion XL" in str(fault.value.hint)


def test_sdxl_s_further_conditions_are_those_of_the_rows(tiny_pipeline: Folders) -> None:
    model: JointModel = load_model(tiny_pipeline("sdxl"))
    with torch.inference_mode():
        given = model.encode_text(PROMPTS).rows([1, 0, 1])
    assert isinstance(given, Conditioning) and given.added is not None
    assert [len(value) for value in (given.text, *given.added.values())] == [3, 3, 3]


@pytest.mark.parametrize("family", ["sd1", "sdxl", "if"])
@pytest.mark.parametrize("saved", ["pickles", "shards", "half-precision shards"])
def test_weights_as_older_and_larger_models_have_them(
    tiny_pipeline: Folders, tmp_path: Path, family: str, saved: str
) -> None:
    """One file a network or many, safetensors or pickles, as diffusers itself writes them."""
    variant = "fp16" if "half" in saved else None
    pipeline = open_pipeline(tiny_pipeline(family))
    if saved == "pickles":
        pipeline.save_pretrained(tmp_path)
        for path in sorted(tmp_path.rglob("*.safetensors")):
            stem = "pytorch_model" if path.stem == "model" else path.stem
            torch.save(load_file(path), path.with_name(f"{stem}.bin"))
            path.unlink()
    else:
        pipeline.save_pretrained(tmp_path, variant=variant, max_shard_size="30KB")
        assert len(list((tmp_path / "unet").glob("*-of-*.safetensors"))) > 1
    facts = find_model(str(tmp_path))
    model, original = load_model(facts), load_model(tiny_pipeline(family))
    for name, network in model.networks.items():
        expected = original.networks[name].state_dict()
        assert all(torch.equal(value, expected[key]) for key, value in network.state_dict().items()), name
    assert describe("", facts)["parameters"] == sum(weights.numel() for weights in model.joint.parameters())


def test_a_sentencepiece_tokenizer_says_what_it_needs(tiny_pipeline: Folders, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_pipeline("if"), tmp_path / "if"))
    (folder / "tokenizer" / "tokenizer.json").rename(folder / "tokenizer" / "spiece.model")
    with pytest.raises(UserError, match=r"/tokenizer needs sentencepiece$") as fault:
        load_model(folder)
    assert find_spec("sentencepiece") or fault.value.hint == "pip install sentencepiece protobuf"
