"""Estimates of memory, and the limits that a machine states."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.filesize import decimal as size_text

from jointnet_cli.errors import UserError
from jointnet_cli.model.checkpoint import load_model, save_model
from jointnet_cli.model.folder import EMBEDDED, read_folder
from jointnet_cli.sampling.layout import single_tile, tiled
from jointnet_cli.sampling.memory import ResourceEstimate, estimate, memory_limit, require_memory
from jointnet_cli.sampling.presets import PRESETS, Resolved

FOLDER = read_folder(EMBEDDED)
HOW = Resolved(preset="paper", scheduler="ddim", steps=1, guidance=3)


def needed(side: int, **changes: object) -> ResourceEstimate:
    settings = {"device": "cpu", "dtype": "float32", "sampling": HOW, **changes}
    return estimate(FOLDER, single_tile(side // 8, side // 8), (side, side), **settings)  # type: ignore[arg-type]


def test_estimates_are_near_what_was_measured() -> None:
    # Highest resident size of `generate --steps 1` with the embedded model.
    assert needed(128).bytes == pytest.approx(0.62e9, rel=0.2)
    assert needed(1024).bytes == pytest.approx(1.68e9, rel=0.2)

    # That of `depth` on a photo, whose canvas is small, is 2.6 GB, and of `inpaint` on one of 4,000 pixels a side 2.1 GB.
    photo = estimate(FOLDER, single_tile(16, 16), (6000, 6000), sampling=HOW, device="cpu", dtype="float32")
    assert 2.7e9 < photo.bytes < 5e9


def test_more_pixels_members_and_exports_need_more() -> None:
    assert needed(100_000).bytes > 1e12
    assert needed(1024, dtype="float16").bytes < needed(1024).bytes
    assert needed(1024, members=50).bytes > needed(1024).bytes + 1e8
    assert needed(1024, scene=True).bytes > needed(1024).bytes + 1e8
    assert needed(1024, device="cuda", dtype="float16").device_bytes > 0 == needed(1024).device_bytes
    assert (
        needed(1024, sampling=replace(HOW, guidance=1)).seconds
        < needed(1024).seconds
        < needed(1024, sampling=replace(HOW, steps=20)).seconds
    )  # type: ignore[operator]


def test_weights_take_what_their_type_takes_in_memory_not_on_disk(tmp_path: Path) -> None:
    model = load_model(FOLDER)
    for dtype in (torch.float16, torch.float32):
        save_model(model, tmp_path / str(dtype), dtype)
    half, single = (read_folder(tmp_path / str(dtype)) for dtype in (torch.float16, torch.float32))
    for how in ({"device": "cpu", "dtype": "float32"}, {"device": "cuda", "dtype": "float16"}):
        stored = [estimate(folder, single_tile(16, 16), (128, 128), sampling=HOW, **how) for folder in (half, single)]
        assert stored[0] == stored[1]


def test_tiles_bound_the_network() -> None:
    wide = tiled(16, 8192, 16, PRESETS["paper"].tiles)
    settings = {"device": "cpu", "dtype": "float32"}
    whole = estimate(FOLDER, wide, (128, 65536), sampling=HOW, **settings)  # type: ignore[arg-type]
    plain = estimate(FOLDER, replace(wide, wrap=True), (128, 65536), sampling=replace(HOW, tile_batch=1), **settings)  # type: ignore[arg-type]
    assert whole.bytes == plain.bytes, "the whole image takes part in both"


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"proc/meminfo": "MemTotal: 1000 kB\nMemFree: 1 kB\n"}, 1_024_000),
        (
            {
                "proc/meminfo": "MemTotal: 1000 kB\n",
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/memory.max": "500000\n",
                "sys/fs/cgroup/a/b/memory.max": "max\n",
            },
            500_000,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "400000\n"}, 400_000),
        (
            {
                "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/x\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/x/memory.limit_in_bytes": "300000\n",
            },
            300_000,
        ),
    ],
)
def test_the_limit_is_the_least_that_holds(tmp_path: Path, files: dict[str, str], expected: int | None) -> None:
    assert memory_limit(tree(tmp_path, files)) == expected


def test_what_does_not_fit_is_refused_with_both_numbers() -> None:
    limit = memory_limit()
    assert limit is not None
    require_memory(ResourceEstimate(limit, 0, None), "this", "")
    with pytest.raises(UserError) as caught:
        require_memory(ResourceEstimate(limit + 1, 0, None), "an image", "fewer pixels")
    assert (
        str(caught.value)
        == f"an image needs about {size_text(limit + 1)} of memory; the limit here is {size_text(limit)}"
    )
    assert caught.value.hint == "fewer pixels"
