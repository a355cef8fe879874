"""A few worlds in shards, and an untrained engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.shards import read_shards, write_shard
from helpers.worlds import make_worlds

from jointnet_cli.engine import Engine


@pytest.fixture(scope="session")
def training_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    make_worlds(folder, 32)
    return folder


@pytest.fixture(scope="session")
def evaluation_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation")
    make_worlds(folder, 8, evaluation=True)
    return folder


@pytest.fixture
def without_depth(tmp_path: Path, evaluation_shards: Path) -> Path:
    """The first of the worlds, and another in which nothing has a depth, as if it were all sky."""
    folder = tmp_path / "without"
    folder.mkdir()
    sample = next(read_shards([evaluation_shards / "00000.tar"]))
    assert sample.inverse_depth is not None
    empty = replace(sample, key="empty", inverse_depth=np.zeros_like(sample.inverse_depth))
    write_shard(folder / "00000.tar", [sample, empty])
    return folder


@pytest.fixture(scope="session")
def engine(tiny_folder: Callable[[str], Path]) -> Engine:
    return Engine.open(str(tiny_folder("masked")), device="cpu")
