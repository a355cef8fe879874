"""Make the contact sheets of diorama's card: `python docs/card_pictures.py PICTURES PANORAMAS docs/images`.

PICTURES is what `jointnet generate --prompts recipes/diorama/prompts.txt --seed 0` has written, PANORAMAS what
`jointnet panorama --prompts recipes/diorama/places.txt --width 2048 --seed 0` has.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pictures import panorama_picture
from PIL import Image

from jointnet_cli.files.color import colorize
from jointnet_cli.files.images import read_disparity_png, read_image

COLUMNS, QUALITY = 6, 88


def with_maps(image: Path) -> NDArray[np.float32]:
    """A picture above its depth and its normals."""
    stem = image.name.removesuffix(".image.png")
    depth = colorize(read_disparity_png(image.with_name(f"{stem}.depth.png")))
    return np.concatenate([read_image(image), depth, read_image(image.with_name(f"{stem}.normal.png"))])


def grid(cells: list[NDArray[np.float32]], columns: int) -> list[NDArray[np.float32]]:
    """Cells of one size, side by side in rows."""
    return [np.concatenate(cells[at : at + columns], axis=1) for at in range(0, len(cells), columns)]


def save(rows: list[NDArray[np.float32]], path: Path) -> None:
    """Write rows of equal width below one another."""
    values = np.concatenate(rows) * 255
    Image.fromarray(values.round().astype(np.uint8)).save(path, quality=QUALITY)


def main(pictures: Path, panoramas: Path, images: Path) -> None:
    """Write `diorama.jpg` and `diorama-panoramas.jpg`."""
    cells = [with_maps(path) for path in sorted(pictures.glob("*.image.png"))]
    save(grid(cells, COLUMNS), images / "diorama.jpg")
    rows = []
    for path in sorted(panoramas.glob("*.image.png")):
        depth = path.with_name(path.name.replace(".image.", ".depth."))
        rows.append(panorama_picture(read_image(path), read_disparity_png(depth)))
    save(rows, images / "diorama-panoramas.jpg")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
