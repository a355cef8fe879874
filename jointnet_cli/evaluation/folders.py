"""Which files of a folder are images and maps, and belong together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.errors import UserError, reading
from jointnet_cli.files.budget import check_pixels
from jointnet_cli.files.maps import DepthNumbers, depth_numbers, is_hit, kind_of_channel
from jointnet_cli.files.paths import IMAGE_SUFFIXES, slug, text_digest
from jointnet_cli.modality import DepthKind

NUMBERS = (".exr", ".h5", ".npy")
"""Suffixes of files that hold maps even if their names do not say so."""

MAPS = (*NUMBERS, ".png", ".tif", ".tiff")
"""Suffixes of maps; of two maps with one key the first suffix counts."""

KIND_WORDS = {
    "image": ("image", "images", "img", "imgs", "rgb", "color", "photo", "photos", "left"),
    "depth": ("depth", "depths", "depthmap", "disparity", "disp", "rgbd", "rgbdn"),
    "normal": ("normal", "normals", "rgbn", "rgbdn"),
    "other": ("preview", "depth-uncertainty", "normal-uncertainty", "mask"),
}
"""Words in the names of folders and at the ends of file names that state the kind of a file."""

_ALL_WORDS = {word for words in KIND_WORDS.values() for word in words}

_MARKED = re.compile(rf"(.+)[._-]({'|'.join(sorted(_ALL_WORDS, key=len, reverse=True))})", re.IGNORECASE)

_OWN = re.compile(r"\d{5,}_\d+_(.+)")
"""The name of a result of an image command: `00000_7_ocean-reef`."""


class Named(NamedTuple):
    """The parts of the name of a file."""

    key: str
    """What it shares with the files that belong to it: its path without words and suffix."""
    word: str | None
    """The word that states its kind, if there is one."""


def split_name(path: Path) -> Named:
    """Split a path within its folder into key and word."""
    folders = [part for part in path.parts[:-1] if part.lower() not in _ALL_WORDS]
    words = [part.lower() for part in path.parts[:-1] if part.lower() in _ALL_WORDS]
    marked = _MARKED.fullmatch(path.stem)
    if marked:
        return Named("/".join([*folders, marked[1]]), marked[2].lower())
    return Named("/".join([*folders, path.stem]), words[-1] if words else None)


def find_pairs(folder: Path, modality: str) -> dict[str, tuple[Path, Path]]:
    """Return images and their maps of the modality `depth` or `normal`, by key in sorted order.

    Raises:
        UserError: the folder has no such pairs.
    """
    images = _index(folder, "image", IMAGE_SUFFIXES, unmarked=IMAGE_SUFFIXES)
    maps = _index(folder, modality, MAPS, unmarked=NUMBERS)
    if not (both := sorted(images.keys() & maps.keys())):
        found = f"{len(images)} images and {len(maps)} maps of {modality}"
        raise UserError(
            f"no image in {folder} has {modality}: it holds {found}, of other names",
            hint=f"name them alike: images/a.jpg and {modality}/a.png, or a.jpg and a_{modality}.png",
        )
    return {key: (images[key], maps[key]) for key in both}


def find_maps(folder: Path, modality: str) -> dict[str, Path]:
    """Return finished maps by key; an image of no stated kind is a map here.

    Raises:
        UserError: the folder has no maps of the modality.
    """
    if not (maps := _index(folder, modality, MAPS, unmarked=MAPS)):
        raise UserError(f"no maps of {modality} in {folder}", hint=f"looked for {', '.join(MAPS)}")
    return maps


def match(key: str, maps: Mapping[str, Path]) -> Path:
    """Return the map of a case: the one of its key, or else the only one of the last name in the key.

    Raises:
        UserError: there is none, or several.
    """
    if key in maps:
        return maps[key]
    last = key.rpartition("/")[2]
    found = [path for name, path in maps.items() if _same(name.rpartition("/")[2], last)]
    if len(found) != 1:
        problem = "no map" if not found else f"{len(found)} maps"
        raise UserError(f"{problem} of {key}", hint="name the map like the image")
    return found[0]


def files_digest(folder: Path, paths: Iterable[Path]) -> str:
    """Return a digest of files, their sizes and dates."""
    facts = [f"{path.relative_to(folder)} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in sorted(paths)]
    return text_digest("\n".join(facts))


def place_digest(path: Path) -> str:
    """Return the same of a file, or of the files of a folder."""
    return files_digest(path, path.glob("*")) if path.is_dir() else files_digest(path.parent, [path])


def _same(name: str, wanted: str) -> bool:
    own = _OWN.fullmatch(name)
    return name == wanted or (own is not None and own[1] == slug(wanted))


def _index(folder: Path, kind: str, suffixes: tuple[str, ...], unmarked: tuple[str, ...]) -> dict[str, Path]:
    """Return the files of a kind by key; of two with one key the one whose suffix comes first."""
    if not folder.is_dir():
        raise UserError(f"no folder {folder}", hint="name a folder that exists, as in --method folder:outputs")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        suffix = path.suffix.lower()
        if suffix not in suffixes or not path.is_file():
            continue
        key, word = split_name(path.relative_to(folder))
        if (suffix not in unmarked) if word is None else (word not in KIND_WORDS[kind]):
            continue
        if key not in found or suffixes.index(suffix) < suffixes.index(found[key].suffix.lower()):
            found[key] = path
    return found


MILLIMETRE = 0.001
"""Unit of whole numbers in metres, as depth cameras write them."""


def read_true_depth(path: Path, kind: DepthKind = "auto") -> NDArray[np.float32]:
    """Read the inverse depth (H, W) of a ground truth; unknown pixels are 0.

    EXR, npy, PNG, TIFF, and MegaDepth's HDF5 with the data set `depth`. The numbers are distances unless the channel's
    name or `kind` says disparity. Whole numbers, which have no unit of their own, are millimetres.

    Raises:
        UserError: a file that cannot be read or holds no depth.
    """
    numbers = _read(path)
    if kind == "auto":
        kind = kind_of_channel(numbers.channel) or "distance"
    unit = 1 if numbers.whole is None else numbers.whole * MILLIMETRE
    return inverse_depth(numbers.values * np.float32(unit), kind)


def read_predicted_depth(path: Path, kind: DepthKind = "auto") -> NDArray[np.float32]:
    """Read the disparity (H, W) of a finished map up to scale and shift; missing pixels are 0.

    Files are those of `read_true_depth`; without `kind` the meaning of numbers is decided as by `files.maps.read_map`.
    """
    numbers = _read(path)
    return inverse_depth(numbers.values, numbers.kind if kind == "auto" else kind)


def inverse_depth(values: NDArray[np.float32], kind: str) -> NDArray[np.float32]:
    """Convert distances or disparities to inverse depth; values that are not finite or not positive become 0."""
    if kind == "disparity":
        return np.where(np.isfinite(values) & (values > 0), values, 0).astype(np.float32)
    hit = is_hit(values)
    return np.where(hit, 1 / np.where(hit, values, 1).astype(np.float64), 0).astype(np.float32)


def _read(path: Path) -> DepthNumbers:
    return _read_hdf5(path) if path.suffix.lower() == ".h5" else depth_numbers(path)


def _read_hdf5(path: Path) -> DepthNumbers:
    try:
        import h5py
    except ImportError as error:
        raise UserError(f"{path} needs h5py", hint="pip install 'jointnet-cli[eval]'") from error
    with reading(path), h5py.File(path) as file:
        if "depth" not in file:
            raise UserError(f"{path} has no data set depth", hint=f"it has {', '.join(file) or 'none'}")
        check_pixels(path, 1, file["depth"].size)
        return DepthNumbers(np.asarray(file["depth"], np.float32).squeeze(), None)
