"""Flags that commands share, and described fields as flags of Typer.

Precedence: flag, then `JOINTNET_…`, then default.
"""

from __future__ import annotations

import functools
import inspect
import keyword
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, is_dataclass, replace
from functools import partial, reduce
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from jointnet_cli.cli.completion import COMPLETIONS
from jointnet_cli.cli.usage import Command, CommandGroup
from jointnet_cli.devices import DEVICE, DTYPE, DtypeName
from jointnet_cli.errors import UserError
from jointnet_cli.files.budget import MAX_PIXELS
from jointnet_cli.names import FIELDS, PHOTO_TEMPLATE, PROMPT_TEMPLATE, check_template
from jointnet_cli.params import (
    BASE,
    INPUT_PANEL,
    JSON,
    MODEL,
    OUTPUT_PANEL,
    PROMPT_PANEL,
    QUIET,
    Names,
    Param,
    Parameter,
    make,
    params,
)

_Output = partial(Param, panel=OUTPUT_PANEL)
AsJson = Annotated[bool, Param("Print one JSON object a line.", flag="--json")]
DRY_RUN = _Output("Print the plan and stop; load no model and write no files.", flag="--dry-run")


@dataclass(frozen=True)
class ModelOptions:
    """Which model to open, and where it computes."""

    model: Annotated[str, MODEL] = "diorama"
    base: Annotated[str | None, BASE] = None
    device: Annotated[str | None, DEVICE] = None
    dtype: Annotated[DtypeName | None, DTYPE] = None


@dataclass(frozen=True)
class BatchOptions:
    """How many results, and of what."""

    prompts: Annotated[
        str | None,
        Param(
            "A prompt a line (`.txt`), or prompts with options (`.csv`, `.tsv`, `.json`, `.jsonl`); `-` reads stdin.",
            "FILE|-",
            panel=PROMPT_PANEL,
        ),
    ] = None
    count: Annotated[int, Param("Results per prompt.", "N", ge=1, le=10**9, panel=PROMPT_PANEL, flag="--count -n")] = 1


@dataclass(frozen=True)
class OutputOptions:
    """Where results go and what is said about them."""

    out: Annotated[
        Path, _Output("Folder for the results; created if missing.", "DIR", flag="--out -o", env=True, out=True)
    ] = Path("outputs")
    json: Annotated[bool, JSON] = False
    quiet: Annotated[bool, QUIET] = False
    overwrite: Annotated[bool, _Output("Replace files that exist.", env=True)] = False
    metadata: Annotated[bool, _Output("Record in the files how each result was made.", env=True)] = True
    max_pixels: Annotated[
        int, Param("Most pixels of an image or map that is read.", "N", ge=1, env=True, panel=INPUT_PANEL)
    ] = MAX_PIXELS
    dry_run: Annotated[bool, DRY_RUN] = False


@dataclass(frozen=True)
class ResultOptions(OutputOptions):
    """Where results of a batch go, what they are called, and which are made.

    Raises:
        UserError: a template that cannot be read, or two flags that contradict.
    """

    name: Annotated[
        str | None,
        _Output(
            f"Name of each result, from the fields {', '.join(f'`{{{field}}}`' for field in FIELDS)}.",
            "TEMPLATE",
            shown=f"{PROMPT_TEMPLATE}; depth: {PHOTO_TEMPLATE}",
        ),
    ] = None
    skip_existing: Annotated[
        bool, _Output("Make only results that are missing or incomplete; a complete record marks a result as done.")
    ] = False

    def __post_init__(self) -> None:
        if self.name is not None:
            check_template(self.name)
        if self.skip_existing and self.overwrite:
            raise UserError("--skip-existing keeps files that --overwrite replaces", "leave one of them out")


