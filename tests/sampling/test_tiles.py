"""Predictions of tiles merged into one of the canvas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from jointnet_cli.devices import TILE_AREA, TILE_AREA_ELSEWHERE
from jointnet_cli.sampling.layout import Layout, Tile, single_tile, tiled
from jointnet_cli.sampling.presets import PRESETS
from jointnet_cli.sampling.tiles import TileBatch, crop, tile_weights
from jointnet_cli.sampling.tiles import merge as merge_tiles

OFFSETS = st.integers(0, 50)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def network(tiles: Tensor) -> Tensor:
    """Stands for a network: each pixel's prediction depends on where it lies in its tile and on the whole tile."""
    place = torch.linspace(-1, 1, tiles.shape[-1]) + torch.linspace(0, 3, tiles.shape[-2])[:, None]
    return tiles[:, :, :2] * place + tiles.mean(dim=(-1, -2), keepdim=True)[:, :, :2]


def merge(canvas: Tensor, tiles: list[Tile], layout: Layout, predict: Callable[[Tensor], Tensor], *more: Any) -> Tensor:
    """Merge the predictions of what does not read texts."""
    return merge_tiles(canvas, tiles, layout, lambda stacked, texts: predict(stacked), *more)


@st.composite
def layouts(draw: st.DrawFn, wrap: bool | None = None) -> Layout:
    window = draw(st.tuples(st.integers(1, 8), st.integers(1, 8)))
    return Layout(
        draw(st.integers(1, 14)),
        draw(st.integers(1, 20)),
        window,
        draw(st.integers(1, min(window))),
        wrap=draw(st.booleans()) if wrap is None else wrap,
        whole_image_until=draw(st.sampled_from([0.0, 1.0])),
        taper=draw(st.integers(0, 4)),
    )


def test_one_tile_is_no_tiling() -> None:
    canvas, layout = draw(2, 3, 6, 7), single_tile(6, 7)
    answer = draw(1, 2, 2, 6, 7, seed=1)

    def predict(tiles: Tensor) -> Tensor:
        assert torch.equal(tiles, canvas[None])
        return answer

    merged = merge(canvas, layout.at(0, 1, (5, 5)), layout, predict)
    assert torch.equal(merged, answer[0])
    assert merged.data_ptr() == answer.data_ptr()


@settings(max_examples=25, deadline=None)
@given(layouts(), OFFSETS, OFFSETS, st.floats(-100, 100, width=32))
def test_equal_predictions_merge_to_themselves(layout: Layout, across: int, along: int, value: float) -> None:
    canvas = draw(2, 3, layout.height, layout.width)
    tiles = layout.at(0, 10, (across, along))
    merged = merge(canvas, tiles, layout, lambda tiles: torch.full_like(tiles[:, :, :1], value))
    assert merged.shape == (2, 1, layout.height, layout.width)
    assert torch.allclose(merged, torch.tensor(value), rtol=1e-5)


