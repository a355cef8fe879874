"""Decoding a canvas, open and closed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from jointnet_cli.model.checkpoint import JointModel
from jointnet_cli.sampling.decode import decode_canvas

Models = Callable[[str], JointModel]


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_an_open_canvas_is_decoded_whole(tiny_model: Models) -> None:
    model, latents = tiny_model("depth"), draw(2, 5, 8, 40)
    maps = decode_canvas(model, latents)
    assert maps.shape == (2, 3, 16, 80)
    with torch.inference_mode():
        assert torch.equal(maps, model.decode(latents))


@pytest.mark.parametrize("shift", [1, 13])
@pytest.mark.parametrize("width", [2, 40])
def test_rolled_latents_give_the_rolled_picture(tiny_model: Models, width: int, shift: int) -> None:
    model, latents = tiny_model("depth"), draw(2, 5, 8, width)
    maps, rolled = (decode_canvas(model, x, wrap=True) for x in (latents, latents.roll(shift, dims=-1)))
    assert maps.shape == (2, 3, 16, 2 * width)
    assert torch.allclose(rolled, maps.roll(2 * shift, dims=-1), atol=1e-5)


def test_an_open_canvas_has_edges_that_do_not_roll_along(tiny_model: Models) -> None:
    model, latents = tiny_model("depth"), draw(2, 5, 8, 40)
    maps, rolled = (decode_canvas(model, x) for x in (latents, latents.roll(13, dims=-1)))
    assert not torch.allclose(rolled, maps.roll(26, dims=-1), atol=1e-2)


def test_a_closed_canvas_has_no_seam(tiny_model: Models) -> None:
    """For latents that go smoothly round, the step over the seam is no larger than the others."""
    model = tiny_model("depth")
    angle = torch.arange(48) / 48 * 2 * torch.pi
    latents = torch.stack([torch.sin(angle + i) for i in range(5)])[None, :, None].repeat(1, 1, 8, 1)
    closed, opened = (decode_canvas(model, latents, wrap=wrap) for wrap in (True, False))
    steps, torn = ((maps.roll(-1, dims=-1) - maps).abs().mean(dim=(0, 1, 2)) for maps in (closed, opened))
    assert steps[-1] <= steps[:-1].max()
    assert torn[-1] > 3 * steps[-1], "the measure would not see a seam"


def test_decoding_closed_leaves_the_model_as_it_was(tiny_model: Models) -> None:
    model, latents = tiny_model("depth"), draw(1, 5, 8, 20)
    before = decode_canvas(model, latents)
    decode_canvas(model, latents, wrap=True)
    with pytest.raises(RuntimeError):
        decode_canvas(model, draw(1, 4, 8, 20), wrap=True)
    assert torch.equal(decode_canvas(model, latents), before)
