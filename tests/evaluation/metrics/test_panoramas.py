"""Seams: a planted one is found, a smooth wrap has none, and tile borders are where the tiles were."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jointnet_cli.engine import Engine
from jointnet_cli.evaluation.metrics.panoramas import (
    column_steps,
    last_tile_borders,
    panorama_seams,
    seam_ratios,
)
from jointnet_cli.sampling.layout import Layout, Tile
from jointnet_cli.sampling.presets import Sampling
from jointnet_cli.tasks import Panorama

QUICK = Sampling(steps=2)

WIDTH = 256
ANGLES = np.linspace(0, 2 * np.pi, WIDTH, endpoint=False)


@pytest.fixture
def closed() -> np.ndarray[Any, Any]:
    """A smooth picture whose right edge continues at the left, (16, 256, 3)."""
    waves = np.stack([np.sin(ANGLES), np.cos(2 * ANGLES), np.sin(3 * ANGLES + 1)], axis=-1)
    return (0.5 + 0.4 * np.broadcast_to(waves, (16, WIDTH, 3))).astype(np.float32)


def test_column_steps_by_hand() -> None:
    picture = np.array([[0, 1, 4], [0, 3, 4]], dtype=np.float32)
    assert column_steps(picture).tolist() == [4, 2, 2]
    assert column_steps(np.stack([picture, 3 * picture], axis=-1)).tolist() == [8, 4, 4]


def test_a_smooth_wrap_is_no_seam(closed: np.ndarray[Any, Any]) -> None:
    ratios = seam_ratios(column_steps(closed), [0])
    assert ratios["to_mean"] < 1.6  # a steep part of the waves
    assert ratios["to_p95"] < 1


def test_an_open_end_is_a_seam(closed: np.ndarray[Any, Any]) -> None:
    ratios = seam_ratios(column_steps(closed[:, :201]), [0])
    assert ratios["to_mean"] > 10
    assert ratios["to_p95"] > 5


@pytest.mark.parametrize("column", [1, 64, 255])
def test_a_planted_seam_is_found_where_it_is(closed: np.ndarray[Any, Any], column: int) -> None:
    closed[:, column:] += 0.2
    steps = column_steps(closed)
    assert seam_ratios(steps, [column], wrap=False)["to_mean"] > 5
    assert seam_ratios(steps, [column + WIDTH], wrap=False) == seam_ratios(steps, [column], wrap=False)
    assert seam_ratios(steps, [128], wrap=False)["to_mean"] < 2


def test_without_wrap_the_ends_do_not_count(closed: np.ndarray[Any, Any]) -> None:
    steps = column_steps(closed[:, :201])
    assert seam_ratios(steps, [50], wrap=False)["to_mean"] > seam_ratios(steps, [50])["to_mean"]
    with pytest.raises(ValueError, match="borders"):
        seam_ratios(steps, [0], wrap=False)


def test_steps_between_latent_pixels_are_compared_with_their_like() -> None:
    """A picture with a larger step at every fourth column has no seam at the eighth."""
    steps = np.where(np.arange(64) % 4 == 0, 0.3, 0.1)
    assert seam_ratios(steps, [8, 32])["to_mean"] > 1.5
    assert seam_ratios(steps, [8, 32], grid=4)["to_mean"] == pytest.approx(1)
    steps[8] = 0.6
    assert seam_ratios(steps, [8], grid=4)["to_mean"] == pytest.approx(2, rel=1e-3)


def test_a_flat_picture_has_no_seam() -> None:
    steps = column_steps(np.full((4, 64), 0.5, np.float32))
    assert seam_ratios(steps, [0, 32]) == pytest.approx({"to_mean": 1, "to_p95": 1})


@pytest.mark.parametrize("variant", ["depth", "masked"])
def test_borders_of_the_last_step(
    variant: str, tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine.open(str(tiny_folder(variant)), device="cpu")
    steps: list[list[Tile]] = []
    draw_tiles = Layout.at

    def recorded(layout: Layout, *where: Any) -> list[Tile]:
        steps.append(draw_tiles(layout, *where))
        return steps[-1]

    monkeypatch.setattr(Layout, "at", recorded)
    result = engine.panorama(Panorama(prompt="a lake", seed=3, width=80, sampling=QUICK))
    sides = {side % 40 * 2 for tile in steps[-1] for side in (tile.left, tile.left + tile.width)}
    assert last_tile_borders(engine, result) == sorted(sides - {0})


def test_open_panoramas_have_no_wrap(engine: Engine) -> None:
    task = Panorama(prompt="a lake", seed=3, width=96, span=180, wrap=False, sampling=QUICK)
    found = panorama_seams(engine, engine.panorama(task))
    assert set(found) == {"image", "depth"}
    assert set(found["image"]) == {"last_tiles", "stride_grid"}