@settings(max_examples=25, deadline=None)
@given(layouts(), OFFSETS, OFFSETS)
def test_what_tiles_agree_on_is_kept(layout: Layout, across: int, along: int) -> None:
    """A prediction that is a function of the pixel alone comes out as if there were no tiles."""
    canvas = draw(2, 3, layout.height, layout.width)
    merged = merge(canvas, layout.at(0, 10, (across, along)), layout, lambda tiles: 2 * tiles[:, :, :2] + 1)
    assert torch.allclose(merged, 2 * canvas[:, :2] + 1, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(layouts(), OFFSETS, OFFSETS)
def test_merging_is_linear(layout: Layout, across: int, along: int) -> None:
    canvas, tiles = draw(2, 3, layout.height, layout.width), layout.at(0, 10, (across, along))
    one, other, both = (
        merge(canvas, tiles, layout, predict)
        for predict in (network, lambda x: network(x).sin(), lambda x: 3 * network(x) - 2 * network(x).sin())
    )
    assert torch.allclose(both, 3 * one - 2 * other, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(layouts(wrap=True), OFFSETS, OFFSETS, st.integers(1, 19))
def test_a_closed_canvas_has_no_special_place(layout: Layout, across: int, along: int, shift: int) -> None:
    """Canvas and offset rolled together give the rolled result."""
    assume(layout.width % layout.stride == 0 or along % layout.stride + shift < layout.stride)
    canvas = draw(2, 3, layout.height, layout.width)
    merged = merge(canvas, layout.at(0, 10, (across, along)), layout, network)
    rolled = merge(canvas.roll(shift, dims=-1), layout.at(0, 10, (across, along + shift)), layout, network)
    assert torch.allclose(rolled, merged.roll(shift, dims=-1), atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(layouts(), OFFSETS, OFFSETS, st.integers(1, 5))
def test_batches_change_nothing(layout: Layout, across: int, along: int, batch: int) -> None:
    canvas, tiles = draw(2, 3, layout.height, layout.width), layout.at(0, 10, (across, along))
    sizes = []

    def counted(stacked: Tensor) -> Tensor:
        sizes.append(len(stacked))
        return network(stacked)

    batched = merge(canvas, tiles, layout, counted, TileBatch(batch))
    assert torch.allclose(batched, merge(canvas, tiles, layout, network), atol=1e-6)
    assert max(sizes) <= batch
    assert sum(sizes) == len(tiles)


@settings(max_examples=20, deadline=None)
@given(layouts(), OFFSETS, OFFSETS, st.integers(1, 6))
def test_what_does_not_fit_is_halved_and_tried_again(layout: Layout, across: int, along: int, fits: int) -> None:
    canvas, tiles = draw(2, 3, layout.height, layout.width), layout.at(0, 10, (across, along))
    assume(not layout.single)
    tried: list[int] = []

    def limited(stacked: Tensor) -> Tensor:
        tried.append(len(stacked))
        if len(stacked) > fits:
            raise torch.OutOfMemoryError("out of memory")
        return network(stacked)

    batch = TileBatch()
    merged = merge(canvas, tiles, layout, limited, batch)
    assert torch.allclose(merged, merge(canvas, tiles, layout, network), atol=1e-6)
    assert sum(count for count in tried if count <= fits) == len(tiles)
    # What was too much is not tried again, not in the next step either.
    refused = [count for count in tried if count > fits]
    assert refused == sorted(set(refused), reverse=True)
    tried.clear()
    merge(canvas, tiles, layout, limited, batch)
    assert not refused or max(tried) <= fits


def test_one_tile_that_does_not_fit_is_the_user_s_to_know() -> None:
    layout, tried = Layout(4, 12, (4, 4), 2), []

    def full(stacked: Tensor) -> Tensor:
        tried.append(len(stacked))
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
        merge(draw(1, 3, 4, 12), layout.at(0, 10, (0, 0)), layout, full, TileBatch(5))
    assert tried == [5, 2, 1]


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    layout = Layout(4, 12, (4, 4), 2)

    def broken(stacked: Tensor) -> Tensor:
        raise RuntimeError("shapes")

    with pytest.raises(RuntimeError, match="shapes"):
        merge(draw(1, 3, 4, 12), layout.at(0, 10, (0, 0)), layout, broken)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(["cpu", "cuda", "mps"]))
def test_automatic_batches_fill_the_device(height: int, width: int, kind: str) -> None:
    area = TILE_AREA.get(kind, TILE_AREA_ELSEWHERE)
    count = TileBatch().of([Tile(0, 0, height, width)] * 3, torch.device(kind))
    assert count >= 1 and (count + 1) * height * width > area
    assert count == 1 or count * height * width <= area
    assert TileBatch(7).of([Tile(0, 0, height, width)], torch.device(kind)) == 7


def test_automatic_batches_of_known_models() -> None:
    """Stable Diffusion's tiles of 64, and diorama's of 16."""
    tiles = {side: [Tile(0, 0, side, side)] for side in (64, 16)}
    assert [TileBatch().of(tiles[side], torch.device("cpu")) for side in (64, 16)] == [1, 16]
    assert [TileBatch().of(tiles[side], torch.device("cuda")) for side in (64, 16)] == [16, 256]


def test_all_tiles_of_a_size_go_together() -> None:
    layout, shapes = Layout(4, 12, (4, 4), 2, whole_image_until=1.0), []

    def noted(tiles: Tensor) -> Tensor:
        shapes.append(tuple(tiles.shape))
        return network(tiles)

    merge(draw(1, 3, 4, 12), layout.at(0, 10, (0, 0)), layout, noted)
    assert shapes == [(5, 1, 3, 4, 4), (1, 1, 3, 4, 12)]


def test_overlaps_are_weighted_means() -> None:
    layout = Layout(1, 6, (1, 4), 2)
    tiles = [Tile(0, 0, 1, 4), Tile(0, 2, 1, 4, weight=3.0)]
    merged = merge(torch.zeros(1, 1, 1, 6), tiles, layout, lambda x: torch.tensor([1.0, 5.0]).view(2, 1, 1, 1, 1) + x)
    assert merged.flatten().tolist() == [1, 1, 4, 4, 5, 5]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(0, 30), st.floats(0.01, 10), st.booleans())
def test_weights_are_positive_and_fall_to_the_sides(width: int, taper: int, weight: float, tapered: bool) -> None:
    weights = tile_weights(Tile(0, 0, 3, width, weight, tapered), taper)
    assert weights.shape == (3, width)
    assert (weights > 0).all() and (weights <= weight * 1.0001).all()
    assert torch.equal(weights, weights.flip(1))
    assert torch.equal(weights[0], weights[2])
    if not tapered or not taper:
        assert torch.allclose(weights, torch.tensor(weight))


@pytest.mark.parametrize(
    ("taper", "width", "expected"),
    [
        (1, 4, [1 / 2, 1, 1, 1 / 2]),
        (2, 6, [1 / 4, 3 / 4, 1, 1, 3 / 4, 1 / 4]),
        (4, 10, [1 / 8, 3 / 8, 5 / 8, 7 / 8, 1, 1, 7 / 8, 5 / 8, 3 / 8, 1 / 8]),
        (8, 16, [(2 * min(k, 15 - k) + 1) / 16 for k in range(16)]),
        # Narrower than two tapers: the nearer side decides.
        (4, 5, [1 / 8, 3 / 8, 5 / 8, 3 / 8, 1 / 8]),
        (8, 6, [1 / 16, 3 / 16, 5 / 16, 5 / 16, 3 / 16, 1 / 16]),
        (2, 3, [1 / 4, 3 / 4, 1 / 4]),
        (4, 1, [1 / 8]),
    ],
)
def test_the_ramp_is_taken_at_pixel_centres(taper: int, width: int, expected: list[float]) -> None:
    """The published weights: (k + 1/2) / taper, at most 1."""
    assert tile_weights(Tile(0, 0, 2, width), taper).tolist() == [expected] * 2
    assert tile_weights(Tile(0, 0, 1, width, 4.0), taper).tolist() == [[4 * weight for weight in expected]]


def test_the_weights_of_stable_diffusion_s_window() -> None:
    layout = tiled(64, 128, 64, PRESETS["paper"].tiles)
    weights = tile_weights(Tile(0, 0, 64, 64), layout.taper)
    assert layout.taper == 8
    assert weights[0, :9].tolist() == [0.0625, 0.1875, 0.3125, 0.4375, 0.5625, 0.6875, 0.8125, 0.9375, 1.0]
    assert weights[0, 8:56].tolist() == [1.0] * 48
    assert torch.equal(weights, weights.flip(1))
    assert torch.equal(weights, weights[:1].expand(64, -1))
    # Where two tiles overlap by one taper their ramps add up to one, so neither is favoured.
    assert torch.equal(weights[0, :8] + weights[0, 56:], torch.ones(8))


def test_tapered_tiles_merge_by_these_weights() -> None:
    layout = Layout(1, 6, (1, 4), 2, taper=2)
    tiles = [Tile(0, 0, 1, 4), Tile(0, 2, 1, 4)]
    merged = merge(torch.zeros(1, 1, 1, 6), tiles, layout, lambda x: torch.tensor([0.0, 8.0]).view(2, 1, 1, 1, 1) + x)
    assert merged.flatten().tolist() == [0, 0, 2, 6, 8, 8]


def test_a_merged_canvas_keeps_its_type_and_device() -> None:
    layout, tiles = Layout(1, 6, (1, 4), 2, taper=2), [Tile(0, 0, 1, 4), Tile(0, 2, 1, 4)]
    for canvas in (torch.zeros(1, 1, 1, 6, dtype=torch.float16), torch.zeros(1, 1, 1, 6, device="meta")):
        merged = merge(canvas, tiles, layout, lambda x: x + 1)
        assert (merged.dtype, merged.device, merged.shape) == (canvas.dtype, canvas.device, canvas.shape)


def test_weights_are_single_precision_whatever_torch_s_default_is() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        assert tile_weights(Tile(0, 0, 1, 4), 2).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_closed_crop_reaches_over_the_edge() -> None:
    canvas = torch.arange(10.0).view(2, 5)
    assert crop(canvas, Tile(1, 3, 1, 4)).tolist() == [[8, 9, 5, 6]]


def test_no_tiles_is_a_mistake() -> None:
    with pytest.raises(ValueError, match=r"^no tiles$"):
        merge(draw(1, 1, 4, 9), [], Layout(4, 9, (4, 4), 2), network)
