"""The joint network against diffusers' own UNet."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from jointnet_cli.model.branch import Conditioning, skip_widths
from jointnet_cli.model.joint import JointNet, zero_conv

MakeUnet = Callable[..., UNet2DConditionModel]
NAMES = ["rgb", "depth", "normal"]
SIDES = [(16, 16), (9, 13), (1, 7)]
"""Latent sizes; the last two are no multiples of the UNet's factor of 4."""


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def randomise(module: nn.Module) -> None:
    torch.manual_seed(5)
    for weights in module.parameters():
        nn.init.normal_(weights, std=0.2)


def make_joint(tiny_unet: MakeUnet, count: int = 2, **settings: bool) -> JointNet:
    return JointNet({name: tiny_unet(seed) for seed, name in enumerate(NAMES[:count])}, **settings).eval()


def ask(joint: JointNet, latents: Tensor, known: Tensor | None = None) -> Tensor:
    text = draw(len(latents), 6, 16, seed=1)
    with torch.inference_mode():
        return joint(latents, torch.tensor([400, 7][: len(latents)]), Conditioning(text), known)


@pytest.mark.parametrize("size", SIDES)
@pytest.mark.parametrize("masked_input", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_without_exchange_every_branch_is_its_unet(
    tiny_unet: MakeUnet, count: int, masked_input: bool, size: tuple[int, int]
) -> None:
    joint = make_joint(tiny_unet, count, masked_input=masked_input)
    latents, text = draw(2, count, 5, *size), draw(2, 6, 16, seed=1)
    timestep = torch.tensor([400, 7])
    known = draw(2, count, 6, *size, seed=2) if masked_input else None
    with torch.inference_mode():
        predicted = joint(latents, timestep, Conditioning(text), known)
        alone = [joint.backbone(name)(latents[:, i], timestep, text).sample for i, name in enumerate(joint.names)]
    assert torch.equal(predicted, torch.stack(alone, dim=1))


def test_one_timestep_serves_the_batch(tiny_unet: MakeUnet) -> None:
    joint, latents, text = make_joint(tiny_unet), draw(2, 2, 5, 8, 8), Conditioning(draw(2, 6, 16, seed=1))
    with torch.inference_mode():
        assert torch.equal(joint(latents, 300, text), joint(latents, torch.tensor([300, 300]), text))
        assert not torch.equal(joint(latents, 300, text), joint(latents, 301, text))


def test_the_base_s_further_conditions_reach_it(tiny_unet: MakeUnet) -> None:
    unet = tiny_unet(
        addition_embed_type="text_time", addition_time_embed_dim=4, projection_class_embeddings_input_dim=32
    )
    latents, text = draw(2, 2, 5, 8, 8), draw(2, 6, 16, seed=1)
    added = {"text_embeds": draw(2, 8, seed=2), "time_ids": draw(2, 6, seed=3)}
    with torch.inference_mode():
        predicted = JointNet.extend(unet, ["depth"]).eval()(latents, 9, Conditioning(text, added))
        alone = [unet(x, 9, text, added_cond_kwargs=added).sample for x in latents.unbind(1)]
    assert torch.equal(predicted, torch.stack(alone, dim=1))


@pytest.mark.parametrize("part", ["input", "skips", "middle"])
@pytest.mark.parametrize("count", [2, 3])
def test_every_part_of_the_exchange_carries_both_ways(tiny_unet: MakeUnet, count: int, part: str) -> None:
    joint, latents = make_joint(tiny_unet, count), draw(1, count, 5, 8, 8)
    for sent in joint.exchange.values():
        randomise(getattr(sent, part))
    before = ask(joint, latents)
    for sender in range(count):
        changed = latents.clone()
        changed[:, sender] += 1
        difference = (ask(joint, changed) - before).abs().amax(dim=(0, 2, 3, 4))
        assert (difference > 1e-3).all(), f"{joint.names[sender]} does not reach all branches"


def test_what_one_branch_sends_reaches_only_the_receiver(tiny_unet: MakeUnet) -> None:
    joint, latents = make_joint(tiny_unet, 3), draw(1, 3, 5, 8, 8)
    randomise(joint.exchange["depth_to_normal"])
    before = ask(joint, latents)
    changed = latents.clone()
    changed[:, 1] += 1
    difference = (ask(joint, changed) - before).abs().amax(dim=(0, 2, 3, 4))
    assert difference[0] == 0
    assert difference[2] > 1e-3


@pytest.mark.parametrize("size", SIDES)
def test_skips_and_middle_are_the_unet_s_additional_residuals(tiny_unet: MakeUnet, size: tuple[int, int]) -> None:
    """diffusers adds a ControlNet's residuals where we add the other branch's features."""
    joint, latents, text = make_joint(tiny_unet), draw(1, 2, 5, *size), draw(1, 6, 16, seed=1)
    for sent in joint.exchange.values():
        randomise(sent.skips)
        randomise(sent.middle)
    predicted = ask(joint, latents)
    timestep = torch.tensor([400])
    for receiver, sender in ((0, 1), (1, 0)):
        skips, middle = features(joint.backbone(NAMES[sender]), latents[:, sender], timestep, text)
        sent = joint.exchange[f"{NAMES[sender]}_to_{NAMES[receiver]}"]
        with torch.inference_mode():
            expected = joint.backbone(NAMES[receiver])(
                latents[:, receiver],
                timestep,
                text,
                down_block_additional_residuals=[conv(x) for conv, x in zip(sent.skips, skips, strict=True)],
                mid_block_additional_residual=sent.middle(middle),
            ).sample
        assert torch.allclose(predicted[:, receiver], expected, atol=1e-5)


def features(unet: UNet2DConditionModel, x: Tensor, timestep: Tensor, text: Tensor) -> tuple[list[Tensor], Tensor]:
    """The skip tensors and the middle output of a UNet that runs by itself."""
    skips: list[Tensor] = []
    middle: list[Tensor] = []
    hooks = [
        unet.conv_in.register_forward_hook(lambda _, __, output: skips.append(output)),
        *(block.register_forward_hook(lambda _, __, output: skips.extend(output[1])) for block in unet.down_blocks),
        unet.mid_block.register_forward_hook(lambda _, __, output: middle.append(output)),
    ]
    with torch.inference_mode():
        unet(x, timestep, text)
    for hook in hooks:
        hook.remove()
    return skips, middle[0]


@pytest.mark.parametrize("layers", [1, 2, [2, 1, 3]])
def test_skip_widths_are_those_of_the_features(tiny_unet: MakeUnet, layers: int | list[int]) -> None:
    unet = tiny_unet(layers_per_block=layers)
    skips, middle = features(unet, draw(1, 5, 8, 8), torch.tensor([1]), draw(1, 6, 16))
    assert skip_widths(unet) == [skip.shape[1] for skip in skips]
    assert middle.shape[1] == skip_widths(unet)[-1]


def gradients(joint: JointNet, branch: int | slice) -> Mapping[str, float]:
    """The largest gradient of every trainable parameter for a loss on some branches."""
    joint.zero_grad()
    known = draw(1, len(joint.names), 6, 8, 8, seed=3) if joint.has_masked_input else None
    predicted = joint(draw(1, len(joint.names), 5, 8, 8), 500, Conditioning(draw(1, 6, 16, seed=1)), known)
    predicted[:, branch].square().mean().backward()
    return {
        name: float(weights.grad.abs().max()) if weights.grad is not None else 0.0
        for name, weights in joint.named_parameters()
        if weights.requires_grad
    }


@pytest.mark.parametrize("masked_input", [False, True])
def test_with_rgb_frozen_all_else_trains(tiny_unet: MakeUnet, masked_input: bool) -> None:
    joint = make_joint(tiny_unet, 3, masked_input=masked_input)
    joint.backbone("rgb").requires_grad_(False)
    reached = gradients(joint, slice(None))
    assert not any(name.startswith("branches.rgb.") for name in reached)
    directions = {f"exchange.{a}_to_{b}" for a in NAMES for b in NAMES if a != b}
    parts = {"branches.depth", "branches.normal", *directions}
    if masked_input:
        parts |= {f"masked.{name}" for name in NAMES}
    assert {".".join(name.split(".")[:2]) for name in reached} == parts
    assert [name for name, size in reached.items() if size == 0] == []
    assert all(weights.grad is None for weights in joint.backbone("rgb").parameters())


def test_the_rgb_loss_trains_what_depth_sends_and_then_depth_itself(tiny_unet: MakeUnet) -> None:
    joint = make_joint(tiny_unet)
    joint.backbone("rgb").requires_grad_(False)
    untrained = {name for name, size in gradients(joint, 0).items() if size > 0}
    assert untrained == {name for name, _ in joint.named_parameters() if name.startswith("exchange.depth_to_rgb")}
    randomise(joint.exchange)
    trained = gradients(joint, 0)
    assert trained["branches.depth.down_blocks.0.resnets.0.conv1.weight"] > 0
    assert trained["branches.depth.conv_out.weight"] == 0


def test_the_order_of_branches_is_only_the_order_of_the_axis(tiny_unet: MakeUnet) -> None:
    joint = make_joint(tiny_unet, 3, masked_input=True)
    randomise(joint.exchange)
    order = [2, 0, 1]
    other = JointNet({NAMES[i]: joint.backbone(NAMES[i]) for i in order}, masked_input=True).eval()
    other.exchange.load_state_dict(joint.exchange.state_dict())
    assert other.names == ["normal", "rgb", "depth"]
    latents, known = draw(1, 3, 5, 8, 8), draw(1, 3, 6, 8, 8, seed=3)
    assert torch.allclose(
        ask(other, latents[:, order], known[:, order]), ask(joint, latents, known)[:, order], atol=1e-5
    )


def test_masked_input_reads_the_own_modality_first(tiny_unet: MakeUnet) -> None:
    joint, latents, known = make_joint(tiny_unet, masked_input=True), draw(1, 2, 5, 8, 8), draw(1, 2, 6, 8, 8, seed=3)
    before = ask(joint, latents)
    assert torch.equal(ask(joint, latents, known), before)
    weights = joint.masked["depth"].weight
    assert weights.shape[1] == 2 * (1 + 5)
    with torch.no_grad():
        weights[:, 0] = 1  # the depth branch listens to its own mask alone
    for branch, channels, heard in ((1, slice(0, 1), True), (1, slice(1, 6), False), (0, slice(0, 6), False)):
        only = torch.zeros_like(known)
        only[:, branch, channels] = known[:, branch, channels]
        after = ask(joint, latents, only)
        assert torch.equal(after[:, 0], before[:, 0])
        assert torch.equal(after[:, 1], before[:, 1]) != heard


def test_extending_keeps_the_base_and_copies_it(tiny_unet: MakeUnet) -> None:
    unet = tiny_unet()
    joint = JointNet.extend(unet, ["depth", "normal"])
    assert joint.names == NAMES
    assert joint.backbone("rgb") is unet
    with torch.no_grad():
        joint.backbone("depth").conv_in.weight += 1
    assert not torch.equal(joint.backbone("depth").conv_in.weight, unet.conv_in.weight)
    assert torch.equal(joint.backbone("normal").conv_in.weight, unet.conv_in.weight)


def test_branches_that_do_not_fit_are_refused(tiny_unet: MakeUnet) -> None:
    with pytest.raises(ValueError, match=r"^all branches of a joint network must have the same widths$"):
        JointNet({"rgb": tiny_unet(), "depth": tiny_unet(block_out_channels=(8, 16, 32))})
    with pytest.raises(ValueError, match="same widths"):
        JointNet({"rgb": tiny_unet(), "depth": tiny_unet(layers_per_block=2)})
    with pytest.raises(ValueError, match=r"^a joint network needs at least one branch$"):
        JointNet({})


def test_what_enters_a_branch(tiny_unet: MakeUnet) -> None:
    """Its own input, plus what the others send, plus the masked input, own modality first."""
    joint = make_joint(tiny_unet, 3, masked_input=True)
    randomise(joint.exchange)
    randomise(joint.masked)
    latents, known = draw(2, 3, 5, 8, 8), draw(2, 3, 6, 8, 8, seed=2)
    entered = {}
    hooks = [
        joint.backbone(name)
        .down_blocks[0]
        .register_forward_pre_hook(lambda _, inputs, name=name: entered.update({name: inputs[0]}))
        for name in NAMES
    ]
    ask(joint, latents, known)
    for hook in hooks:
        hook.remove()
    with torch.inference_mode():
        for i, name in enumerate(NAMES):
            others = [j for j in range(3) if j != i]
            expected = joint.backbone(name).conv_in(latents[:, i])
            for j in others:
                expected = expected + joint.exchange[f"{NAMES[j]}_to_{name}"].input(latents[:, j])
            expected = expected + joint.masked[name](torch.cat([known[:, j] for j in (i, *others)], dim=1))
            assert torch.allclose(entered[name], expected, atol=1e-5), name


def test_levels_of_one_layer_and_different_widths(tiny_unet: MakeUnet) -> None:
    unets = {
        name: tiny_unet(seed, layers_per_block=1, block_out_channels=(16, 32, 48)) for seed, name in enumerate(NAMES)
    }
    joint = JointNet(unets).eval()
    assert [conv.in_channels for conv in joint.exchange["rgb_to_depth"].skips] == [16, 16, 16, 32, 32, 48]
    assert joint.exchange["rgb_to_depth"].middle.weight.shape == (48, 48, 1, 1)
    randomise(joint.exchange)
    assert ask(joint, draw(2, 3, 5, 8, 8)).shape == (2, 3, 5, 8, 8)


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_zero_convolutions_keep_the_size(kernel: int) -> None:
    assert torch.equal(zero_conv(2, 3, kernel)(draw(1, 2, 7, 9)), torch.zeros(1, 3, 7, 9))


def test_facts_of_a_network(tiny_unet: MakeUnet) -> None:
    alone, pair = make_joint(tiny_unet, 1, masked_input=True), make_joint(tiny_unet, 2)
    assert (alone.channels, pair.channels) == (5, 5)
    assert (alone.has_masked_input, pair.has_masked_input) == (True, False)
    assert alone.extra_weights() == {}
    (tensors,) = pair.extra_weights().values()
    assert tensors.keys() == {key for key in pair.state_dict() if key.startswith("exchange.")}
    assert JointNet.extend(tiny_unet(), ["depth"], masked_input=True).has_masked_input
    assert not JointNet.extend(tiny_unet(), ["depth"]).has_masked_input


def test_the_rgb_branch_can_be_unlocked_again(tiny_unet: MakeUnet) -> None:
    joint = make_joint(tiny_unet)
    joint.requires_grad_(False)
    joint.set_trainable(True)
    assert all(parameter.requires_grad for parameter in joint.parameters())


def test_latents_of_too_few_branches_are_refused(tiny_unet: MakeUnet) -> None:
    with pytest.raises(ValueError, match="shorter"):
        ask(make_joint(tiny_unet, 2), draw(2, 1, 5, 8, 8))