def expand_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Return `command` with every dataclass parameter replaced by flags, one for each field with a `Param`.

    The command receives the dataclass whole, made from the flags. Fields of dataclasses inside it become flags, too, and so
    does a parameter that has a `Param` itself. A default of the parameter has the defaults of the flags.
    Two groups may hold the same table: its flags occur once. No two other flags may have one name.
    """
    hints = get_type_hints(command, include_extras=True)
    own: list[str] = []
    groups: dict[str, tuple[type, dict[Names, str]]] = {}
    flags: dict[str, inspect.Parameter] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        if is_dataclass(hints[name]):
            described = _flags_of(hints[name], parameter.default)
            groups[name] = hints[name], {path: flag.name for path, flag in described.items()}
            flags |= {flag.name: flag for flag in described.values() if flag.name not in flags}
        else:
            own.append(name)
            flags[name] = _keyword(name, _annotated(parameter, hints[name]), parameter.default)

    @functools.wraps(command)
    def run(**given: Any) -> None:
        made: dict[str, Any] = {
            name: make(kind, {path: given[flag] for path, flag in members.items()})
            for name, (kind, members) in groups.items()
        }
        command(**{name: given[name] for name in own}, **made)

    parameters = [parameter for kind, _ in groups.values() for parameter in params(kind)]
    names = {name for parameter in parameters for flag in parameter.flags for name in flag.split("/")}
    run.former = {  # type: ignore[attr-defined]
        name: parameter.flags[0].partition("/")[0]
        for parameter in parameters
        for name in parameter.param.former.split()
        if name not in names
    }
    run.__signature__ = inspect.Signature(list(flags.values()))  # type: ignore[attr-defined]
    run.__annotations__ = {flag.name: flag.annotation for flag in flags.values()}
    return run


def command_app(
    commands: Mapping[str, tuple[Callable[..., None], str]],
    *,
    cls: type[Command] = Command,
    runs_bare: bool = False,
) -> typer.Typer:
    """Return commands of `jointnet`, each with an example of its use; without words they print their usage or, with
    `runs_bare`, run.
    """
    app = typer.Typer(cls=CommandGroup)
    for word, (command, example) in commands.items():
        app.command(word, cls=cls, epilog=f"Example: {example}", no_args_is_help=not runs_bare)(expand_flags(command))
    return app


def command_group(name: str, help: str, commands: Mapping[str, tuple[Callable[..., None], str]]) -> typer.Typer:
    """Return the commands of `jointnet NAME`, each with an example of its use; the first example is also the group's.

    A command with required arguments prints its usage where there are none.
    """
    examples = [example for _, example in commands.values()]
    group = typer.Typer(name=name, cls=CommandGroup, help=help, epilog=f"Example: {examples[0]}", no_args_is_help=True)
    for word, (command, example) in commands.items():
        run = expand_flags(command)
        needs = any(flag.default is inspect.Parameter.empty for flag in inspect.signature(run).parameters.values())
        group.command(word, cls=Command, epilog=f"Example: {example}", no_args_is_help=needs)(run)
    return group


def _flags_of(group: type, preset: Any) -> dict[Names, inspect.Parameter]:
    """Return the flags of a dataclass by the path of their field."""
    described: dict[Names, inspect.Parameter] = {}
    for parameter in params(group):
        default = parameter.default if preset is inspect.Parameter.empty else reduce(getattr, parameter.path, preset)
        if default != parameter.default:  # of which the words for the default do not speak
            parameter = replace(parameter, param=replace(parameter.param, shown=True))
        flag = parameter.flags[0].partition("/")[0].lstrip("-").replace("-", "_")
        name = parameter.name if parameter.param.argument or keyword.iskeyword(flag) else flag
        described[parameter.path] = _keyword(name, _annotation(parameter), default)
    return described


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    default = inspect.Parameter.empty if default is MISSING else default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _annotated(own: inspect.Parameter, hint: Any) -> Any:
    """Return the annotation of a command's own parameter as Typer describes it; that of a context stays."""
    param = next((mark for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, Param)), None)
    return hint if param is None else _annotation(Parameter((own.name,), hint.__origin__, own.default, param))


def _annotation(parameter: Parameter) -> Any:
    """Return the parameter as Typer describes it. Its values are checked as those of batch columns are."""
    param = parameter.param

    def check(value: Any) -> Any:
        if fault := parameter.fault(value):
            raise typer.BadParameter(fault)
        return value

    def to_path(text: str) -> Path:
        check(text)
        return Path(text)

    settings: dict[str, Any] = {
        "help": param.help,
        "metavar": param.metavar,
        "min": param.ge,
        "max": param.le,
        "envvar": parameter.variable,
        "show_default": param.shown,
        "rich_help_panel": param.panel,
        "callback": check,
        "autocompletion": COMPLETIONS[param.complete] if param.complete else None,
        # Typer's own conversion makes the current folder of an empty text.
        **({"parser": to_path} if parameter.is_path else {}),
    }
    if param.argument:
        return Annotated[parameter.kind, typer.Argument(**settings)]
    return Annotated[parameter.kind, typer.Option(*parameter.flags, hidden=param.hidden, **settings)]
