"""Between a canvas and its maps, open and closed."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jointnet_cli.model.checkpoint import JointModel
from jointnet_cli.model.folder import pixels_per_latent
from jointnet_cli.model.vae import decode_canvas, decode_latents, encode_canvas, encode_maps, encoder_hash
from jointnet_cli.sampling.known import encode_region

Models = Callable[[str], JointModel]


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def picture(height: int, width: int) -> torch.Tensor:
    """A map (1, 3, height, width) that goes smoothly round."""
    angle = torch.arange(width) / width * 2 * torch.pi
    rows = torch.linspace(-0.3, 0.3, height)[:, None]
    return torch.stack([torch.sin(angle + i) * 0.7 + rows for i in range(3)])[None]


def test_latents_are_named_by_what_encodes_them(tiny_model: Models) -> None:
    vae = tiny_model("depth").vae
    assert vae is not None and encoder_hash(None) == "pixels"
    vae = deepcopy(vae).half()
    name = encoder_hash(vae)
    assert encoder_hash(deepcopy(vae).float()) == name and len(name) == 12
    for part, same in {"decoder": True, "post_quant_conv": True, "encoder": False, "quant_conv": False}.items():
        changed = deepcopy(vae)
        next(getattr(changed, part).parameters()).data.add_(1)
        assert (encoder_hash(changed) == name) == same, part
    vae.register_to_config(scaling_factor=0.5)
    assert encoder_hash(vae) != name


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


def test_going_round_leaves_the_model_as_it_was(tiny_model: Models) -> None:
    model, latents = tiny_model("depth"), draw(1, 5, 8, 20)
    before = decode_canvas(model, latents)
    decode_canvas(model, latents, wrap=True)
    maps = picture(16, 40)
    encoded = encode_canvas(model, maps)
    encode_canvas(model, maps, wrap=True)
    with pytest.raises(RuntimeError, match="to have 5 channels, but got 4"):
        decode_canvas(model, draw(1, 4, 8, 20), wrap=True)
    with pytest.raises(RuntimeError, match="to have 3 channels, but got 4"):
        encode_canvas(model, draw(1, 4, 16, 40), wrap=True)
    assert torch.equal(decode_canvas(model, latents), before)
    assert torch.equal(encode_canvas(model, maps), encoded)


def test_an_open_map_is_encoded_whole(tiny_model: Models) -> None:
    model, maps = tiny_model("depth"), picture(16, 80)
    latents = encode_canvas(model, maps)
    assert latents.shape == (5, 8, 40)
    with torch.inference_mode():
        assert torch.equal(latents, model.encode(maps)[0])


@pytest.mark.parametrize("shift", [1, 13])
@pytest.mark.parametrize("width", [2, 6, 40])
def test_rolled_maps_give_the_rolled_latents(tiny_model: Models, width: int, shift: int) -> None:
    model, maps = tiny_model("depth"), picture(16, 2 * width) + 0.1 * draw(1, 3, 16, 2 * width)
    latents, rolled = (encode_canvas(model, x, wrap=True) for x in (maps, maps.roll(2 * shift, dims=-1)))
    assert latents.shape == (5, 8, width)
    assert torch.allclose(rolled, latents.roll(shift, dims=-1), atol=1e-5)


def test_open_maps_have_edges_that_do_not_roll_along(tiny_model: Models) -> None:
    model, maps = tiny_model("depth"), picture(16, 80)
    latents, rolled = (encode_canvas(model, x) for x in (maps, maps.roll(26, dims=-1)))
    assert (rolled - latents.roll(13, dims=-1)).abs().max() > 0.2 * latents.std()


@settings(max_examples=25, deadline=None)
@given(st.sets(st.tuples(st.integers(0, 11), st.integers(0, 19)), max_size=6), st.floats(0.51, 1))
def test_a_latent_pixel_is_unknown_if_any_of_its_pixels_is(
    tiny_model: Models, marked: set[tuple[int, int]], value: float
) -> None:
    unknown = torch.full((12, 20), 0.5)
    for row, column in marked:
        unknown[row, column] = value
    region = encode_region(tiny_model("depth"), picture(12, 20), unknown)
    assert region.latents.shape == (5, 6, 10) and region.mask.shape == (1, 6, 10)
    assert set(map(tuple, region.mask[0].nonzero().tolist())) == {(row // 2, column // 2) for row, column in marked}
    assert torch.equal(region.latents, encode_canvas(tiny_model("depth"), picture(12, 20)))
    assert set(region.mask.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("wrap", [False, True])
def test_large_canvases_go_in_pieces(tiny_model: Models, monkeypatch: pytest.MonkeyPatch, wrap: bool) -> None:
    """No more than `STRIP_AREA` latent pixels at once, margins included, both ways."""
    monkeypatch.setattr("jointnet_cli.model.vae.STRIP_AREA", 256)
    model, height, width = tiny_model("depth"), 4, 70
    vae, seen = model.vae, []
    hooks = [
        vae.decoder.register_forward_pre_hook(lambda _, given: seen.append(given[0][0, 0].numel())),
        vae.encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0][0, 0].numel() // 4)),
    ]
    try:
        maps = decode_canvas(model, draw(2, 5, height, width), wrap=wrap)
        assert maps.shape == (2, 3, 2 * height, 2 * width)
        assert encode_canvas(model, maps[:1], wrap=wrap).shape == (5, height, width)
    finally:
        for hook in hooks:
            hook.remove()
    assert len(seen) == 3 * 2 * 3, "three maps, two passes, three pieces"
    assert max(seen) <= 256


def test_pieces_meet_over_the_seam_of_a_closed_canvas(tiny_model: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    model, latents, maps = tiny_model("depth"), draw(1, 5, 4, 70), draw(1, 3, 8, 140)

    def both(wrap: bool) -> tuple[torch.Tensor, torch.Tensor]:
        return decode_canvas(model, latents, wrap=wrap)[0], encode_canvas(model, maps, wrap=wrap)

    whole = both(True)
    monkeypatch.setattr("jointnet_cli.model.vae.STRIP_AREA", 256)
    for made, opened, expected in zip(both(True), both(False), whole, strict=True):
        near, torn = ((one - expected)[..., [0, -1]].abs().max() for one in (made, opened))
        assert near < torn / 4


@pytest.mark.parametrize("wrap", [False, True])
def test_pixel_models_have_nothing_to_decode(tiny_model: Models, wrap: bool) -> None:
    model = replace(tiny_model("depth"), vae=None)
    maps = picture(16, 80)
    assert torch.equal(encode_canvas(model, maps, wrap=wrap), maps[0])
    assert torch.equal(decode_canvas(model, maps, wrap=wrap), maps)
    unknown = (draw(16, 80) > 0).float()
    assert torch.equal(encode_region(model, maps, unknown).mask[0], unknown)


def test_the_given_region_of_a_closed_map_is_encoded_closed(tiny_model: Models) -> None:
    model, maps = tiny_model("depth"), draw(1, 3, 16, 40)
    regions = [encode_region(model, maps, torch.zeros(16, 40), wrap=wrap) for wrap in (False, True)]
    for region, wrap in zip(regions, (False, True), strict=True):
        assert torch.equal(region.latents, encode_canvas(model, maps, wrap=wrap))
    assert not torch.equal(regions[0].latents, regions[1].latents)


MEAN, STD = [0.1, -0.2, 0.3, 0.0, 0.5], [2.0, 0.5, 1.0, 4.0, 1.5]


@pytest.mark.parametrize(
    ("stated", "mean", "scale"),
    [
        ({}, 0.0, 0.7),
        ({"shift_factor": 0.25}, 0.25, 0.7),
        (
            {"latents_mean": MEAN, "latents_std": STD, "shift_factor": 0.25},
            MEAN,
            [0.7 / deviation for deviation in STD],
        ),
        ({"latents_mean": MEAN, "shift_factor": 0.25}, 0.25, 0.7),
        ({"latents_std": STD}, 0.0, 0.7),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_latents_are_normalised_as_the_autoencoder_states(
    tiny_model: Models, stated: dict[str, object], mean: object, scale: object, dtype: torch.dtype
) -> None:
    """In the autoencoder's own type; maps come back as float32."""
    vae = deepcopy(tiny_model("depth").vae).to(dtype)
    vae.register_to_config(**stated)
    off, times = (torch.as_tensor(value, dtype=dtype).view(1, -1, 1, 1) for value in (mean, scale))
    maps = picture(16, 24)
    with torch.no_grad():
        plain = vae.encode(maps.to(dtype)).latent_dist.mean
        with torch.autocast("cpu", torch.bfloat16):
            latents = encode_maps(vae, maps)
        assert latents.dtype == dtype and torch.allclose(latents, (plain - off) * times, atol=1e-6)
        decoded = decode_latents(vae, latents.float())
        assert decoded.dtype == torch.float32
        assert torch.allclose(decoded, vae.decode(plain).sample.float(), atol=1e-5)


def test_without_an_autoencoder_maps_are_latents(tiny_model: Models) -> None:
    maps = picture(4, 6).double()
    assert encode_maps(None, maps) is maps
    assert decode_latents(None, maps).dtype == torch.float32 and torch.equal(decode_latents(None, maps), maps.float())
    assert pixels_per_latent(tiny_model("depth").vae.config) == 2
