"""What a CPU computes in float32 under bfloat16."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_SLOW: tuple[Callable[..., Tensor], ...] = (F.scaled_dot_product_attention, F.group_norm)


class Float32WhereSlow(TorchFunctionMode):
    """Attention and group norms in float32 while entered; their results have the type that they would have had.

    On a CPU the gradient of attention takes eight times as long in bfloat16, and group norms three times (torch 2.13).
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in _SLOW:
            return func(*args, **kwargs)
        with torch.autocast("cpu", enabled=False):
            wide: Tensor = func(*map(_widen, args), **{name: _widen(value) for name, value in kwargs.items()})
        return wide.to(args[0].dtype)


def is_slow_bfloat16(accelerator: Accelerator) -> bool:
    """Whether a run computes in bfloat16 on a CPU."""
    return bool(accelerator.device.type == "cpu" and accelerator.mixed_precision == "bf16")


def _widen(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype == torch.bfloat16 else value
