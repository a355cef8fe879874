"""Wide canvases through a network piece by piece."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKL
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from jointnet_cli.devices import STRIP_AREA, STRIP_MARGIN
from jointnet_cli.model.vae import GroupNormStatistics, apply_in_strips, strip_width

HEIGHT, WIDTH, PIECE = 4, 100, 22
WRAPS = pytest.mark.parametrize("wrap", [False, True])


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def vae() -> AutoencoderKL:
    """Convolutions and norms alone: attention sees the whole picture, which no piece can."""
    torch.manual_seed(0)
    made = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=4,
        mid_block_add_attention=False,
    ).eval()
    # Norms that shift and scale: a norm that forgot to would be seen.
    for norm in made.modules():
        if isinstance(norm, nn.GroupNorm):
            nn.init.normal_(norm.weight, 1, 0.3)
            nn.init.normal_(norm.bias, 0, 0.3)
    return made.requires_grad_(False)


def uneven(height: int, width: int, channels: int) -> Tensor:
    """A canvas whose mean and contrast change from left to right, as those of a panorama do."""
    along = torch.linspace(0, 2 * torch.pi, width + 1)[:-1]
    return draw(1, channels, height, width) * (1 + 0.5 * along.sin()) + along.cos()


def passes(vae: AutoencoderKL, way: str) -> tuple[nn.Module, Tensor]:
    """One way through the autoencoder, and a canvas for it."""
    if way == "decode":
        return vae.decoder, uneven(HEIGHT, WIDTH, 4)
    return vae.encoder, uneven(2 * HEIGHT, 2 * WIDTH, 3)


def error(made: Tensor, whole: Tensor) -> float:
    """The largest difference over the standard deviation."""
    return float((made - whole).abs().max() / whole.std())


def mean_error(made: Tensor, whole: Tensor) -> float:
    return float((made - whole).abs().mean() / whole.std())


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 600), st.integers(1, 5000))
def test_pieces_and_their_margins_are_small_enough(height: int, width: int) -> None:
    piece = strip_width(height, width)
    if height * width <= STRIP_AREA:
        assert piece == width
    else:
        assert piece >= STRIP_MARGIN
        assert piece == STRIP_MARGIN or height * (piece + 2 * STRIP_MARGIN) <= STRIP_AREA


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from([1, 2, 3]), st.booleans())
def test_convolutions_alone_give_the_whole_exactly(cells: int, piece: int, unit: int, wrap: bool) -> None:
    weight = draw(2, 3, 3, 3)
    canvas = draw(1, 3, 4, cells * unit)

    def blurred(seen: Tensor) -> Tensor:
        """As many columns out as cells in: what an encoder does."""
        return F.avg_pool2d(F.conv2d(seen, weight, padding=1), (1, unit))

    made = apply_in_strips(nn.Identity(), blurred, canvas, cells, piece, wrap=wrap)
    padded = F.pad(canvas, (unit, unit, 0, 0), mode="circular") if wrap else canvas
    whole = blurred(padded)[..., 1:-1] if wrap else blurred(padded)
    assert torch.allclose(made, whole, atol=1e-5)


@pytest.mark.parametrize("way", ["decode", "encode"])
def test_with_the_whole_s_statistics_a_piece_is_the_whole_s(vae: AutoencoderKL, way: str) -> None:
    network, canvas = passes(vae, way)
    whole, statistics = network(canvas), GroupNormStatistics()
    with statistics.measured(vae):
        assert torch.equal(network(canvas), whole)
    unit = canvas.shape[-1] // WIDTH
    scale = whole.shape[-1] // WIDTH
    inner = slice(30 * scale, 50 * scale)
    with statistics.fixed(vae):
        assert error(network(canvas), whole) < 1e-4
        piece = network(canvas[..., 10 * unit : 70 * unit])[..., 20 * scale : 40 * scale]
    assert error(piece, whole[..., inner]) < 1e-4
    # With its own statistics it is another.
    assert error(network(canvas[..., 10 * unit : 70 * unit])[..., 20 * scale : 40 * scale], whole[..., inner]) > 0.05


def test_statistics_of_all_parts_are_those_of_the_whole() -> None:
    """For a norm that reads the canvas itself, parts of any widths."""
    norm, canvas = nn.GroupNorm(2, 4), uneven(HEIGHT, WIDTH, 4)
    canvas = torch.cat([canvas, 3 * canvas + 1])  # two with statistics of their own
    statistics = GroupNormStatistics()
    with statistics.measured(norm):
        for part in canvas.split([10, 50, 40], dim=-1):
            norm(part)
    with statistics.fixed(norm):
        parts = [norm(part) for part in canvas.split(25, dim=-1)]
    assert torch.allclose(torch.cat(parts, dim=-1), norm(canvas), atol=1e-5)
    with statistics.fixed(norm.bfloat16()):
        assert norm(canvas.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("way", ["decode", "encode"])
def test_pieces_are_near_the_whole(vae: AutoencoderKL, way: str) -> None:
    """Not exactly: statistics are measured in pieces, margins and their made-up edges included.

    Random weights and pieces hardly wider than a margin are the worst case: measured 7 % of a standard deviation.
    """
    network, canvas = passes(vae, way)
    whole = network(canvas)
    made = apply_in_strips(vae, network, canvas, WIDTH, PIECE, wrap=False)
    assert made.shape == whole.shape
    alone = torch.cat([network(part) for part in canvas.split(PIECE * canvas.shape[-1] // WIDTH, dim=-1)], dim=-1)
    assert mean_error(made, whole) < 0.1
    assert mean_error(made, whole) < 0.25 * mean_error(alone, whole)


@pytest.mark.parametrize("way", ["decode", "encode"])
@pytest.mark.parametrize("shift", [7, 50])
def test_rolled_round_a_closed_canvas(vae: AutoencoderKL, way: str, shift: int) -> None:
    network, canvas = passes(vae, way)
    unit = canvas.shape[-1] // WIDTH
    made, rolled = (
        apply_in_strips(vae, network, x, WIDTH, PIECE, wrap=True) for x in (canvas, canvas.roll(shift * unit, dims=-1))
    )
    expected = made.roll(shift * made.shape[-1] // WIDTH, dims=-1)
    assert mean_error(rolled, expected) < 0.1
    # Across the seam the step is like the others.
    steps = (rolled.roll(-1, dims=-1) - rolled).abs().mean(dim=(0, 1, 2))
    assert steps[-1] <= steps[:-1].max()
    opened = network(canvas.roll(shift * unit, dims=-1))
    assert error(opened, network(canvas).roll(shift * made.shape[-1] // WIDTH, dims=-1)) > 0.2


def test_the_norm_of_an_attention_layer_is_measured_and_fixed_too() -> None:
    """It sees positions in a row."""
    norm, hidden, statistics = nn.GroupNorm(2, 4), draw(1, 4, 60) * 3 + 1, GroupNormStatistics()
    with statistics.measured(norm):
        for part in hidden.split(20, dim=-1):
            norm(part)
    with statistics.fixed(norm):
        assert torch.allclose(norm(hidden), nn.functional.group_norm(hidden, 2), atol=1e-5)


@WRAPS
def test_norms_are_their_own_again(vae: AutoencoderKL, wrap: bool) -> None:
    canvas = uneven(HEIGHT, WIDTH, 4)
    before = vae.decoder(canvas)
    apply_in_strips(vae, vae.decoder, canvas, WIDTH, PIECE, wrap=wrap)
    assert torch.equal(vae.decoder(canvas), before)
    for failing in (1, 8):  # the first pass takes five pieces
        calls = iter(range(1, 100))

        def fails(seen: Tensor, failing: int = failing, calls: object = calls) -> Tensor:
            if next(calls) == failing:  # type: ignore[call-overload]
                raise RuntimeError("no memory")
            return vae.decoder(seen)

        with pytest.raises(RuntimeError, match="no memory"):
            apply_in_strips(vae, fails, canvas, WIDTH, PIECE, wrap=wrap)
        assert torch.equal(vae.decoder(canvas), before)
        assert not any("forward" in vars(module) or module._forward_pre_hooks for module in vae.modules())
