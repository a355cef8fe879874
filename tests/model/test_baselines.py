"""The paper's baselines against the base that they start from."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from jointnet_cli.model.baselines import ControlNetDirectExtend, DirectExtend, Output
from jointnet_cli.model.branch import Conditioning
from jointnet_cli.model.joint import JointDenoiser

MakeUnet = Callable[..., UNet2DConditionModel]
Kind = type[DirectExtend] | type[ControlNetDirectExtend]
Wake = Callable[[JointDenoiser], None]
both = pytest.mark.parametrize("kind", [DirectExtend, ControlNetDirectExtend])


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def predict(network: JointDenoiser, latents: Tensor) -> Tensor:
    with torch.inference_mode():
        return network.eval()(latents, 300, Conditioning(draw(len(latents), 6, 16, seed=1)))


def alone(unet: UNet2DConditionModel, latents: Tensor) -> Tensor:
    """What the base predicts for RGB."""
    with torch.inference_mode():
        return unet(latents[:, 0], 300, draw(len(latents), 6, 16, seed=1)).sample


@both
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_copied_output_predicts_rgb_s_noise_for_all(tiny_unet: MakeUnet, kind: Kind, count: int) -> None:
    unet, latents = tiny_unet(), draw(2, count, 5, 9, 13)
    predicted = predict(kind.extend(unet, ["depth", "normal"][: count - 1]), latents)
    expected = alone(unet, latents)
    # Equal but for the order in which a wider convolution adds its zeros: 0 measured in float32, 3e-16 in float64.
    for branch in range(count):
        assert torch.allclose(predicted[:, branch], expected, atol=1e-6, rtol=0)
    deaf = latents.clone()
    deaf[:, 1:] += 1
    assert torch.equal(predict(kind.extend(unet, ["depth", "normal"][: count - 1]), deaf), predicted)


@both
@pytest.mark.parametrize("output", ["zero", "random"])
def test_other_starts_of_the_output_leave_rgb_as_it_was(tiny_unet: MakeUnet, kind: Kind, output: Output) -> None:
    unet, latents = tiny_unet(), draw(2, 3, 5, 8, 8)
    predicted = predict(kind.extend(unet, ["depth", "normal"], output=output), latents)
    expected = alone(unet, latents)
    assert torch.allclose(predicted[:, 0], expected, atol=1e-6, rtol=0)
    if output == "zero":
        assert not predicted[:, 1:].any()
    else:
        assert all((predicted[:, i] - expected).abs().max() > 0.1 for i in (1, 2))
        assert (predicted[:, 1] - predicted[:, 2]).abs().max() > 0.1


@both
def test_the_base_is_copied(tiny_unet: MakeUnet, wake: Wake, kind: Kind) -> None:
    unet, latents = tiny_unet(), draw(1, 2, 5, 8, 8)
    before = alone(unet, latents)
    network = kind.extend(unet, ["depth"])
    wake(network)
    assert {id(weights) for weights in network.parameters()}.isdisjoint(id(weights) for weights in unet.parameters())
    assert torch.equal(alone(unet, latents), before)


def test_direct_extend_is_one_unet_with_wider_ends(tiny_unet: MakeUnet, wake: Wake) -> None:
    unet, latents = tiny_unet(), draw(2, 3, 5, 9, 13)
    network = DirectExtend.extend(unet, ["depth", "normal"])
    wake(network)
    wide = network.backbone("depth")
    assert (wide.config.in_channels, wide.config.out_channels) == (15, 15)
    with torch.inference_mode():
        expected = wide.eval()(latents.flatten(1, 2), 300, draw(2, 6, 16, seed=1)).sample
    assert torch.equal(predict(network, latents), expected.unflatten(1, (3, 5)))
    ends = sum(weights.numel() for end in (unet.conv_in, unet.conv_out) for weights in end.parameters())
    added = sum(weights.numel() for weights in wide.parameters()) - sum(
        weights.numel() for weights in unet.parameters()
    )
    assert added == 2 * (ends - unet.conv_in.bias.numel())


def test_the_control_is_what_diffusers_adds_to_a_unet(tiny_unet: MakeUnet, wake: Wake) -> None:
    """diffusers adds a ControlNet's residuals where the control's go; the whole wide UNet computes them."""
    unet, latents, text = tiny_unet(), draw(2, 2, 5, 9, 13), draw(2, 6, 16, seed=1)
    network = ControlNetDirectExtend.extend(unet, ["depth"])
    wake(network)
    predicted = predict(network, latents)
    wide = DirectExtend.extend(unet, ["depth"]).backbone("rgb").eval()
    wide.load_state_dict(network.control.encoder.state_dict(), strict=False)
    skips: list[Tensor] = []
    middle: list[Tensor] = []
    wide.conv_in.register_forward_hook(lambda _, __, output: skips.append(output))
    for block in wide.down_blocks:
        block.register_forward_hook(lambda _, __, output: skips.extend(output[1]))
    wide.mid_block.register_forward_hook(lambda _, __, output: middle.append(output))
    with torch.inference_mode():
        wide(latents.flatten(1, 2), 300, text)
        expected = network.backbone("rgb")(
            latents[:, 0],
            300,
            text,
            down_block_additional_residuals=[conv(x) for conv, x in zip(network.control.skips, skips, strict=True)],
            mid_block_additional_residual=network.control.middle(middle[0]),
        ).sample
    assert torch.allclose(predicted, expected.unflatten(1, (2, 5)), atol=1e-5)


def test_the_control_is_half_a_unet(tiny_unet: MakeUnet) -> None:
    encoder = ControlNetDirectExtend.extend(tiny_unet(), ["depth"]).control.encoder
    parts = {name.split(".")[0] for name in encoder.state_dict()}
    assert parts == {"conv_in", "time_embedding", "down_blocks", "mid_block"}


@both
def test_a_base_that_leaves_its_channels_to_diffusers_is_widened_too(kind: Kind) -> None:
    unet = UNet2DConditionModel(
        down_block_types=["DownBlock2D"], up_block_types=["UpBlock2D"], block_out_channels=[32], cross_attention_dim=16
    )
    assert "in_channels" in unet.config["_use_default_values"]
    assert predict(kind.extend(unet, ["depth"]), draw(1, 2, 4, 8, 8)).shape == (1, 2, 4, 8, 8)


@both
def test_channels_that_cannot_be_shared_are_refused(tiny_unet: MakeUnet, kind: Kind) -> None:
    with pytest.raises(ValueError, match="5 channels cannot be shared by rgb, depth"):
        kind(tiny_unet(), ["rgb", "depth"])
