"""Measure the peak memory of readers and commands on large images, as the table in docs/reliability.md states it.

Each reading runs in a process of its own, of which the operating system counts the peak (`ru_maxrss`). The peak of a process
that has imported the same and read a tiny image is taken off, so that what is left grows with the pixels.
"""

from __future__ import annotations

import argparse
import multiprocessing
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from jointnet_cli.files.exr import write_channels
from jointnet_cli.files.images import write_deep_png, write_grey_png

READ = "from pathlib import Path; from jointnet_cli.files.{module} import {name}; {name}(Path({path!r}){more})"
IMAGE, MAP = ("images", "read_image", ""), ("maps", "read_map", ", 'depth'")
CONVERT = """
import sys
from jointnet_cli.cli import main
sys.argv[1:] = ["convert", {path!r}, "--to", {more!r}, "--quiet", "--out", "converted", "--overwrite"]
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
"""


def image(side: int) -> NDArray[np.uint8]:
    """Return (side, side, 3) with smooth colours, so that files stay small."""
    ramp = np.linspace(0, 255, side).astype(np.uint8)
    return np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], ramp[::-1, None]), axis=-1)


def by_pillow(path: Path, side: int, **options: Any) -> None:
    Image.fromarray(image(side)).save(path, **options)


def deep_png(path: Path, side: int) -> None:
    write_deep_png(path, image(side).astype(np.float32) / np.float32(255))


def npy(path: Path, side: int) -> None:
    np.save(path, image(side)[..., 0] / np.float32(255))


def deep_tiff(path: Path, side: int) -> None:
    tifffile.imwrite(path, image(side).astype(np.uint16) * 257, photometric="rgb", compression="zlib")


def exr(path: Path, side: int) -> None:
    colours = image(side).astype(np.float16) / 255
    write_channels(path, {name: colours[..., place] for place, name in enumerate("RGB")}, {})


def grey(path: Path, side: int) -> None:
    write_grey_png(path, image(side)[..., 0].astype(np.float32) / np.float32(255))


CASES: dict[str, tuple[str, Callable[[Path, int], None], tuple[str, str, str] | str]] = {
    "read an 8-bit PNG": ("a.png", by_pillow, IMAGE),
    "read a JPEG": ("a.jpg", by_pillow, IMAGE),
    "read a WebP": ("a.webp", by_pillow, IMAGE),
    "read an AVIF": ("a.avif", by_pillow, IMAGE),
    "read a JPEG 2000": ("a.jp2", by_pillow, IMAGE),
    "read a 16-bit PNG": ("deep.png", deep_png, IMAGE),
    "read a 16-bit TIFF": ("deep.tiff", deep_tiff, IMAGE),
    "read a half OpenEXR": ("a.exr", exr, IMAGE),
    "read a 16-bit depth PNG": ("grey.png", grey, MAP),
    "read a depth npy": ("grey.npy", npy, MAP),
    "convert an 8-bit PNG to PNG": ("b.png", by_pillow, "png"),
    "convert an 8-bit PNG to OpenEXR": ("c.png", by_pillow, "exr"),
    "convert a depth PNG to OpenEXR": ("d.depth.png", grey, "exr"),
}


def peak(code: str, folder: Path) -> int:
    """Return the peak bytes of a process that runs `code`."""
    told = f"{code}\nimport resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    done = subprocess.run([sys.executable, "-c", told], cwd=folder, check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1]) * (1 if sys.platform == "darwin" else 1024)


def code_of(reader: tuple[str, str, str] | str, path: Path) -> str:
    if isinstance(reader, str):
        return CONVERT.format(path=str(path), more=reader)
    module, name, more = reader
    return READ.format(module=module, name=name, path=str(path), more=more)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=4000, help="pixels of a side (default: %(default)s)")
    side = parser.parse_args().side
    print(f"| {side:,} x {side:,} pixels | peak | bytes a pixel |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for title, (name, write, reader) in CASES.items():
            peaks = []
            for pixels in (16, side):
                path = folder / f"{pixels}-{name}"
                # In a process of its own: a new process starts with the peak of the one that it was forked from.
                writing = multiprocessing.get_context("spawn").Process(target=write, args=(path, pixels))
                writing.start()
                writing.join()
                peaks.append(peak(code_of(reader, path), folder))
                path.unlink()
            print(f"| {title} | {peaks[1] / 1e6:,.0f} MB | {(peaks[1] - peaks[0]) / side**2:.0f} |", flush=True)


if __name__ == "__main__":
    main()
