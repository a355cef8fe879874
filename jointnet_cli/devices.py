"""Choose the device and the precision by name, and say how much goes through a device at once.

Only what returns a device or a dtype imports torch.
"""

from __future__ import annotations

import ctypes
import platform
import re
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Literal, get_args

from jointnet_cli.errors import UserError, closest
from jointnet_cli.params import MODEL_PANEL, Param

if TYPE_CHECKING:
    import torch

DtypeName = Literal["float32", "float16", "bfloat16"]
DTYPES = get_args(DtypeName)
DTYPE = Param("Precision.", shown="fits the device", env=True, panel=MODEL_PANEL)
"""The flag that names a precision."""
DEVICE = Param(
    "`cpu`, `cuda`, `cuda:1`, `mps`.",
    "DEVICE",
    shown="the fastest",
    env=True,
    panel=MODEL_PANEL,
    pattern=r"cpu|mps|cuda(:[0-9]{1,3})?",
    expected="cpu, cuda, a GPU by number such as cuda:1, or mps",
)
"""The flag that names a device."""

TILE_AREA = {"cpu": 4096}
TILE_AREA_ELSEWHERE = 65536
"""Latent pixels of tiles that go through a denoiser at once: enough to keep the device busy. 4,096 are one tile of Stable
Diffusion, or sixteen of diorama."""

STRIP_AREA = 8192
"""Latent pixels that go through an autoencoder at once: two tiles of Stable Diffusion."""

STRIP_MARGIN = 20
"""Latent columns that a strip sees beside its own: about what the convolutions of Stable Diffusion's decoder reach."""


def require_device(name: str | None) -> None:
    """Refuse a device that this machine does not have, as far as can be told without torch.

    Raises:
        UserError: it says what is missing.
    """
    kind, _, number = (name or "").partition(":")
    if kind == "mps" and (sys.platform, platform.machine()) != ("darwin", "arm64"):
        raise _unusable(name, "only Macs with Apple silicon have it")
    if kind != "cuda":
        return
    built = _built_for()
    if not built:
        raise _unusable(name, "this PyTorch is built for the CPU alone")
    if "hip" in built:  # AMD's GPUs, which PyTorch calls cuda, too
        return
    count = count_gpus()
    if count is not None and int(number or 0) >= count:
        raise _unusable(name, f"there are {count} GPUs, from cuda:0" if count else "no NVIDIA GPU or driver is found")


def _built_for() -> set[str]:
    """Return which of `cuda` and `hip` the installed PyTorch is built for, as its `version.py` states."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return {"cuda"}
    text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    return set(re.findall(r"""^(cuda|hip)\b.*=\s*['"]""", text, re.MULTILINE))


@cache
def count_gpus() -> int | None:
    """Return the number of GPUs that NVIDIA's driver gives to this process; `None` on a system other than Linux."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        count = ctypes.c_int(0)
        return count.value if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 else 0
    except (OSError, AttributeError):
        return 0


def guess_device(name: str | None) -> str:
    """Return the kind of device that a run uses, as far as can be told without torch."""
    if name is not None:
        return name.partition(":")[0]
    return "cuda" if Path("/dev/nvidia0").exists() and which("nvidia-smi") else "cpu"


def choose_device(name: str | None) -> torch.device:
    """Return the device of that name, by default the fastest one.

    Raises:
        UserError: torch does not know the device or cannot use it.
    """
    import torch

    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    require_device(name)
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise _unusable(name, str(error).splitlines()[0]) from error
    return device


def _unusable(name: str | None, reason: str) -> UserError:
    return UserError(f"device {name} cannot be used: {reason}", hint="--device cpu")


def default_dtype(kind: str) -> DtypeName:
    """Return the precision on a kind of device where none is asked for."""
    return "float16" if kind == "cuda" else "float32"


def choose_dtype(name: str | None, device: torch.device) -> torch.dtype:
    """Return the dtype of that name, by default float16 on CUDA and float32 elsewhere.

    Raises:
        UserError: the name is unknown.
    """
    import torch

    name = name or default_dtype(device.type)
    if name not in DTYPES:
        raise UserError(f"unknown dtype {name}", hint=f"--dtype {closest(name, DTYPES) or 'float32'}")
    dtype: torch.dtype = getattr(torch, name)
    return dtype
