"""Which device computes, and in which precision."""

from __future__ import annotations

import pytest
import torch

from jointnet_cli.devices import DTYPES, choose_device, choose_dtype
from jointnet_cli.errors import UserError


@pytest.mark.parametrize("name", ["toaster", "cuda:99", "meta:0:0"])
def test_devices_that_cannot_be_used(name: str) -> None:
    with pytest.raises(UserError, match=f"device {name} cannot be used") as fault:
        choose_device(name)
    assert fault.value.hint == "--device cpu"
    assert "\n" not in str(fault.value)


def test_devices_and_types_by_default() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert choose_device(None).type == expected
    assert choose_dtype(None, torch.device("cpu")) == torch.float32
    assert choose_dtype(None, torch.device("cuda")) == torch.float16
    for name in DTYPES:
        assert str(choose_dtype(name, torch.device("cuda"))) == f"torch.{name}"


def test_unknown_types() -> None:
    with pytest.raises(UserError, match="unknown dtype bfloat") as fault:
        choose_dtype("bfloat", torch.device("cpu"))
    assert fault.value.hint == "--dtype bfloat16"
    with pytest.raises(UserError, match="unknown dtype int4"):
        choose_dtype("int4", torch.device("cpu"))
