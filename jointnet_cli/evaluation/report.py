"""What the reports have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Progress = Callable[[int, int], None]
"""Called with what is done and what there is to do."""


def run_facts(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of a result's settings, those that a measured number must come with."""
    names = ("model", "model_hash", "scheduler", "steps", "strength", "guidance", "width", "height", "dtype")
    return {name: settings[name] for name in names}
