"""Where tiles lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jointnet_cli.errors import UserError
from jointnet_cli.model.folder import ModelFolder, read_folder
from jointnet_cli.projection import Projection
from jointnet_cli.sampling.layout import (
    Layout,
    Tile,
    generate_layout,
    inpaint_layout,
    panorama_layout,
    photo_layout,
    refine_layout,
    single_tile,
    tiled,
)
from jointnet_cli.sampling.presets import BASELINES, PRESETS, Offsets, Tiling
from jointnet_cli.tasks import Generate, Panorama

PAPER = PRESETS["paper"].tiles
BAND = Layout(8, 40, (8, 8), 4, wrap=True)
SIDES = st.integers(1, 4000)
DRAWS = st.tuples(st.integers(0, 2**30 - 1), st.integers(0, 2**30 - 1))


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    window = draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    return Layout(
        draw(st.integers(1, 30)),
        draw(st.integers(1, 40)),
        window,
        draw(st.integers(1, min(window))),
        wrap=draw(st.booleans()),
        offsets=draw(st.sampled_from(get_args(Offsets))),
        taper=draw(st.integers(0, 4)),
    )


@pytest.fixture(scope="module")
def folder(tiny_folder: Callable[[str], Path]) -> ModelFolder:
    """32 pixels a side, 2 pixels a latent pixel; it asks for the paper's tiles."""
    found = read_folder(tiny_folder("depth"))
    return replace(found, defaults={**found.defaults, "preset": "paper"})


@settings(max_examples=40, deadline=None)
@given(layouts(), DRAWS)
def test_tiles_cover_the_canvas(layout: Layout, draw: tuple[int, int]) -> None:
    tiles = layout.at(0, 10, draw)
    covered = {
        (row, column % layout.width)
        for tile in tiles
        for row in range(tile.top, tile.top + tile.height)
        for column in range(tile.left, tile.left + tile.width)
    }
    assert covered == {(row, column) for row in range(layout.height) for column in range(layout.width)}


@settings(max_examples=40, deadline=None)
@given(layouts(), DRAWS)
def test_tiles_are_windows_within_the_canvas(layout: Layout, draw: tuple[int, int]) -> None:
    tiles = layout.at(0, 10, draw)
    size = min(layout.window[0], layout.height), min(layout.window[1], layout.width)
    assert {(tile.height, tile.width) for tile in tiles} == {size}
    assert len(set(tiles)) == len(tiles)
    for tile in tiles:
        assert 0 <= tile.top <= layout.height - tile.height
        assert 0 <= tile.left < layout.width
        assert layout.wrap or tile.left <= layout.width - tile.width


@settings(max_examples=40, deadline=None)
@given(layouts(), DRAWS, st.integers(1, 200))
def test_tiles_depend_on_the_draw_alone(layout: Layout, draw: tuple[int, int], step: int) -> None:
    layout = replace(layout, offsets="random") if layout.offsets == "golden" else layout
    assert layout.at(step, 200, draw) == layout.at(0, 200, draw)
    fixed = replace(layout, offsets="none")
    assert fixed.at(0, 10, draw) == fixed.at(0, 10, (0, 0))
    again = draw[0] + layout.stride, draw[1] + layout.stride
    assert layout.at(0, 10, draw) == layout.at(0, 10, again)


def test_offsets_move_the_inner_borders_and_keep_the_ends() -> None:
    layout = Layout(8, 40, (8, 8), 4)
    seen = set()
    for offset in range(4):
        lefts = [tile.left for tile in layout.at(0, 10, (0, offset))]
        assert (lefts[0], lefts[-1]) == (0, 32)
        assert all(left % 4 == offset for left in lefts[1:-1])
        seen |= set(lefts)
    assert seen == set(range(33))


def test_a_closed_canvas_starts_anywhere() -> None:
    layout = Layout(8, 20, (8, 8), 4, wrap=True)
    assert [tile.left for tile in layout.at(0, 10, (0, 3))] == [3, 7, 11, 15, 19]
    assert {tile.top for tile in layout.at(0, 10, (5, 3))} == {0}


