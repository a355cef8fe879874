"""LoRA branches: the base's own weights and adapters."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor

from jointnet_cli.errors import UserError
from jointnet_cli.model.adapters import LoraJointNet
from jointnet_cli.model.branch import Conditioning
from jointnet_cli.model.checkpoint import extend, load_model, save_model
from jointnet_cli.model.folder import read_folder
from jointnet_cli.model.hub import find_model
from jointnet_cli.model.joint import JointNet

MakeUnet = Callable[..., UNet2DConditionModel]
Folders = Callable[[str], Path]
Wake = Callable[[LoraJointNet], None]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def copy(architecture_folder: Folders, tmp_path: Path) -> Path:
    """A LoRA model's folder that may be changed."""
    return Path(shutil.copytree(architecture_folder("lora"), tmp_path / "model"))


def check_sharing(joint: LoraJointNet) -> None:
    """Every parameter of a further branch is one of RGB's or of its adapters', the object itself."""
    base = {id(weights) for weights in joint.backbone("rgb").parameters()}
    for name in joint.names[1:]:
        further = dict(joint.backbone(name).named_parameters())
        own = {key for key, weights in further.items() if id(weights) not in base}
        assert own == {key for key in further if ".lora_" in key}
        assert {id(weights) for weights in further.values()} >= base


def numbers(module: torch.nn.Module) -> int:
    return sum(weights.numel() for weights in module.parameters())


@pytest.mark.parametrize("size", [(16, 16), (9, 13)])
def test_every_branch_starts_as_the_base(tiny_unet: MakeUnet, size: tuple[int, int]) -> None:
    unet, latents, text = tiny_unet(), draw(2, 3, 5, *size), draw(2, 6, 16, seed=1)
    joint = LoraJointNet.extend(unet, ["depth", "normal"]).eval()
    assert joint.backbone("rgb") is unet
    with torch.inference_mode():
        predicted = joint(latents, 300, Conditioning(text))
        alone = [unet(x, 300, text).sample for x in latents.unbind(1)]
    assert torch.equal(predicted, torch.stack(alone, dim=1))


@pytest.mark.parametrize("family", ["sd1", "sdxl", "if"])
def test_adapters_sit_on_all_attention_and_all_residual_blocks(tiny_pipeline: Folders, family: str) -> None:
    unet = load_model(tiny_pipeline(family)).joint.backbone("rgb")
    lora = LoraJointNet.extend(unet, ["depth"], rank=3).backbone("depth")
    adapted = {name.split(".lora_A")[0] for name, _ in lora.named_parameters() if ".lora_A" in name}
    wanted = {
        f"{name}.{part}"
        for name, module in unet.named_modules()
        for part, layer in module.named_modules()
        if type(module).__name__ in ("Attention", "ResnetBlock2D")
        and isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d))
        and part != "time_emb_proj"
    }
    assert adapted == wanted


def test_a_light_branch_costs_its_adapters_and_its_exchange(tiny_unet: MakeUnet) -> None:
    unet = tiny_unet()
    lora, whole = LoraJointNet.extend(unet, ["depth"], rank=2), JointNet.extend(tiny_unet(), ["depth"])
    check_sharing(lora)
    adapters = sum(x.numel() for key, x in lora.backbone("depth").named_parameters() if ".lora_" in key)
    assert 0 < adapters < numbers(unet) / 4
    assert numbers(lora) == numbers(unet) + adapters + numbers(lora.exchange)
    assert numbers(whole) == 2 * numbers(unet) + numbers(lora.exchange)
    assert lora.rank == 2


@pytest.mark.parametrize(
    "moved",
    [
        lambda joint: joint.to(torch.float64),
        lambda joint: joint.to(torch.bfloat16),
        lambda joint: joint.to(torch.device("cpu"), torch.float16),
        lambda joint: joint.to(memory_format=torch.channels_last),
        lambda joint: joint.half().float(),
    ],
    ids=["float64", "bfloat16", "device", "channels-last", "there-and-back"],
)
def test_sharing_survives_a_move(tiny_unet: MakeUnet, moved: Callable[[LoraJointNet], LoraJointNet]) -> None:
    joint = LoraJointNet.extend(tiny_unet(), ["depth", "normal"], rank=2)
    check_sharing(moved(joint))
    assert len({weights.dtype for weights in joint.parameters()}) == 1


@pytest.mark.gpu
def test_sharing_survives_a_gpu(tiny_unet: MakeUnet) -> None:
    joint = LoraJointNet.extend(tiny_unet(), ["depth"], rank=2).to("cuda")
    check_sharing(joint)
    assert {weights.device.type for weights in joint.parameters()} == {"cuda"}


