"""Make the gallery, its page and its pictures, from the commands that it shows: `python tools/pictures/gallery.py docs`.

Every command runs in a temporary folder, once. A picture of the viewer needs Chromium and is left out without it.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import imageio.v3
import numpy as np
import trimesh
from numpy.typing import NDArray
from PIL import Image
from readme import panorama_picture

from jointnet_cli.files.color import colorize
from jointnet_cli.files.images import read_disparity_png, read_image
from jointnet_cli.projection import Projection
from jointnet_cli.scene.cameras import Camera
from jointnet_cli.scene.rasterize import Patch, draw

WIDEST, QUALITY = 1024, 82
"""Columns of a picture at most, and the quality of its JPEG."""
LIMIT = 1_500_000
"""Bytes of all pictures together."""
FRAMES = 4
SIDE = (0.3, 0.3, 0.3)
"""Metres from where a panorama was taken to where its mesh is looked at from."""
VIEWER = 960, 540

Picture = NDArray[np.float32]
Files = Sequence[Path]
REEF = (
    'jointnet panorama "ocean reef" --width 2048 --seed 0 '
    "--stereo sbs --stereo vr180 --stereo tb360 --orbit clip.mp4 --viewer"
)
HUT = 'jointnet generate "a red hut on a green hill" --seed 7 --count 6'
HUT_FILE = "outputs/00000_7_a-red-hut-on-a-green-hill"


def ending(files: Files, *suffixes: str) -> list[Path]:
    """The files whose names end so, in order."""
    return [path for path in files if path.name.endswith(suffixes)]


def panorama(files: Files) -> Picture:
    """The panorama above its depth."""
    (image,), (depth,) = ending(files, ".image.png"), ending(files, ".depth.png")
    return panorama_picture(read_image(image), read_disparity_png(depth))


def pairs(files: Files) -> Picture:
    """Every image above its depth, side by side."""
    images = [read_image(path) for path in ending(files, ".image.png")]
    depths = [colorize(read_disparity_png(path)) for path in ending(files, ".depth.png")]
    return np.concatenate([np.concatenate(images, axis=1), np.concatenate(depths, axis=1)])


def predicted(files: Files) -> Picture:
    """Depth, and how unsure of it the ensemble is, four times as bright."""
    (preview,), (uncertainty,) = ending(files, ".preview.png"), ending(files, ".depth-uncertainty.png")
    doubt = np.clip(4 * read_disparity_png(uncertainty), 0, 1)
    return np.concatenate([read_image(preview), colorize(doubt)], axis=1)


def only(suffix: str) -> Callable[[Files], Picture]:
    """The one file that ends so, as it is."""
    return lambda files: read_image(ending(files, suffix)[0])


def frames(files: Files) -> Picture:
    """Frames of the clip, evenly spread, side by side."""
    clip = imageio.v3.imread(ending(files, ".mp4")[0], plugin="FFMPEG")
    chosen = [clip[len(clip) * number // FRAMES] for number in range(FRAMES)]
    return np.concatenate(chosen, axis=1).astype(np.float32) / np.float32(255)


def mesh(files: Files) -> Picture:
    """The mesh from beside the place where the panorama was taken, to two sides."""
    (path,) = ending(files, ".mesh.glb")
    views = [mesh_view(path, Camera(Projection("perspective", 75.0), 300, 480, SIDE, yaw, -10)) for yaw in (-50, 70)]
    return np.concatenate(views, axis=1)


def mesh_view(path: Path, camera: Camera) -> Picture:
    """A GLB without its sky, before white."""
    nearness = np.zeros(camera.height * camera.width, np.float32)
    image = np.ones((len(nearness), 3), np.float32)
    for name, part in trimesh.load(path, process=False).geometry.items():
        if name == "sky":
            continue
        # Where on its texture each pixel lies is painted first, as if it were a colour.
        before, places = nearness.copy(), np.zeros_like(image)
        corners = np.concatenate([part.visual.uv, np.zeros((len(part.vertices), 1))], axis=1, dtype=np.float32)
        patch = Patch(np.asarray(part.vertices, np.float32), corners, part.faces.T)
        draw(patch, camera, nearness, places, 1)
        texture = np.asarray(part.visual.material.baseColorTexture.convert("RGB"), np.float32) / 255
        new = nearness > before
        column = (places[new, 0] * texture.shape[1]).astype(int) % texture.shape[1]
        row = ((1 - places[new, 1]) * texture.shape[0]).astype(int).clip(0, texture.shape[0] - 1)
        image[new] = texture[row, column]
    return image.reshape(camera.height, camera.width, 3)


def viewer(files: Files) -> Picture | None:
    """Draw the page in Chromium; `None` without it."""
    sys.path.append(str(Path(__file__).parents[2] / "tests"))
    from helpers.browser import WEBGL, find_browser, open_browser

    program = find_browser()
    if program is None:
        return None
    with TemporaryDirectory() as folder, open_browser(program, Path(folder), WEBGL) as page:
        page.resize(*VIEWER)
        page.open(ending(files, ".view.html")[0].absolute())
        page.until("document.body.dataset.ready === 'yes'")
        with Image.open(BytesIO(page.screenshot())) as picture:
            return np.asarray(picture.convert("RGB"), np.float32) / np.float32(255)


@dataclass(frozen=True)
class Piece:
    """One picture of the gallery."""

    name: str
    command: str
    shown: str
    """What the picture shows."""
    draw: Callable[[Files], Picture | None]
    """The picture, from the files that the command wrote."""


def _landscape(name: str, prompt: str, seed: int) -> Piece:
    command = f'jointnet panorama "{prompt}" --width 2048 --seed {seed}'
    return Piece(name, command, "All around, above its depth.", panorama)


GALLERY = {
    "Panoramas": [
        Piece("reef", REEF, "All around, above its depth.", panorama),
        _landscape("mountains", "snowy mountains at night", 1),
        _landscape("lake", "a lake in the mountains at dawn", 2),
        _landscape("beach", "a beach with palm trees", 3),
    ],
    "Pictures with depth": [
        Piece("hut", HUT, "Six seeds, each above its depth.", pairs),
        Piece(
            "night",
            'jointnet generate "snowy mountains at night" --seed 20 --count 6',
            "Six seeds, each above its depth.",
            pairs,
        ),
    ],
    "Depth of a picture": [
        Piece(
            "depth",
            f"jointnet depth {HUT_FILE}.image.png --ensemble 5",
            "The depth of the first hut above, predicted from its image alone, and the ensemble's doubt, four times as bright.",
            predicted,
        ),
    ],
    "A place to stand in": [
        Piece("mesh", REEF, "The mesh of the reef from beside its middle, to two sides.", mesh),
        Piece("viewer", f"jointnet view {HUT_FILE}.rgbdn.exr", "The page of the first hut in a browser.", viewer),
        Piece("viewer-reef", REEF, "The page of the reef in a browser.", viewer),
    ],
    "Stereo and motion": [
        Piece(
            "stereo", REEF, "For the left eye and the right one: the middle 90 degrees of the reef.", only(".sbs.png")
        ),
        Piece("vr180", REEF, "Half spheres for headsets.", only(".180_LR.jpg")),
        Piece("tb360", REEF, "Spheres for headsets, the left eye's on top.", only(".360_TB.jpg")),
        Piece("orbit", REEF, f"{FRAMES} frames of the clip.", frames),
        Piece(
            "orbit-hut",
            f"jointnet view {HUT_FILE}.rgbdn.exr --no-viewer --orbit clip.mp4",
            f"{FRAMES} frames of a clip of the first hut.",
            frames,
        ),
    ],
}


def save(path: Path, picture: Picture) -> None:
    """A JPEG, `WIDEST` columns wide at most."""
    image = Image.fromarray(np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8))
    image.thumbnail((WIDEST, WIDEST), Image.Resampling.LANCZOS)
    image.save(path, quality=QUALITY, optimize=True)


def make(docs: Path, work: Path) -> None:
    """Write `gallery.md` and `images/gallery/*.jpg` into `docs`; the commands write into `work`."""

    @cache
    def run(command: str) -> tuple[Path, ...]:
        print(f"$ {command}", file=sys.stderr)
        words = [sys.executable, "-m", "jointnet_cli", *shlex.split(command)[1:]]
        told = subprocess.run(words, cwd=work, check=True, stdout=subprocess.PIPE, text=True).stdout
        return tuple(work / line for line in told.splitlines())

    images = docs / "images" / "gallery"
    images.mkdir(parents=True, exist_ok=True)
    for old in images.glob("*.jpg"):
        old.unlink()
    lines = [
        "# Gallery",
        "",
        "Made by `python tools/pictures/gallery.py docs`: each picture by the command below it.",
        "",
    ]
    for heading, pieces in GALLERY.items():
        lines += [f"## {heading}", ""]
        for piece in pieces:
            picture = piece.draw(run(piece.command))
            if picture is None:
                continue
            save(images / f"{piece.name}.jpg", picture)
            lines += [f"![{piece.shown}](images/gallery/{piece.name}.jpg)", "", piece.shown, ""]
            lines += ["```sh", piece.command, "```", ""]
    (docs / "gallery.md").write_text("\n".join(lines), encoding="utf-8")
    size = sum(path.stat().st_size for path in images.glob("*.jpg"))
    if size > LIMIT:
        raise SystemExit(f"the pictures have {size} bytes, more than {LIMIT}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("docs", type=Path)
    docs = parser.parse_args().docs
    with TemporaryDirectory() as work:
        make(docs.absolute(), Path(work))


if __name__ == "__main__":
    main()
