"""What the base and joint stages learn from, freeze and write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from jointnet_cli.errors import UserError
from jointnet_cli.model.branch import Conditioning
from jointnet_cli.model.checkpoint import load_model
from jointnet_cli.training.recipe import to_toml_record
from jointnet_cli.training.run import train
from jointnet_cli.training.stages.joint import JointStage

from .conftest import SIZE, STEPS, Tiny, log_of, losses_at, opened
from .test_masks import kind as kind_of

pytestmark = pytest.mark.slow

UNET = "diffusion_pytorch_model.safetensors"


class Apart(nn.Module):
    """The base model's UNet on every branch by itself."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, latents: Tensor, timestep: Tensor, given: Conditioning, known: Tensor | None = None) -> Tensor:
        predicted = [self.unet(branch, timestep, given.text).sample for branch in latents.unbind(1)]
        return torch.stack(predicted, dim=1)


def losses_of(stage: JointStage, network: nn.Module, step: int = 0) -> dict[str, float]:
    with torch.no_grad():
        return {name: loss.item() for name, loss in losses_at(stage, network, step).items()}


@pytest.mark.parametrize("maps", ["['rgb', 'depth']", "['rgb', 'depth', 'normal']"])
@pytest.mark.parametrize("masked", [False, True])
def test_an_untrained_joint_model_costs_what_its_base_costs(
    tiny: Tiny, base_run: Path, maps: str, masked: bool
) -> None:
    masks = ["masked_input=true", "masks.equal=1"] if masked else []
    recipe = tiny("joint-depth", f"data.maps={maps}", *masks, "train.batch_size=6")
    stage = opened(recipe)
    together = losses_of(stage, stage.network)
    assert list(together) == list(recipe.data.maps)
    assert together == losses_of(stage, Apart(load_model(base_run / "model").joint.backbone("rgb")))
    assert len(set(together.values())) == len(recipe.data.maps)


def test_known_regions_reach_the_network_and_are_not_counted(tiny: Tiny, base_run: Path) -> None:
    class Watcher(Apart):
        known: Tensor

        def forward(self, latents: Tensor, timestep: Tensor, given: Conditioning, known: Any = None) -> Tensor:
            self.known = known
            return torch.zeros_like(latents)

    stage = opened(
        tiny("inpaint", "model=runs/base/model", "masks.image_known=1", "masks.maps_known=0", "masks.equal=0",
             "masks.unequal=0", "train.batch_size=8", "data.flip=false"),
    )  # fmt: skip
    watcher = Watcher(load_model(base_run / "model").joint.backbone("rgb"))
    losses = losses_of(stage, watcher)
    assert losses["rgb"] == 0 and losses["depth"] > 0
    mask, content = watcher.known[:, :, :1], watcher.known[:, :, 1:]
    assert not mask[:, 0].any() and mask[:, 1].all()
    latents = stage.source.data.latents[0].float()
    assert all((latents[:, 0] == item).all(dim=(1, 2, 3)).any() for item in content[:, 0])
    assert not content[:, 1].any()


@pytest.mark.parametrize("name", ["image_known", "maps_known", "equal", "unequal"])
def test_the_masks_of_a_recipe_reach_the_network(tiny: Tiny, base_run: Path, name: str) -> None:
    class Watcher(Apart):
        def forward(self, latents: Tensor, timestep: Tensor, given: Conditioning, known: Any = None) -> Tensor:
            self.masks = known[:, :, :1]
            return torch.zeros_like(latents)

    none = dict.fromkeys(("image_known", "maps_known", "equal", "unequal"), 0)
    masks = [f"masks.{kind}={share}" for kind, share in {**none, name: 1}.items()]
    settings = ("model=runs/base/model", "data.maps=['rgb', 'depth', 'normal']", "train.batch_size=32", *masks)
    stage = opened(tiny("inpaint", *settings))
    watcher = Watcher(load_model(base_run / "model").joint.backbone("rgb"))
    losses_of(stage, watcher)
    kinds = [kind_of(item) for item in watcher.masks]
    assert kinds.count(name) >= 30  # a rectangle covers the whole image now and then


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_dense_prediction_in_one_step_is_learned_from_pure_noise(tiny: Tiny, base_run: Path, share: float) -> None:
    """Its maps at the timestep where sampling begins, everything else at any."""

    class Watcher(Apart):
        def forward(self, latents: Tensor, timestep: Tensor, given: Conditioning, known: Any = None) -> Tensor:
            self.predicts = ~known[:, 0, 0].flatten(1).any(1)
            self.is_last = timestep == stage.noise_schedule.config.num_train_timesteps - 1
            return torch.zeros_like(latents)

    stage = opened(
        tiny("inpaint", "model=runs/base/model", "masks.image_known=0.5", "masks.maps_known=0.5", "masks.equal=0",
             "masks.unequal=0", f"masks.one_step={share}", "train.batch_size=64"),
    )  # fmt: skip
    watcher = Watcher(load_model(base_run / "model").joint.backbone("rgb"))
    losses_of(stage, watcher)
    assert 16 < watcher.predicts.sum() < 48 and not watcher.is_last[~watcher.predicts].any()
    assert watcher.is_last[watcher.predicts].float().mean().item() == pytest.approx(share, abs=0.25 * (share == 0.5))


