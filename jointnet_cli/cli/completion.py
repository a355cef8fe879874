"""Words that a shell completes values with. Nothing here imports torch or reads a model."""

from __future__ import annotations

from collections.abc import Callable


def models() -> list[str]:
    """Return the names of the models on this machine."""
    from jointnet_cli.model.hub import list_names

    return list_names()


def recipes() -> list[str]:
    """Return the names of the recipes that come with the package."""
    from jointnet_cli.files.paths import shipped_files

    return list(shipped_files())


def schedulers() -> list[str]:
    """Return the names of the schedulers."""
    from jointnet_cli.sampling.schedule import SCHEDULERS

    return list(SCHEDULERS)


COMPLETIONS: dict[str, Callable[[], list[str]]] = {"model": models, "recipe": recipes, "scheduler": schedulers}
"""By `Param.complete`."""
