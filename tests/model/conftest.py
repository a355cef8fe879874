"""Networks of every architecture, and their folders."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from jointnet_cli.model.joint import JointDenoiser


@pytest.fixture(scope="session")
def wake() -> Callable[[JointDenoiser], None]:
    """`wake(network)` gives all numbers that start at zero other values, so that everything has a say."""
    import torch

    def wake(network: JointDenoiser) -> None:
        torch.manual_seed(10)
        with torch.no_grad():
            for weights in network.parameters():
                weights.copy_(torch.where(weights == 0, 0.1 * torch.randn_like(weights), weights))

    return wake


@pytest.fixture(scope="session")
def architecture_folder(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_folder: Callable[[str], Path],
    wake: Callable[[JointDenoiser], None],
) -> Callable[[str], Path]:
    """`architecture_folder(architecture)`: the base folder extended to depth and normals, then woken. Not to be changed."""
    import torch

    from jointnet_cli.model.checkpoint import extend, load_model, save_model

    @cache
    def make(architecture: str) -> Path:
        folder = tmp_path_factory.mktemp(architecture)
        model = load_model(tiny_folder("base"))
        torch.manual_seed(3)
        model.joint = extend(architecture, model.joint.backbone("rgb"), ["depth", "normal"], rank=4).eval()
        wake(model.joint)
        save_model(model, folder, torch.float32)
        return folder

    return make