@pytest.mark.parametrize("height", [1, 4, 8])
def test_one_tile_is_one_tile_at_every_step(height: int) -> None:
    layout = Layout(height, 7, (8, 8), 4, whole_image_until=1.0, taper=2)
    assert layout.single
    assert layout.at(0, 5, (3, 3)) == [Tile(0, 0, height, 7, taper=False)]
    assert not replace(layout, wrap=True).single
    assert not replace(layout, width=9).single
    assert not replace(layout, height=9).single
    assert single_tile(9, 5).single


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 100), st.sampled_from([0.0, 0.2, 0.4, 1.0]), DRAWS)
def test_the_whole_image_takes_part_in_the_first_steps(steps: int, until: float, draw: tuple[int, int]) -> None:
    layout = Layout(8, 24, (8, 8), 4, whole_image_until=until, whole_image_weight=3.0, taper=2)
    plain = replace(layout, whole_image_until=0.0)
    for step in range(steps):
        more = layout.at(step, steps, draw)[len(plain.at(step, steps, draw)) :]
        present = until > 0 and step <= int(until * steps)
        assert more == ([Tile(0, 0, 8, 24, weight=3.0, taper=False)] if present else [])


def test_a_closed_whole_image_is_cut_open_anywhere() -> None:
    layout = Layout(8, 24, (8, 8), 4, wrap=True, whole_image_until=0.4)
    assert {layout.at(0, 10, (0, draw))[-1].left for draw in range(24)} == set(range(24))
    assert replace(layout, offsets="none").at(0, 10, (0, 5))[-1].left == 0


def test_only_the_whole_image_is_untapered_and_weighs_more() -> None:
    tiles = Layout(8, 24, (8, 8), 4, whole_image_until=0.4, taper=2).at(0, 10, (0, 0))
    assert [(tile.weight, tile.taper) for tile in tiles] == [(1.0, True)] * (len(tiles) - 1) + [(5.0, False)]


def test_generate_takes_the_model_s_size_or_that_asked_for(folder: ModelFolder) -> None:
    assert generate_layout(Generate(prompt="", seed=0), folder) == single_tile(16, 16)
    assert generate_layout(Generate(prompt="", seed=0, width=50, height=20), folder) == single_tile(10, 25)


def test_a_panorama_takes_square_tiles_and_half_of_one_as_stride(folder: ModelFolder) -> None:
    layout = panorama_layout(Panorama(prompt="", seed=0, width=128), folder)
    assert layout == Layout(16, 64, (16, 16), 8, wrap=True, whole_image_until=0.4, whole_image_weight=5.0, taper=2)
    assert layout.offsets == "random"
    asked = Panorama(
        prompt="",
        seed=0,
        width=96,
        height=48,
        span=180,
        wrap=False,
        stride=10,
        taper=8,
        whole_image_until=0.1,
        whole_image_weight=2,
    )
    expected = Layout(24, 48, (16, 16), 5, whole_image_until=0.1, whole_image_weight=2, taper=4)
    assert panorama_layout(asked, folder) == expected
    nothing = replace(asked, taper=0, whole_image_until=0.0, whole_image_weight=None)
    unweighted = replace(expected, taper=0, whole_image_until=0.0, whole_image_weight=5.0)
    assert panorama_layout(nothing, folder) == unweighted


@pytest.mark.parametrize(("method", "stride"), [("jointnet", 32), ("multidiffusion", 8), ("syncdiffusion", 16)])
def test_the_paper_s_strides(folder: ModelFolder, method: Any, stride: int) -> None:
    """Table 3: latent pixels at Stable Diffusion's window of 64."""
    layout = panorama_layout(Panorama(prompt="", seed=0, width=512, method=method), replace(folder, window=64))
    assert (layout.window, layout.stride) == ((64, 64), stride)
    assert layout == tiled(64, 256, 64, BASELINES.get(method, PAPER), wrap=True)


@pytest.mark.parametrize("method", ["multidiffusion", "syncdiffusion"])
def test_rivals_tile_plainly(folder: ModelFolder, method: Any) -> None:
    layout = panorama_layout(Panorama(prompt="", seed=0, width=128, method=method), folder)
    assert (layout.offsets, layout.taper, layout.whole_image_until) == ("none", 0, 0.0)
    assert layout.wrap
    assert layout.at(0, 10, (1, 1)) == layout.at(3, 10, (2, 2))
    asked = Panorama(prompt="", seed=0, width=128, method=method, stride=16, taper=4)
    assert panorama_layout(asked, folder) == replace(layout, stride=8, taper=2)


