"""Arrays of NumPy files: `.npy`, and `.npz` with its named arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.errors import UserError, reading
from jointnet_cli.files.budget import check_pixels

ARRAY_NAMES = {
    "image": ("image", "rgb"),
    "depth": ("disparity", "depth", "distance", "z"),
    "normal": ("normal", "normals"),
}
"""Names of arrays in an `.npz` file by what they hold, in lower case."""


def is_array(path: Path) -> bool:
    """Return whether a file is named as NumPy's are: `.npy` or `.npz`."""
    return path.suffix.lower() in (".npy", ".npz")


def array_names(path: Path) -> list[str]:
    """Return the names of the arrays in an `.npz` file; empty for any other file."""
    with _open_arrays(path) as arrays:
        return [] if isinstance(arrays, np.ndarray) else list(arrays.files)


def read_array(path: Path, part: str, name: str | None = None) -> NDArray[Any]:
    """Read an array of an `.npy` or `.npz` file as (H, W) or (H, W, C), without axes of length 1, channels last.

    Args:
        path: the file.
        part: `image`, `depth` or `normal`: of several arrays the one with a name that means it (`ARRAY_NAMES`) is read.
        name: the array of an `.npz` file to read instead.

    Raises:
        UserError: a file that cannot be read or holds no such array.
    """
    values: NDArray[Any]
    with _open_arrays(path) as arrays:
        if isinstance(arrays, np.ndarray):
            refuse_channel(path, name)
            _check_size(path, arrays.shape, arrays.dtype)
            values = arrays
        else:
            named = name or array_of(part, arrays.files)
            if named is None and arrays.files:
                raise UserError(f"{path} holds several arrays, and none is named {part}", _choices(arrays))
            chosen = _chosen(path, arrays, named)
            _check_size(path, *_member_header(arrays, chosen))
            values = arrays[chosen]
    if not values.size:
        raise UserError(f"{path} holds no numbers: its array has the shape {values.shape}")
    return _channels_last(values)


def array_size(path: Path, part: str = "depth", name: str | None = None) -> tuple[int, int]:
    """Read height and width of an array without its numbers. `part` and `name` are those of `read_array`."""
    with _open_arrays(path) as arrays:
        if isinstance(arrays, np.ndarray):
            shape, dtype = arrays.shape, arrays.dtype
        else:
            shape, dtype = _member_header(arrays, _chosen(path, arrays, name or array_of(part, arrays.files)))
    _check_size(path, shape, dtype)
    height, width = (*_channels_last(np.broadcast_to(np.float32(0), shape)).shape, 1, 1)[:2]
    return height, width


def _chosen(path: Path, arrays: Any, name: str | None) -> str:
    """Return the name of an array of an `.npz` file: the given one, or the first."""
    if not arrays.files:
        raise UserError(f"{path} holds no arrays")
    chosen = str(name or arrays.files[0])
    if chosen not in arrays.files:
        raise UserError(f"{path} has no array {chosen}", _choices(arrays))
    if f"{chosen}.npy" not in arrays.zip.namelist():
        raise UserError(f"{path} holds {chosen}, which is no array")
    return chosen


def _choices(arrays: Any) -> str:
    return f"pass --channel NAME; its arrays are {', '.join(arrays.files)}"


def _channels_last(values: NDArray[Any]) -> NDArray[Any]:
    """Return an array as (H, W) or (H, W, C), without axes of length 1."""
    while values.ndim > 3 and values.shape[0] == 1:
        values = values[0, ...]
    if values.ndim == 3 and values.shape[-1] != 3:
        if values.shape[0] == 1:
            return values[0, ...]
        if values.shape[-1] == 1:
            return values[..., 0]
        if values.shape[0] == 3:
            return np.moveaxis(values, 0, -1)
    return values


def _member_header(arrays: Any, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the shape and type of an array of an `.npz` file, which is not unpacked."""
    with arrays.zip.open(f"{name}.npy") as member:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(member)
    return shape, dtype


def _check_size(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Refuse an array that is beyond the budget for images: its two longest sides are height and width."""
    *others, height, width = sorted([1, 1, *shape])
    check_pixels(path, height, width, math.prod(others) * dtype.itemsize)


def array_of(part: str, names: Sequence[str]) -> str | None:
    """Return the array that holds a part: the only one, or the first by its name."""
    if len(names) == 1:
        return names[0]
    return next((name for word in ARRAY_NAMES[part] for name in names if name.lower() == word), None)


@contextmanager
def _open_arrays(path: Path) -> Iterator[Any]:
    """Open a NumPy file without reading its arrays. Raises `UserError` if it holds anything but arrays of numbers."""
    hint = "save an array of numbers with numpy.save or numpy.savez"
    with reading(path, hint, cause="it is not a NumPy file of numbers, or it is damaged"):
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        with loaded if isinstance(loaded, np.lib.npyio.NpzFile) else nullcontext(loaded) as arrays:
            yield arrays


def refuse_channel(path: Path, channel: str | None) -> None:
    """Raise `UserError` if a channel is named, for a file that is not an EXR."""
    if channel is not None:
        raise UserError(
            f"{path} has no channel {channel}: only OpenEXR and npz files have named channels", "leave it out"
        )
