"""JointNet: joint diffusion of RGB images and dense modalities such as depth and normals (ICLR 2024).

The names in `__all__` are the public API (docs/python.md). Everything else is private and may change.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jointnet_cli.engine import Engine
    from jointnet_cli.errors import UserError
    from jointnet_cli.model.checkpoint import load_model
    from jointnet_cli.results import Result
    from jointnet_cli.sampling.presets import Sampling
    from jointnet_cli.tasks import Depth, Generate, Inpaint, Panorama, Refine

__version__ = "0.2.0"

__all__ = [
    "Depth",
    "Engine",
    "Generate",
    "Inpaint",
    "Panorama",
    "Refine",
    "Result",
    "Sampling",
    "UserError",
    "load_model",
]

_MODULES = {
    "Engine": "engine",
    "Result": "results",
    "Sampling": "sampling.presets",
    "UserError": "errors",
    "load_model": "model.checkpoint",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import jointnet_cli` loads no torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'tasks')}"), name)