def test_sharing_survives_a_checkpoint_of_training(tiny_unet: MakeUnet, wake: Wake, tmp_path: Path) -> None:
    joint = LoraJointNet.extend(tiny_unet(), ["depth"], rank=2)
    wake(joint)
    torch.save(joint.state_dict(), tmp_path / "state.pt")
    other = LoraJointNet.extend(tiny_unet(1), ["depth"], rank=2)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert sum({x.data_ptr(): x.numel() for x in state.values()}.values()) == numbers(joint)
    other.load_state_dict(state)
    check_sharing(other)
    assert all(torch.equal(x, y) for x, y in zip(joint.parameters(), other.parameters(), strict=True))


def test_only_adapters_are_saved_and_sharing_is_rebuilt(copy: Path, architecture_folder: Folders) -> None:
    files = {path.relative_to(copy).as_posix() for path in (copy / "branches").rglob("*") if path.is_file()}
    branches = ("depth", "normal")
    parts = ("adapters.safetensors", "adapter_config.json")
    assert files == {f"branches/{branch}/{part}" for branch in branches for part in parts}
    model = load_model(copy)
    assert isinstance(model.joint, LoraJointNet)
    check_sharing(model.joint)
    saved = sum(x.numel() for name in branches for x in load_file(copy / f"branches/{name}/{parts[0]}").values())
    assert saved + numbers(model.joint.backbone("rgb")) + numbers(model.joint.exchange) == numbers(model.joint)
    whole = architecture_folder("jointnet")
    sizes = [sum(path.stat().st_size for path in (each / "branches").rglob("*")) for each in (copy, whole)]
    assert sizes[0] < 0.5 * sizes[1]
    model.to(torch.device("cpu"))
    check_sharing(model.joint)


def test_masked_input_comes_back_too(copy: Path, wake: Wake, tmp_path: Path) -> None:
    model = load_model(copy)
    model.joint.add_masked_input()
    wake(model.joint)
    save_model(model, tmp_path / "masked", torch.float32)
    assert read_folder(tmp_path / "masked").masked_input
    loaded = load_model(tmp_path / "masked")
    latents, known, text = draw(1, 3, 5, 8, 8), draw(1, 3, 6, 8, 8, seed=2), Conditioning(draw(1, 6, 16, seed=1))
    with torch.inference_mode():
        before, after = (each.joint(latents, 300, text, known) for each in (model, loaded))
        assert torch.equal(before, after)
        assert not torch.equal(before, loaded.joint(latents, 300, text))


def test_a_branch_s_adapters_are_a_lora_that_diffusers_reads(copy: Path) -> None:
    model = load_model(copy)
    unet = UNet2DConditionModel.from_pretrained(copy / "unet")
    unet.load_lora_adapter(copy / "branches" / "depth", prefix=None, weight_name="adapters.safetensors")
    latents, text = draw(1, 5, 8, 8), draw(1, 6, 16, seed=1)
    with torch.inference_mode():
        ours = model.joint.backbone("depth")(latents, 300, text).sample
        assert torch.equal(unet.eval()(latents, 300, text).sample, ours)
        assert not torch.equal(model.joint.backbone("rgb")(latents, 300, text).sample, ours)


def test_training_the_base_moves_every_branch(tiny_unet: MakeUnet) -> None:
    joint = LoraJointNet.extend(tiny_unet(), ["depth"], rank=2)
    joint.set_trainable(True)
    latents, given = draw(1, 2, 5, 8, 8), Conditioning(draw(1, 6, 16, seed=1))
    before = joint(latents, 300, given)
    before[:, 0].square().mean().backward()
    torch.optim.SGD(joint.parameters(), lr=0.1).step()
    assert ((joint(latents, 300, given) - before).abs().amax(dim=(0, 2, 3, 4)) > 1e-4).all()
    check_sharing(joint)


@pytest.mark.parametrize("fault", ["missing", "empty", "other rank"])
def test_adapters_that_do_not_fit_are_refused(copy: Path, fault: str) -> None:
    path = copy / "branches" / "depth" / "adapter_config.json"
    if fault == "missing":
        path.unlink()
    else:
        change = {} if fault == "empty" else {**json.loads(path.read_text()), "r": 3}
        path.write_text(json.dumps(change))
    with pytest.raises(UserError, match="branches/depth") as refused:
        load_model(find_model(str(copy)))
    assert refused.value.hint


def test_a_folder_of_an_earlier_version_calls_the_architecture_light(copy: Path) -> None:
    record = json.loads((copy / "jointnet.json").read_text())
    assert record["architecture"] == "lora"
    (copy / "jointnet.json").write_text(json.dumps({**record, "architecture": "light"}))
    assert read_folder(copy).architecture == "lora"
    assert load_model(copy).joint.rank == 4


def test_without_peft_the_remedy_is_said(copy: Path, tiny_unet: MakeUnet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    for attempt in (lambda: load_model(copy), lambda: extend("lora", tiny_unet(), ["depth"])):
        with pytest.raises(UserError, match="peft") as refused:
            attempt()
        assert refused.value.hint == "pip install 'jointnet-cli[lora]'"
