"""Procedural captioned landscapes with depth and normals, each a pure function of its seed.

`sample_world` decides what a scene holds (plain data, no torch), `render` casts rays into it, `caption` says what shows.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from jointnet_cli.data.worlds.grammar import sample_world
from jointnet_cli.data.worlds.world import World

if TYPE_CHECKING:
    from jointnet_cli.data.worlds.captions import Visible, caption, visible_objects
    from jointnet_cli.data.worlds.phrases import vocabulary
    from jointnet_cli.data.worlds.raycast import Surface
    from jointnet_cli.data.worlds.renderer import Rendering, render

EVALUATION_SEEDS = 1_000_000_000
"""World seeds from here on are reserved for evaluation and never rendered for training."""

_LATE = {"caption": "captions", "visible_objects": "captions", "vocabulary": "phrases", "Visible": "captions",
         "Rendering": "renderer", "render": "renderer", "Surface": "raycast"}  # fmt: skip

__all__ = [
    "EVALUATION_SEEDS", "Rendering", "Surface", "Visible", "World", "caption", "render", "sample_world",
    "visible_objects", "vocabulary",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Load torch only when something is rendered or described."""
    if name in _LATE:
        return getattr(import_module(f".{_LATE[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