def test_a_masked_input_model_is_told_that_nothing_is_known(tiny: Tiny, tiny_folder: Callable[[str], Path]) -> None:
    """As in sampling, also where the recipe trains joint generation alone; else its masked input would have no gradient."""
    stage = opened(tiny("joint-depth", f"model={tiny_folder('masked')}"))
    torch.stack(list(losses_at(stage, stage.network).values())).sum().backward()
    assert all(parameter.grad is not None for parameter in stage.network.parameters() if parameter.requires_grad)
    assert all(parameter.grad.any() for name, parameter in stage.network.masked.named_parameters())  # type: ignore[union-attr]


def test_the_locked_branch_has_no_gradients(tiny: Tiny, base_run: Path) -> None:
    stage = opened(tiny("joint-depth"))
    torch.stack(list(losses_at(stage, stage.network).values())).sum().backward()
    joint = stage.model.joint
    assert all(parameter.grad is None for parameter in joint.backbone("rgb").parameters())
    without = [name for name, parameter in joint.backbone("depth").named_parameters() if parameter.grad is None]
    assert not without
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in joint.exchange.parameters())


def test_the_first_joint_stage_trains_all_but_the_rgb_branch(base_run: Path, joint_run: Path) -> None:
    base = load_file(base_run / "model/unet" / UNET)
    rgb = load_file(joint_run / "model/unet" / UNET)
    depth = load_file(joint_run / "model/branches/depth" / UNET)
    assert base.keys() == rgb.keys() == depth.keys()
    assert all(torch.equal(rgb[key], base[key]) for key in base)
    assert not any(torch.equal(depth[key], base[key]) for key in base)
    exchange = load_file(joint_run / "model/exchange.safetensors")
    for direction in ("rgb_to_depth", "depth_to_rgb"):
        sent = {key: tensor for key, tensor in exchange.items() if key.startswith(f"exchange.{direction}.")}
        assert sent and all(tensor.any() for tensor in sent.values())
    for part in ("vae", "text_encoder"):
        before, after = (load_file(next((run / "model" / part).glob("*.safetensors"))) for run in (base_run, joint_run))
        assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


def test_the_base_model_folder(tiny: Tiny, base_run: Path) -> None:
    model = load_model(base_run / "model")
    assert model.joint.names == ["rgb"] and model.window == SIZE // model.factor
    record = model.provenance["base"]
    assert record["recipe"] == to_toml_record(tiny("base"))
    assert record["steps"] == STEPS and record["samples"] == 4 * STEPS and record["torch"] == torch.__version__
    untrained = Path("runs/base/model/text_encoder/model.safetensors")
    assert untrained.is_file() and model.encode_text(["a hut"]).text.shape == (1, 16, 16)
    assert model.words and "a" in model.words.known
    assert Image.open(base_run / f"previews/{STEPS:07}.png").size == (2 * SIZE, SIZE)


