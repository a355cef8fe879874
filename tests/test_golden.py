"""The comparison with reference tensors notices what it is for; the real references are not in this repository."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from golden import INPUTS, Golden, compare, main
from safetensors.torch import load_file, save_file

from jointnet_cli.model.hub import find_model
from jointnet_cli.model.published import export_model

pytestmark = pytest.mark.slow

WINDOW, CHANNELS, TEXT, SIDE = 8, 5, 16, 16


@pytest.fixture(scope="module")
def folder(tiny_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """References that this implementation made itself, on tiny models in the published layout."""
    folder = tmp_path_factory.mktemp("golden")
    (folder / "base").symlink_to(tiny_folder("base"))
    for name, variant in (("finetune", "depth"), ("inpaint", "masked")):
        export_model(find_model(str(tiny_folder(variant))), folder / name)
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "forward.latents": (2, 2 * CHANNELS, WINDOW, WINDOW),
        "forward.text": (2, 16, TEXT),
        "generate.latents": (1, 2 * CHANNELS, WINDOW, WINDOW),
        "pano.latents": (1, 2 * CHANNELS, WINDOW, 3 * WINDOW),
        "inpaint.image": (1, 3, SIDE, SIDE),
        "inpaint.joint": (1, 3, SIDE, SIDE),
        "forward_masked.image_mask": (2, 1, WINDOW, WINDOW),
        "forward_masked.joint_mask": (2, 1, WINDOW, WINDOW),
        "forward_masked.masked_image_latents": (2, CHANNELS, WINDOW, WINDOW),
        "forward_masked.masked_joint_latents": (2, CHANNELS, WINDOW, WINDOW),
    }
    entries = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    entries["forward.timestep"] = torch.tensor([7, 900])
    entries["inpaint.mask"] = (torch.rand(1, 1, SIDE, SIDE, generator=generator) > 0.5).float()
    assert entries.keys() == INPUTS
    save_file(entries, folder / "golden.safetensors")
    with torch.inference_mode():
        made = {name: value.clone().contiguous() for name, value in Golden(folder).recompute()}
    save_file({**entries, **made}, folder / "golden.safetensors")
    return folder


def changed(folder: Path, name: str, amount: float) -> int:
    """Compare the references with themselves, one moved by a fraction of its standard deviation."""
    entries = load_file(folder / "golden.safetensors")
    made = [(key, value) for key, value in entries.items() if key not in INPUTS]
    entry = entries.get(name, torch.ones(2))
    return compare({**entries, name: entry + amount * entry.std()}, made)


def test_equal_tensors_pass(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(folder) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 16
    assert all(line.endswith("ok") for line in lines)


@pytest.mark.parametrize(
    ("name", "amount"), [("forward.noise", 1e-4), ("pano.full.final", 1e-2), ("inpaint.inpaint.asym.final", 1e-2)]
)
def test_other_tensors_do_not(folder: Path, name: str, amount: float) -> None:
    assert changed(folder, name, 0) == 0
    assert changed(folder, name, amount) == 1


def test_what_is_not_compared_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert changed(folder, "refine.final", 0) == 1
    assert "refine.final" in capsys.readouterr().out
