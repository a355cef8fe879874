"""Where models are kept."""

from __future__ import annotations

import os
from pathlib import Path


def cache_home() -> Path:
    """`$XDG_CACHE_HOME/jointnet`, by default `~/.cache/jointnet`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jointnet"


def models_home() -> Path:
    """Where imported models go and models are looked for by name: `$JOINTNET_MODELS`, or `models` in the cache."""
    return Path(os.environ.get("JOINTNET_MODELS") or cache_home() / "models")
