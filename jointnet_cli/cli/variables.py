"""The environment variables `JOINTNET_…`: which there are, and which are misspelt."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from jointnet_cli.errors import closest

if TYPE_CHECKING:
    from typer._click import Context

PREFIX = "JOINTNET_"
OTHERS = frozenset({"JOINTNET_MODELS", "JOINTNET_DEBUG"})
"""Variables without a flag."""
DEVELOPERS = frozenset({"JOINTNET_KILLS", "JOINTNET_PROOF", "JOINTNET_GLTF_VALIDATOR"})
"""Variables of the tests."""


def set_variables() -> dict[str, str]:
    """Return the variables that are set, in alphabetical order."""
    return {name: os.environ[name] for name in sorted(os.environ) if name.startswith(PREFIX)}


def misspelt_variables(ctx: Context) -> dict[str, str]:
    """Return a message for each variable that is set and that no command reads."""
    names = {name for name in os.environ if name[:1] in "Jj"} - OTHERS - DEVELOPERS
    if not names:
        return {}  # without an import of every command
    known = {str(param.envvar) for param in variable_parameters(ctx.find_root().command)} | OTHERS
    found = {}
    for name in sorted(names - known):
        if name.startswith(PREFIX):
            word = closest(name.removeprefix(PREFIX), [other.removeprefix(PREFIX) for other in known])
            near = word and PREFIX + word
        elif not (near := closest(name.upper(), known, cutoff=0.8)):
            continue
        found[name] = f"{name} is not a variable of jointnet" + (f"; did you mean {near}?" if near else "")
    return found


def variable_parameters(command: Any) -> Iterator[Any]:
    """Yield the parameters with a variable of a command and of those below it."""
    yield from (param for param in command.params if param.envvar)
    for name in getattr(command, "commands", ()):
        yield from variable_parameters(command.get_command(None, name))
