"""Groups of options, and of commands: a command takes dataclasses, the terminal sees their fields as flags."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_type_hints

import typer

from jointnet_cli.cli.console import handle_errors


def expand_flags(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with every dataclass parameter replaced by that dataclass's fields.

    The fields carry Typer's annotations and the defaults, so a flag shared by several commands is written once, and
    the command receives the group whole. A field name may occur only once over all groups of a command.
    """
    hints = get_type_hints(command, include_extras=True)
    own: list[str] = []
    groups: dict[str, type] = {}
    flags: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if is_dataclass(hints[name]):
            groups[name] = hints[name]
            flags += _fields_as_parameters(hints[name])
        else:
            own.append(name)
            flags.append(parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def run(**given: Any) -> None:
        members = {name: {field.name: given[field.name] for field in fields(kind)} for name, kind in groups.items()}
        command(**{name: given[name] for name in own}, **{name: groups[name](**members[name]) for name in groups})

    run.__signature__ = inspect.Signature(flags)  # type: ignore[attr-defined]
    run.__annotations__ = {flag.name: flag.annotation for flag in flags}
    return run


def command_group(name: str, help: str, commands: Mapping[str, tuple[Callable[..., None], str]]) -> typer.Typer:
    """The commands of `jointnet NAME`, each with an example of its use; the first example is also the group's.

    A command that cannot do without words shows its help where there are none.
    """
    examples = [example for _, example in commands.values()]
    group = typer.Typer(
        name=name, help=help, epilog=f"Example: {examples[0]}", no_args_is_help=True, rich_markup_mode="markdown"
    )
    for word, (command, example) in commands.items():
        run = handle_errors(expand_flags(command))
        needs = any(flag.default is inspect.Parameter.empty for flag in inspect.signature(run).parameters.values())
        group.command(word, epilog=f"Example: {example}", no_args_is_help=needs)(run)
    return group


def _fields_as_parameters(group: type) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(group)
    ]
