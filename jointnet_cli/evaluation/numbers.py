"""Depth files as inverse depth whose scale and shift mean something: what errors are measured on.

`jointnet_cli.output.maps` brings maps to [0, 1] for models; here nothing is clipped or shifted.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.errors import UserError
from jointnet_cli.output.maps import DepthKind, DepthNumbers, depth_numbers, is_hit, kind_of_channel

MILLIMETRE = 0.001
"""Metres that whole numbers are taken for, as depth cameras write them."""


def read_true_depth(path: Path, kind: DepthKind = "auto") -> NDArray[np.float32]:
    """(H, W) inverse depth of a ground truth, 0 where there is none.

    EXR, npy, PNG, TIFF, and MegaDepth's HDF5 with the data set `depth`. The numbers are distances unless the channel's
    name or `kind` says disparity. Whole numbers, which have no unit of their own, are millimetres.

    Raises:
        UserError: a file that cannot be read or holds no depth.
    """
    numbers = _read(path)
    if kind == "auto":
        kind = kind_of_channel(numbers.channel) or "distance"
    unit = 1 if numbers.whole is None else numbers.whole * MILLIMETRE
    return inverse(numbers.values * np.float32(unit), kind)


def read_predicted_depth(path: Path, kind: DepthKind = "auto") -> NDArray[np.float32]:
    """(H, W) disparity of a finished map up to scale and shift, 0 where there is none.

    The same files; without `kind` what they hold is decided as by `jointnet_cli.output.maps.read_map`.
    """
    numbers = _read(path)
    return inverse(numbers.values, numbers.kind if kind == "auto" else kind)


def inverse(values: NDArray[np.float32], kind: str) -> NDArray[np.float32]:
    """Distances to inverse distances; of either kind what is not finite, not positive or an endless distance is 0."""
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
    try:
        with h5py.File(path) as file:
            if "depth" not in file:
                raise UserError(f"{path} has no data set depth", hint=f"it has {', '.join(file) or 'none'}")
            return DepthNumbers(np.asarray(file["depth"], np.float32).squeeze(), None)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}") from error