def test_direct_is_one_tile(folder: ModelFolder) -> None:
    asked = Panorama(prompt="", seed=0, width=128, height=48, method="direct")
    assert panorama_layout(asked, folder) == single_tile(24, 64)
    with pytest.raises(UserError, match="--stride has no effect: the method direct has no tiles"):
        panorama_layout(replace(asked, stride=10), folder)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 60), st.integers(2, 60), st.booleans())
def test_refinement_sees_no_whole_image(height: int, width: int, wrap: bool) -> None:
    layout = refine_layout(height, width, 16, PAPER, wrap=wrap)
    assert layout == replace(tiled(height, width, 16, PAPER, wrap=wrap), whole_image_until=0.0)
    assert (layout.stride, layout.taper, layout.offsets) == (8, 2, "random")
    for step in range(3):
        assert all(
            (tile.height, tile.width) == (min(16, height), min(16, width)) for tile in layout.at(step, 9, (5, 5))
        )
    assert layout.single == (max(height, width) <= 16 and not wrap)


@settings(max_examples=30, deadline=None)
@given(SIDES, SIDES)
def test_a_photo_takes_the_model_s_area_in_its_own_shape(folder: ModelFolder, height: int, width: int) -> None:
    layout = photo_layout(height, width, folder, PAPER)
    assert layout.height % 2 == layout.width % 2 == 0
    scale = 16 / (height * width) ** 0.5
    for side, pixels in ((layout.height, height), (layout.width, width)):
        assert side == 2 or abs(side - pixels * scale) <= 1
    if 1 / 4 <= height / width <= 4:
        assert layout.single


@settings(max_examples=30, deadline=None)
@given(st.integers(8, 600), st.integers(8, 600), st.integers(1, 2000))
def test_max_side_is_the_longer_side_within_the_photo_s_and_the_model_s(
    folder: ModelFolder, height: int, width: int, max_side: int
) -> None:
    layout, own = photo_layout(height, width, folder, PAPER, max_side), photo_layout(height, width, folder, PAPER)
    longer = max(layout.height, layout.width)
    assert longer >= max(own.height, own.width)
    if longer > max(own.height, own.width):
        assert abs(2 * longer - min(max_side, max(height, width))) <= 2
    if layout.height * layout.width > 1.5 * 16 * 16:
        assert layout == tiled(layout.height, layout.width, 16, PAPER)
    else:
        assert layout == single_tile(layout.height, layout.width)


def test_a_large_photo_is_tiled_and_a_small_one_is_not_enlarged(folder: ModelFolder) -> None:
    assert photo_layout(300, 400, folder, PAPER, 200) == tiled(76, 100, 16, PAPER)
    assert photo_layout(300, 400, folder, PAPER, 4000) == tiled(150, 200, 16, PAPER)
    assert photo_layout(300, 400, folder, PAPER, 10) == photo_layout(300, 400, folder, PAPER) == single_tile(14, 18)
    assert photo_layout(8, 8, folder, PAPER, 4000) == single_tile(16, 16)


@pytest.mark.parametrize("multiple", [1, 2, 4, 8])
def test_canvases_are_what_the_network_can_work_on(folder: ModelFolder, multiple: int) -> None:
    """DeepFloyd-IF's branches take multiples only."""
    strict = replace(folder, multiple=multiple)
    for height, width, max_side in ((24, 40, None), (33, 47, None), (7, 90, None), (300, 201, 200)):
        layout = photo_layout(height, width, strict, PAPER, max_side)
        assert layout.height % multiple == layout.width % multiple == 0


def test_given_maps_say_the_size_unless_it_is_asked_for(folder: ModelFolder) -> None:
    maps = {"depth": np.zeros((100, 400), np.float32)}
    task = Generate(prompt="", seed=0, maps=maps)
    assert generate_layout(task, folder) == photo_layout(100, 400, folder, PAPER) == single_tile(8, 32)
    assert generate_layout(replace(task, width=50, height=20), folder) == single_tile(10, 25)
    assert generate_layout(replace(task, width=48), folder) == single_tile(6, 24)
    assert generate_layout(replace(task, height=12), folder) == single_tile(6, 24)
    narrow = replace(task, maps={"normal": np.zeros((100, 1, 3), np.float32)}, height=12)
    assert generate_layout(narrow, folder) == single_tile(6, 1)
    wide = replace(task, maps={"depth": np.zeros((100, 360), np.float32)}, height=16)
    assert generate_layout(wide, replace(folder, multiple=4)) == single_tile(8, 28)


