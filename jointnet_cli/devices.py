"""Choose the device and the precision by name."""

from __future__ import annotations

import torch

from jointnet_cli.errors import UserError, closest

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def choose_device(name: str | None) -> torch.device:
    """Return the device of that name, by default the fastest one.

    Raises:
        UserError: torch does not know the device or cannot use it.
    """
    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"device {name} cannot be used: {str(error).splitlines()[0]}", hint="--device cpu") from error
    return device


def choose_dtype(name: str | None, device: torch.device) -> torch.dtype:
    """Return the dtype of that name, by default float16 on CUDA and float32 elsewhere.

    Raises:
        UserError: the name is unknown.
    """
    if name is None:
        return torch.float16 if device.type == "cuda" else torch.float32
    if name not in DTYPES:
        raise UserError(f"unknown dtype {name}", hint=f"--dtype {closest(name, DTYPES) or 'float32'}")
    return DTYPES[name]
