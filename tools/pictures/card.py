"""Make the contact sheets of diorama's model card: `python tools/pictures/card.py PICTURES PANORAMAS docs/images`.

PICTURES is the output folder of `jointnet generate --prompts tools/diorama/prompts.txt --seed 0`, PANORAMAS that of
`jointnet panorama --prompts tools/diorama/places.txt --width 2048 --seed 0`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from readme import panorama_picture

from jointnet_cli.files.color import colorize
from jointnet_cli.files.images import read_disparity_png, read_image

COLUMNS, QUALITY = 6, 88


def with_maps(image: Path) -> NDArray[np.float32]:
    """Stack an image, its depth and its normals."""
    stem = image.name.removesuffix(".image.png")
    depth = colorize(read_disparity_png(image.with_name(f"{stem}.depth.png")))
    return np.concatenate([read_image(image), depth, read_image(image.with_name(f"{stem}.normal.png"))])


def grid(cells: list[NDArray[np.float32]], columns: int) -> list[NDArray[np.float32]]:
    """Arrange cells of one size in rows of `columns`."""
    return [np.concatenate(cells[at : at + columns], axis=1) for at in range(0, len(cells), columns)]


def save(rows: list[NDArray[np.float32]], path: Path) -> None:
    """Write rows of equal width below one another."""
    values = np.concatenate(rows) * 255
    Image.fromarray(values.round().astype(np.uint8)).save(path, quality=QUALITY)


def main() -> None:
    """Write `diorama.jpg` and `diorama-panoramas.jpg`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("pictures", "panoramas", "images"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args()
    cells = [with_maps(path) for path in sorted(options.pictures.glob("*.image.png"))]
    save(grid(cells, COLUMNS), options.images / "diorama.jpg")
    rows = []
    for path in sorted(options.panoramas.glob("*.image.png")):
        depth = path.with_name(path.name.replace(".image.", ".depth."))
        rows.append(panorama_picture(read_image(path), read_disparity_png(depth)))
    save(rows, options.images / "diorama-panoramas.jpg")


if __name__ == "__main__":
    main()