def test_half_of_an_odd_tile_is_rounded(folder: ModelFolder) -> None:
    odd = replace(folder, window=15)
    assert panorama_layout(Panorama(prompt="", seed=0, width=64), odd).stride == 7


@pytest.mark.parametrize(
    ("asked", "words", "hint"),
    [
        ({"width": 129}, "width must be a multiple of 2, got 129", "--width 128"),
        ({"height": 35}, "height must be a multiple of 2, got 35", "--height 36"),
        ({"stride": 7}, "stride must be a multiple of 2, got 7", "--stride 8"),
        ({"taper": 7}, "taper 7 is not a multiple of 2", "--taper 8"),
        ({"taper": 1}, "taper 1 is not a multiple of 2", "--taper 0"),
        ({"width": 30}, "at least 32 pixels", "generate"),
        ({"height": 16}, "at least 32 pixels", "generate"),
        ({"stride": 34}, "leaves gaps", "--stride 16"),
        ({"span": 180, "wrap": True}, "span", "--no-wrap"),
        ({"span": 0.0, "wrap": False}, "span", "360"),
        ({"span": 361.0, "wrap": False}, "span", "360"),
    ],
)
def test_panoramas_that_cannot_be(folder: ModelFolder, asked: dict[str, Any], words: str, hint: str) -> None:
    with pytest.raises(UserError, match=words) as fault:
        panorama_layout(Panorama(**{"prompt": "", "seed": 0, "width": 128, **asked}), folder)
    assert hint in str(fault.value.hint)


def test_sizes_that_cannot_be(folder: ModelFolder) -> None:
    with pytest.raises(UserError, match="width must be a multiple of 2, got 33"):
        generate_layout(Generate(prompt="", seed=0, width=33), folder)
    with pytest.raises(UserError, match=r"height must be a multiple of 2, got 1$"):
        generate_layout(Generate(prompt="", seed=0, height=1), folder)


def test_a_photo_in_need_of_paint_is_laid_out_as_for_depth(folder: ModelFolder) -> None:
    for height, width, max_side in ((30, 40, None), (300, 400, 200)):
        assert inpaint_layout(height, width, folder, PAPER, max_side) == photo_layout(
            height, width, folder, PAPER, max_side
        )


@pytest.mark.parametrize("wrap", [False, True])
def test_a_panorama_in_need_of_paint_keeps_its_size(folder: ModelFolder, wrap: bool) -> None:
    projection = Projection("cylindrical", 360.0, wrap=wrap)
    for size, max_side, canvas in [
        ((64, 200), None, (32, 100)),
        ((64, 200), 4000, (32, 100)),
        ((64, 200), 100, (16, 50)),
        ((200, 64), 100, (50, 16)),
        ((200, 64), None, (32, 10)),
    ]:
        layout = inpaint_layout(*size, folder, PAPER, max_side, projection)
        assert layout == tiled(*canvas, folder.window, PAPER, wrap=wrap), (size, max_side)


def test_tiles_without_a_random_offset_begin_at_the_corner() -> None:
    layout = Layout(4, 12, (4, 4), 3, wrap=True, offsets="none")
    assert [(tile.top, tile.left) for tile in layout.at(0, 10, (7, 8))] == [(0, 0), (0, 3), (0, 6), (0, 9)]


def test_a_single_tile_is_its_own_window() -> None:
    assert single_tile(16, 20) == Layout(16, 20, (16, 20), 16)


def test_canvases_are_open_unless_it_is_said(folder: ModelFolder) -> None:
    assert not tiled(16, 40, 16, PAPER).wrap and not refine_layout(16, 40, 16, PAPER).wrap


def test_a_plan_decides_the_weight_of_the_whole_image_and_a_stride_of_at_least_one() -> None:
    layout = tiled(2, 9, 2, replace(PAPER, whole_image_weight=3.0, tiles_per_window=4))
    assert (layout.whole_image_weight, layout.stride) == (3.0, 1)


