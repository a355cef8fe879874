"""The small scene whose files the real programs are shown."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest

from jointnet_cli.projection import Projection
from jointnet_cli.scene.scene import DepthScale

HEIGHT, WIDTH = 32, 64
RING = Projection("cylindrical", 360.0, wrap=True)
SCALE = DepthScale.from_range(1, 20, "given")
SECONDS = 120
CACHE = Path.home() / ".cache" / "jointnet-proof"
"""Where `tools/prove.sh` puts what npm installs."""


def missing(what: str) -> NoReturn:
    """Skip a test whose program is not there; fail it if `JOINTNET_PROOF` names the programs that may be missing."""
    allowed = os.environ.get("JOINTNET_PROOF")
    if allowed is None or what.split()[0] in allowed.split(","):
        pytest.skip(what)
    pytest.fail(what)
