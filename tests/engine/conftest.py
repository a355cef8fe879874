"""Engines on tiny models, and what every result must be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from jointnet_cli.engine import Engine
from jointnet_cli.results import Result
from jointnet_cli.sampling.presets import Sampling

Engines = Callable[[str], Engine]
QUICK = Sampling(steps=2, guidance=2.0)


@pytest.fixture(scope="session")
def engines(tiny_folder: Callable[[str], Path], tiny_joint: Callable[..., Path]) -> Engines:
    """`engines(variant)`: the engine on one of the tiny models, two steps by default. Not to be changed.

    `pixels` works on pixels themselves: what is given to it comes back as it was, which shows what a task does.
    """

    @cache
    def make(variant: str) -> Engine:
        folder = tiny_joint("if", ("depth",)) if variant == "pixels" else tiny_folder(variant)
        engine = Engine.open(str(folder), device="cpu", dtype="float32")
        defaults = {**engine.folder.defaults, "scheduler": "ddim", "steps": 2, "guidance": 2.0, "depth_steps": 1}
        return replace(engine, folder=replace(engine.folder, defaults=defaults))

    return make


def photo(height: int = 24, width: int = 40, seed: int = 0) -> NDArray[np.float32]:
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    noise = np.random.default_rng(seed).random((height, width), np.float32)
    return np.stack([rows / height, columns / width, noise], axis=-1)


def check_normals(normals: NDArray[np.float32], height: int, width: int) -> None:
    """Unit vectors, and zero vectors for the sky."""
    assert normals.shape == (height, width, 3)
    lengths = np.linalg.norm(normals, axis=-1)
    assert np.allclose(lengths[lengths > 0], 1, atol=1e-4)
    if lengths.size > 16:
        assert (lengths > 0).mean() > 0.5


def check(result: Result, height: int, width: int, maps: list[str]) -> None:
    """Sizes, types and value ranges of a result."""
    assert result.image.shape == (height, width, 3)
    assert list(result.maps) == maps
    for array in (result.image, *result.maps.values()):
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
        assert np.isfinite(array).all()
    assert result.image.min() >= 0 and result.image.max() <= 1
    if "depth" in maps:
        depth = result.maps["depth"]
        assert depth.shape == (height, width)
        assert depth.min() >= 0 and depth.max() <= 1
        assert depth.std() > 0
    if "normal" in maps:
        check_normals(result.maps["normal"], height, width)
    assert result.seconds == sum(result.timings.values()) > 0


def disparity(height: int = 24, width: int = 40) -> NDArray[np.float32]:
    """Near at the bottom right."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    return (rows / height + columns / width) / 2


def facing(height: int = 24, width: int = 40) -> NDArray[np.float32]:
    """Normals towards the viewer."""
    return np.broadcast_to(np.float32([0, 0, 1]), (height, width, 3)).copy()


def maps_for(variant: str, height: int = 24, width: int = 40) -> dict[str, NDArray[np.float32]]:
    """All maps of a tiny model's branches."""
    normals = {"normal": facing(height, width)} if variant == "depth-normal" else {}
    return {"depth": disparity(height, width), **normals}