def test_a_taper_is_a_whole_number_of_latent_pixels(folder: ModelFolder) -> None:
    taper = tiled(64, 128, 20, PAPER).taper
    assert (taper, type(taper)) == (2, int)


def test_the_largest_canvas_of_one_tile(folder: ModelFolder) -> None:
    """One and a half of the model's areas: 16 x 24 latent pixels."""
    assert photo_layout(32, 48, folder, PAPER, 48) == single_tile(16, 24)
    assert photo_layout(32, 52, folder, PAPER, 52) == tiled(16, 26, 16, PAPER)


def test_the_smallest_panorama_and_the_widest_stride(folder: ModelFolder) -> None:
    smallest = Panorama(prompt="", seed=0, width=32, height=32, span=0.5, wrap=False)
    assert panorama_layout(smallest, folder) == tiled(16, 16, 16, PAPER)
    assert panorama_layout(replace(smallest, width=64, stride=32), folder).stride == 16


def test_what_is_said_of_panoramas_that_cannot_be(folder: ModelFolder) -> None:
    words = {
        ("span is at most 360 degrees, and exactly 360 with wrap", "--span 360, or --no-wrap"): {
            "span": 180.0,
            "wrap": True,
        },
        ("a panorama is at least 32 pixels wide and high", "or use: jointnet generate"): {"width": 30},
        ("stride 34 leaves gaps between tiles of 32", "--stride 16"): {"stride": 34},
    }
    for (message, hint), asked in words.items():
        with pytest.raises(UserError) as fault:
            panorama_layout(Panorama(**{"prompt": "", "seed": 0, "width": 128, **asked}), folder)
        assert (str(fault.value), fault.value.hint) == (message, hint)


def test_golden_offsets_spread_evenly_over_the_stride() -> None:
    layout = tiled(8, 480, 120, Tiling(1, offsets="golden"), wrap=True)
    lefts = [layout.at(step, 13, (0, 30))[0].left % 120 for step in range(13)]
    assert lefts[0] == 30
    for count in range(2, 14):
        places = sorted(lefts[:count])
        gaps = [(right - left) % 120 for left, right in zip(places, places[1:] + places[:1], strict=True)]
        assert max(gaps) <= 2 * 120 / count + 2 and min(gaps) >= 120 / count / 3, count


def test_the_last_step_may_have_a_stride_of_its_own() -> None:
    layout = tiled(8, 48, 8, Tiling(1, last_tiles_per_window=2), wrap=True)
    assert [len(layout.at(step, 12, (0, 0))) for step in range(12)] == [6] * 11 + [12]
    assert [len(layout.at(step, 1, (0, 0))) for step in range(1)] == [12]


def test_the_whole_image_may_come_alone_at_first() -> None:
    tiling = Tiling(2, whole_image_until=0.4, whole_image_only_until=1 / 6)
    layout = tiled(8, 48, 8, tiling, wrap=True)
    assert [len(layout.at(step, 12, (0, 0))) for step in range(6)] == [1, 1, 13, 13, 13, 12]
    assert len(layout.at(0, 1, (0, 0))) == 13


@pytest.mark.parametrize("name", PRESETS)
@settings(max_examples=30, deadline=None)
@given(
    steps=st.tuples(st.integers(1, 1000), st.floats(0, 1)),
    draws=st.tuples(st.integers(0, 2**30), st.integers(0, 2**30)),
    wrap=st.booleans(),
)
def test_tiles_of_presets_cover_the_canvas(
    name: Any, steps: tuple[int, float], draws: tuple[int, int], wrap: bool
) -> None:
    count, step = steps[0], round(steps[1] * (steps[0] - 1))
    layout = tiled(20, 52, 8, PRESETS[name].tiles, wrap=wrap)
    covered = np.zeros((20, 52), bool)
    for tile in layout.at(step, count, draws):
        columns = [column % 52 for column in range(tile.left, tile.left + tile.width)]
        covered[tile.top : tile.top + tile.height, columns] = True
    assert covered.all()


def test_the_expected_cost_of_a_step_is_that_of_its_tiles_on_a_closed_canvas() -> None:
    for preset in PRESETS.values():
        layout = tiled(8, 48, 8, preset.tiles, wrap=True)
        for step in range(preset.steps):
            tiles = layout.at(step, preset.steps, (5, 7))
            assert layout.evaluations(tiles) == layout.expected_evaluations(step, preset.steps)
