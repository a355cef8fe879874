"""What an autoencoder keeps of worlds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.shards import find_shards, read_shards
from helpers.tables import evaluate
from skimage.metrics import peak_signal_noise_ratio

from jointnet_cli.engine import Engine
from jointnet_cli.evaluation.commands.autoencoder import edge_widths, psnr


def test_psnr_is_scikit_image_s() -> None:
    first, second = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert psnr(first, second) == pytest.approx(
        peak_signal_noise_ratio(first.numpy(), second.numpy(), data_range=2), abs=1e-4
    )
    assert psnr(first, first) == float("inf")


def test_an_edge_is_as_wide_as_its_steepest_step_is_small() -> None:
    true = torch.zeros(3, 24)
    true[0, 12:] = 0.5
    true[1, 12:], true[1, 14:] = 0.5, 0.6  # not alone
    ramp = true.clone()
    ramp[0, 11:13] = torch.tensor([0.125, 0.375])
    assert edge_widths(true, true).tolist() == [1.0]
    assert edge_widths(true, ramp).tolist() == [2.0]


def psnr_of(shards: Path, model: Path, *arguments: object) -> dict[str, Any]:
    answer = evaluate("autoencoder", "--shards", shards, "--model", model, "--device", "cpu", *arguments)
    assert answer.exit_code == 0, answer.stderr
    report: dict[str, Any] = json.loads(answer.stdout)
    return report


def test_every_map_of_the_worlds(tiny_folder: Callable[[str], Path], evaluation_shards: Path) -> None:
    report = psnr_of(evaluation_shards, tiny_folder("masked"), "--limit", 3)
    assert report["images"] == 3
    assert list(report["psnr"]) == list(report["sharpness"]) == ["rgb", "depth", "normal"]
    assert min(report["sharpness"].values()) > 0 and report["depth_edge_width"] > 1


def test_the_figure_is_that_of_the_round_trip(
    engine: Engine, tiny_folder: Callable[[str], Path], evaluation_shards: Path
) -> None:
    sample = next(read_shards(find_shards(evaluation_shards)))
    true = sample.image.astype(np.float32) / 255
    with torch.inference_mode():
        latents = engine.model.encode(torch.from_numpy(true).permute(2, 0, 1)[None] * 2 - 1)
        decoded = engine.model.decode(latents)[0].permute(1, 2, 0).clamp(-1, 1).float().numpy() / 2 + 0.5
    expected = peak_signal_noise_ratio(true, decoded, data_range=1)
    found = psnr_of(evaluation_shards, tiny_folder("masked"), "--limit", 1)["psnr"]["rgb"]
    assert found == pytest.approx(expected, abs=0.006)
