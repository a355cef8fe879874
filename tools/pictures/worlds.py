"""Make the picture of the worlds, each above its disparity and normals: `python tools/pictures/worlds.py docs/images`."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from card import grid, save

from jointnet_cli.data.worlds.grammar import sample_world
from jointnet_cli.data.worlds.renderer import render
from jointnet_cli.files.color import colorize
from jointnet_cli.tensors import inverse_depth, relative_disparity

SEEDS = range(2_000_000, 2_000_024)
COLUMNS = 12


def main() -> None:
    """Write `worlds.jpg`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path)
    options = parser.parse_args()
    made = render([sample_world(seed) for seed in SEEDS], size=128)
    disparity = relative_disparity(inverse_depth(made.depth)).numpy()
    normals = (made.normals.permute(0, 2, 3, 1).numpy() + 1) / 2
    cells = [
        np.concatenate([image, colorize(depth), normal])
        for image, depth, normal in zip(made.rgb.permute(0, 2, 3, 1).numpy(), disparity, normals, strict=True)
    ]
    save(grid(cells, COLUMNS), options.images / "worlds.jpg")


if __name__ == "__main__":
    main()
