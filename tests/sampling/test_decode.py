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


@pytest.mark.parametrize("shift", [1, 13, 20])
@pytest.mark.parametrize("width", [2, 40])
def test_rolled_latents_give_the_rolled_picture(tiny_model: Models, width: int, shift: int) -> None:
    model, latents = tiny_model("depth"), draw(2, 5, 8, width)
    maps = decode_canvas(model, latents, wrap=True)
    rolled = decode_canvas(model, latents.roll(shift, dims=-1), wrap=True)
    assert maps.shape == (2, 3, 16, 2 * width)
    assert torch.allclose(rolled, maps.roll(2 * shift, dims=-1), atol=1e-5)
    # An open canvas has edges of its own that do not roll along.
    edged = decode_canvas(model, latents.roll(shift, dims=-1))
    assert (edged - decode_canvas(model, latents).roll(2 * shift, dims=-1)).abs().max() > 1e-3 or shift % width == 0


def test_a_closed_canvas_has_no_seam(tiny_model: Models) -> None:
    """For latents that go smoothly round, the step over the seam is one like the others."""
    model = tiny_model("depth")
    angle = torch.arange(48) / 48 * 2 * torch.pi
    latents = torch.stack([torch.sin(angle + i) for i in range(5)])[None, :, None].expand(1, 5, 8, 48)

    def seam(wrap: bool) -> tuple[float, float]:
        maps = decode_canvas(model, latents.contiguous(), wrap=wrap)
        steps = (maps.roll(-1, dims=-1) - maps).abs().mean(dim=(0, 1, 2))
        return float(steps[-1]), float(steps[:-1].max())

    closed, elsewhere = seam(wrap=True)
    assert closed <= elsewhere
    # The same canvas decoded as an open one has a seam, so the measure sees one.
    opened, inside = seam(wrap=False)
    assert opened > 1.5 * closed or opened > inside


def test_decoding_closed_leaves_the_model_as_it_was(tiny_model: Models) -> None:
    model, latents = tiny_model("depth"), draw(1, 5, 8, 20)
    before = decode_canvas(model, latents)
    decode_canvas(model, latents, wrap=True)
    with pytest.raises(RuntimeError):
        decode_canvas(model, draw(1, 4, 8, 20), wrap=True)
    assert torch.equal(decode_canvas(model, latents), before)