def test_training_logs_how_many_captions_are_cut(tiny: Tiny, base_run: Path, tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = []
    stage = opened(tiny("base", "text_encoder.tokens=8"), tmp_path, lines.append)
    tokenize = stage.model.text.tokenizers["tokenizer"].tokenize
    cut = sum(len(tokenize(caption)) > 6 for caption in stage.rows)
    assert 0 < cut <= len(stage.rows) - 1
    warning = f"{cut} of {len(stage.rows) - 1} captions are longer than the text encoder reads and are cut"
    assert [line for line in lines if "warning" in line] == [{"warning": warning}]

    joint: list[dict[str, Any]] = []
    model = load_model(base_run / "model")
    opened(tiny("joint-depth"), log=joint.append)
    cut = model.count_cut(list(stage.rows))
    assert [line["warning"].split()[0] for line in joint if "warning" in line] == ([str(cut)] if cut else [])


def test_the_joint_model_folder(tiny: Tiny, joint_run: Path) -> None:
    model = load_model(joint_run / "model")
    assert model.joint.names == ["rgb", "depth"] and not model.joint.has_masked_input
    assert [stage["recipe"] for stage in model.provenance["joint"]] == [to_toml_record(tiny("joint-depth"))]
    assert model.provenance["base"]["recipe"] == to_toml_record(tiny("base"))
    assert Image.open(joint_run / f"previews/{STEPS:07}.png").size == (SIZE, 2 * SIZE)


def test_the_log_has_the_losses_of_every_branch(joint_run: Path) -> None:
    lines = log_of(joint_run)
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert [line["progress"] for line in lines] == pytest.approx([step / STEPS for step in range(1, STEPS + 1)])
    for line in lines:
        assert line["rgb"] > 0 and line["depth"] > 0 and line["gradient_norm"] > 0 and line["minutes"] >= 0
    assert lines[0]["rgb"] != lines[0]["depth"]


def test_masked_input_goes_on_from_the_first_stage(tiny: Tiny, joint_run: Path, tmp_path: Path) -> None:
    stated = {"scheduler": "euler", "steps": 7, "guidance": 3.5, "depth_steps": 3}
    inference = [f"inference.{name}={value}" for name, value in stated.items()]
    recipe = tiny("inpaint", "train.max_steps=2", "train.ema=0.5", *inference)
    model = load_model(train(recipe, out=tmp_path / "inpaint"))
    before = load_model(joint_run / "model")
    assert model.joint.names == ["rgb", "depth"] and model.joint.has_masked_input
    assert all(parameter.any() for parameter in model.joint.masked.parameters())
    assert not torch.equal(model.joint.backbone("rgb").conv_in.weight, before.joint.backbone("rgb").conv_in.weight)
    stages = [stage["recipe"]["description"] for stage in model.provenance["joint"]]
    assert stages == [tiny("joint-depth").description, recipe.description]
    assert {name: model.defaults[name] for name in stated} == stated


def test_a_compiled_network_trains_alike(
    tiny: Tiny, base_run: Path, joint_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced_networks, compile_network = [], torch.compile

    def trace(network: nn.Module) -> nn.Module:  # as for any compiler, whose part is left out
        traced_networks.append(network)
        return compile_network(network, backend="eager")  # type: ignore[return-value]

    monkeypatch.setattr(torch, "compile", trace)
    train(tiny("joint-depth", "train.compile=true"), out=tmp_path / "run")
    assert len(traced_networks) == 1
    for alone, traced in zip(log_of(joint_run), log_of(tmp_path / "run"), strict=True):
        if "loss" in alone:
            assert traced["loss"] == pytest.approx(alone["loss"], rel=1e-4)


def test_three_branches_train_a_step(tiny: Tiny, base_run: Path, tmp_path: Path) -> None:
    recipe = tiny("joint-depth", "data.maps=['rgb', 'depth', 'normal']", "train.max_steps=1")
    model = load_model(train(recipe, out=tmp_path / "three"))
    assert model.joint.names == ["rgb", "depth", "normal"]
    (line,) = log_of(tmp_path / "three")
    assert line["rgb"] > 0 and line["depth"] > 0 and line["normal"] > 0
    assert sorted(model.joint.exchange) == sorted(
        f"{sender}_to_{receiver}"
        for sender in model.joint.names
        for receiver in model.joint.names
        if sender != receiver
    )
    # After one step the convolutions have moved that have a loss behind them: all of them.
    assert all(parameter.any() for parameter in model.joint.exchange.parameters())
    assert Image.open(tmp_path / "three/previews/0000001.png").size == (SIZE, 3 * SIZE)


@pytest.mark.parametrize("maps", ["['rgb']", "['depth', 'rgb']"])
def test_a_joint_model_needs_rgb_and_a_dense_map(tiny: Tiny, base_run: Path, tmp_path: Path, maps: str) -> None:
    with pytest.raises(UserError, match=r"data\.maps"):
        train(tiny("joint-depth", f"data.maps={maps}"), out=tmp_path / "run")


def test_a_joint_model_keeps_its_branches(tiny: Tiny, joint_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="normal"):
        train(tiny("inpaint", "data.maps=['rgb', 'normal']"), out=tmp_path / "run")


def test_a_base_model_is_of_rgb_alone(tiny: Tiny, vae_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.maps"):
        train(tiny("base", "data.maps=['rgb', 'depth']"), out=tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "override", "said"),
    [
        ("vae", "data.shards=nowhere", "nowhere"),
        ("base", "vae=nowhere", "nowhere"),
        ("joint-depth", "model=nowhere", "nowhere"),
    ],
)
def test_what_a_recipe_starts_from_must_be_there(
    tiny: Tiny, tmp_path: Path, name: str, override: str, said: str
) -> None:
    with pytest.raises(UserError, match=said) as caught:
        train(tiny(name, override), out=tmp_path / "run")
    assert caught.value.hint and not (tmp_path / "run").exists()
