"""What holds for every architecture: its face, what trains, its folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from jointnet_cli.engine import Engine
from jointnet_cli.errors import UserError
from jointnet_cli.model.branch import Conditioning
from jointnet_cli.model.checkpoint import extend, load_model, save_model
from jointnet_cli.model.folder import describe, read_folder
from jointnet_cli.model.hub import find_model
from jointnet_cli.model.joint import JointDenoiser
from jointnet_cli.model.jointnet_json import ARCHITECTURES
from jointnet_cli.model.published import export_model
from jointnet_cli.model.weights import weights_hash
from jointnet_cli.sampling.presets import Sampling
from jointnet_cli.tasks import Generate, Panorama
from jointnet_cli.training.stages.stage import enable_gradient_checkpointing

MakeUnet = Callable[..., UNet2DConditionModel]
Folders = Callable[[str], Path]
Wake = Callable[[JointDenoiser], None]
each = pytest.mark.parametrize("architecture", ARCHITECTURES)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def make(tiny_unet: MakeUnet, architecture: str) -> JointDenoiser:
    """At the start of its training, of RGB, depth and normals."""
    return extend(architecture, tiny_unet(), ["depth", "normal"], rank=4).eval()


def ask(network: JointDenoiser, latents: Tensor) -> Tensor:
    text = draw(len(latents), 6, 16, seed=1)
    return network(latents, torch.tensor([400, 7][: len(latents)]), Conditioning(text))


@each
@pytest.mark.parametrize("size", [(16, 16), (9, 13)])
def test_every_modality_reaches_every_prediction(
    tiny_unet: MakeUnet, wake: Wake, architecture: str, size: tuple[int, int]
) -> None:
    network, latents = make(tiny_unet, architecture), draw(2, 3, 5, *size)
    assert (network.architecture, network.names, network.channels) == (architecture, ["rgb", "depth", "normal"], 5)
    assert not network.has_masked_input
    wake(network)
    with torch.inference_mode():
        before = ask(network, latents)
        assert before.shape == latents.shape
        for sender in range(3):
            changed = latents.clone()
            changed[:, sender] += 1
            assert ((ask(network, changed) - before).abs().amax(dim=(0, 2, 3, 4)) > 1e-4).all()


def gradients(network: JointDenoiser) -> dict[str, Tensor | None]:
    network.zero_grad()
    ask(network, draw(2, 3, 5, 8, 8)).square().mean().backward()
    return {name: weights.grad for name, weights in network.named_parameters()}


HALF = {"conv_in", "time_embedding", "down_blocks", "mid_block"}
LOCKED = {
    "jointnet": {"branches.rgb"},
    "lora": {"branches.rgb"},
    "direct-extend": set(),
    "controlnet-direct-extend": {f"body.{part}" for part in HALF},
}


@each
@pytest.mark.parametrize("train_rgb", [False, True])
def test_gradients_reach_what_trains_and_nothing_else(
    tiny_unet: MakeUnet, wake: Wake, architecture: str, train_rgb: bool
) -> None:
    network = make(tiny_unet, architecture)
    wake(network)
    network.set_trainable(True)
    network.set_trainable(train_rgb)
    locked = set() if train_rgb else LOCKED[architecture]
    reached = gradients(network)
    assert {".".join(name.split(".")[:2]) for name, grad in reached.items() if grad is None} == locked
    for name, grad in reached.items():
        if ".".join(name.split(".")[:2]) not in locked:
            assert grad is not None and grad.any(), name


@each
def test_checkpointing_keeps_less_and_gives_the_same_gradients(
    tiny_unet: MakeUnet, wake: Wake, architecture: str
) -> None:
    network = make(tiny_unet, architecture).train()
    wake(network)
    network.set_trainable(False)
    kept: list[int] = []

    def keep(x: Tensor) -> Tensor:
        kept.append(x.numel())
        return x

    def measure() -> tuple[dict[str, Tensor | None], int]:
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            found = {name: None if x is None else x.clone() for name, x in gradients(network).items()}
        return found, sum(kept)

    plain, everything = measure()
    enable_gradient_checkpointing(network)
    checkpointed, less = measure()
    assert less < 0.5 * everything
    for name, grad in plain.items():
        again = checkpointed[name]
        assert (grad is None) == (again is None), name
        assert grad is None or torch.equal(grad, again), name


@each
def test_a_folder_comes_back_bit_for_bit(architecture_folder: Folders, tmp_path: Path, architecture: str) -> None:
    model = load_model(architecture_folder(architecture))
    save_model(model, tmp_path, torch.float32)
    loaded = load_model(find_model(str(tmp_path)))
    assert type(loaded.joint) is type(model.joint)
    before, after = model.joint.state_dict(), loaded.joint.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert all(x.any() for x in after.values())
    assert (loaded.factor, loaded.window) == (2, 16)
    with torch.inference_mode():
        latents = draw(2, 3, *loaded.encode(draw(1, 3, 32, 32)).shape[1:])
        assert torch.equal(ask(model.joint, latents), ask(loaded.joint, latents))


@each
def test_what_a_folder_says_of_itself(architecture_folder: Folders, architecture: str) -> None:
    folder = architecture_folder(architecture)
    facts = read_folder(folder)
    assert (facts.architecture, facts.branches) == (architecture, ["rgb", "depth", "normal"])
    assert (facts.window, facts.factor, facts.size) == (16, 2, 32)
    assert facts.rank == (4 if architecture == "lora" else None)
    told = describe("x", find_model(str(folder)))
    assert told["architecture"] == architecture
    assert told["parameters"] == sum(weights.numel() for weights in load_model(folder).joint.parameters())
    assert told["hash"] == weights_hash(folder)


@each
def test_every_file_of_weights_counts(architecture_folder: Folders, tmp_path: Path, architecture: str) -> None:
    folder = Path(shutil.copytree(architecture_folder(architecture), tmp_path / "model"))
    files = [folder / file for file in read_folder(folder).extra_files]
    name = weights_hash(folder)
    for path in files:
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert weights_hash(folder) != name
        path.unlink()
        with pytest.raises(UserError, match=path.name) as fault:
            find_model(str(folder))
        assert fault.value.hint
        path.write_bytes(content[:-50])
        with pytest.raises(UserError, match=path.name):
            load_model(folder)
        path.write_bytes(content)
    assert weights_hash(folder) == name


@each
def test_the_engine_runs_it(architecture_folder: Folders, architecture: str) -> None:
    engine = Engine.open(str(architecture_folder(architecture)), device="cpu", dtype="float32")
    assert engine.folder.architecture == architecture
    sampling = Sampling(steps=2, guidance=2.0)
    made = engine.generate(Generate(prompt="a lake", seed=1, sampling=sampling))
    assert made.image.shape == (32, 32, 3)
    assert {name: values.shape for name, values in made.maps.items()} == {"depth": (32, 32), "normal": (32, 32, 3)}
    assert all(np.isfinite(values).all() and values.std() > 0 for values in (made.image, *made.maps.values()))
    wide = engine.panorama(Panorama(prompt="a lake", width=64, height=32, seed=1, sampling=sampling))
    assert wide.image.shape == (32, 64, 3)


@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name != "jointnet"])
def test_only_the_paper_s_has_a_published_layout(
    architecture_folder: Folders, tmp_path: Path, architecture: str
) -> None:
    with pytest.raises(UserError, match=architecture) as fault:
        export_model(read_folder(architecture_folder(architecture)), tmp_path / "out")
    assert fault.value.hint
    assert not (tmp_path / "out").exists()


def test_a_folder_that_names_no_architecture_is_a_jointnet(tiny_folder: Folders, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_folder("depth"), tmp_path / "model"))
    record = json.loads((folder / "jointnet.json").read_text())
    assert record.pop("architecture") == "jointnet"
    (folder / "jointnet.json").write_text(json.dumps(record))
    assert load_model(folder).joint.architecture == "jointnet"
    (folder / "jointnet.json").write_text(json.dumps({**record, "architecture": "ldm3d"}))
    with pytest.raises(UserError, match="ldm3d is not known") as fault:
        read_folder(folder)
    assert fault.value.hint


@pytest.mark.parametrize("family", ["sd1", "sdxl", "if"])
@each
def test_every_family_of_bases_can_be_extended(tiny_pipeline: Folders, family: str, architecture: str) -> None:
    model = load_model(tiny_pipeline(family))
    base = model.joint.backbone("rgb")
    network = extend(architecture, base, ["depth"]).eval()
    with torch.inference_mode():
        given = model.encode_text(["a lake", ""])
        latents = draw(2, 2, network.channels, 16, 16)
        alone = base(latents[:, 0], 9, given.text, added_cond_kwargs=given.added).sample
        predicted = network(latents, 9, given)
    assert predicted.shape[:2] == (2, 2)
    assert torch.allclose(predicted[:, 0], alone, atol=1e-5)


def test_an_unknown_architecture_is_refused(tiny_unet: MakeUnet) -> None:
    with pytest.raises(KeyError, match="ldm3d"):
        extend("ldm3d", tiny_unet(), ["depth"])


@each
def test_without_weights_the_networks_have_the_same_shapes(
    architecture_folder: Folders, tmp_path: Path, architecture: str
) -> None:
    folder = shutil.copytree(architecture_folder(architecture), tmp_path / "model")
    loaded = load_model(folder).networks
    for path in folder.rglob("*.safetensors"):
        path.unlink()
    shapes = load_model(folder, weights=False).networks
    assert loaded.keys() == shapes.keys()
    for name, network in loaded.items():
        found = {key: (value.shape, value.dtype) for key, value in shapes[name].named_parameters()}
        assert found == {key: (value.shape, value.dtype) for key, value in network.named_parameters()}
        assert all(value.is_meta for value in shapes[name].parameters())
    with pytest.raises(UserError):
        load_model(folder)
