"""Commands and groups of Typer with plain help, a short usage, former names of flags and one style of errors."""

from __future__ import annotations

import os
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from jointnet_cli.cli.console import USER_FAULT, note, run_guarded
from jointnet_cli.cli.variables import misspelt_variables
from jointnet_cli.errors import UserError, closest, did_you_mean, validation_error
from jointnet_cli.files.text import escaped_streams

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter, Parameter

_TYPES = {int: "N", float: "NUMBER", str: "TEXT"}
_UsageError = cast(type[Exception], typer.BadParameter.__base__)


class Command(TyperCommand):
    """A command. The attribute `former` of its function maps former names of flags to present ones."""

    def main(self, *args: Any, **settings: Any) -> Any:
        """Run the command line; every exception becomes a line on stderr and an exit code."""
        return _main(self, super().main, *args, **settings)

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Parse the flags. Without any, a command that needs some prints its usage."""
        _refuse_bare(self, ctx, args)
        former = getattr(self.callback, "former", {})
        end = args.index("--") if "--" in args else len(args)
        present = [_renamed(word, former) for word in args[:end]]
        ctx.allow_extra_args = True
        try:
            rest = super().parse_args(ctx, present + args[end:])
        except _UsageError as fault:
            raise _user_error(fault, ctx) from None
        if rest and not ctx.resilient_parsing:
            raise UserError(f"unexpected argument {rest[0]}", f"quote an argument with blanks; {_see_help(ctx)}")
        if not ctx.resilient_parsing and not ctx.params.get("quiet"):
            for message in misspelt_variables(ctx).values():
                note(f"warning: {message}")
        return rest

    def collect_usage_pieces(self, ctx: Context) -> list[str]:
        """Return what follows the command in its usage: `[OPTIONS] IN...`."""
        arguments = [param for param in self.params if isinstance(param, TyperArgument) and not param.hidden]
        names = [value_name(param) + "..." * (param.nargs != 1) for param in arguments]
        required = [param.required for param in arguments]
        return ["[OPTIONS]", *(name if needed else f"[{name}]" for name, needed in zip(names, required, strict=True))]

    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write the help page."""
        _format_help(self, ctx, formatter)


@dataclass(frozen=True)
class Unloaded:
    """A command in the list of a group, whose module is not imported yet."""

    help: str


class CommandGroup(TyperGroup):
    """A group of commands."""

    def main(self, *args: Any, **settings: Any) -> Any:
        """Run the command line; every exception becomes a line on stderr and an exit code."""
        return _main(self, super().main, *args, **settings)

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Parse the flags before the command. Without a command, print the usage."""
        _refuse_bare(self, ctx, args)
        try:
            return super().parse_args(ctx, args)
        except _UsageError as fault:
            raise _user_error(fault, ctx) from None

    def resolve_command(self, ctx: Context, args: list[str]) -> Any:
        """Find the command.

        Raises:
            UserError: there is no such command.
        """
        if args[0] not in self.commands and not ctx.resilient_parsing:
            hint = did_you_mean(args[0], self.commands) or f"the commands are {', '.join(self.commands)}"
            raise UserError(f"{ctx.command_path} has no command {args[0]}", hint)
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write the help page."""
        _format_help(self, ctx, formatter)


def _main(
    command: TyperCommand | TyperGroup,
    complete: Any,
    args: Sequence[str] | None = None,
    prog_name: str = "jointnet",
    standalone_mode: bool = True,
    **settings: Any,
) -> Any:
    if f"_{prog_name}_COMPLETE".replace("-", "_").upper() in os.environ:
        with escaped_streams():
            return complete(
                args, prog_name, standalone_mode=standalone_mode, **settings
            )  # prints completions, and exits

    def run() -> int:
        try:
            with command.make_context(prog_name, list(sys.argv[1:] if args is None else args), **settings) as ctx:
                command.invoke(ctx)
        except typer.Exit as done:
            return done.exit_code
        return 0

    code = run_guarded(run)
    return sys.exit(code) if standalone_mode else code


def _renamed(word: str, former: dict[str, str]) -> str:
    name, equals, value = word.partition("=")
    return former.get(name, name) + equals + value


def _refuse_bare(command: TyperCommand | TyperGroup, ctx: Context, args: list[str]) -> None:
    """Print a short usage on stderr and exit, where a command that needs words has none."""
    if args or not command.no_args_is_help or ctx.resilient_parsing:
        return
    lines = [ctx.get_usage().replace("Usage:", "usage:"), *(command.help or "").splitlines()[:1]]
    if isinstance(command, TyperGroup):
        lines.append(f"commands: {', '.join(command.commands)}")
    lines += [(command.epilog or "").replace("Example:", "example:"), f"help: {ctx.command_path} --help"]
    print(*filter(None, lines), sep="\n", file=sys.stderr)
    raise typer.Exit(USER_FAULT)


def _see_help(ctx: Context) -> str:
    return f"see: {ctx.command_path} --help"


def _user_error(fault: Any, ctx: Context) -> UserError:
    """Return a usage fault in the style of all errors."""
    name, param = getattr(fault, "option_name", None), getattr(fault, "param", None)
    if param is not None:
        return _parameter_error(fault, ctx, param)
    if name is None:
        return UserError(fault.message[:1].lower() + fault.message[1:].rstrip("."), _see_help(ctx))
    options = [param for param in ctx.command.get_params(ctx) if isinstance(param, TyperOption)]
    option = next((option for option in options if name in (*option.opts, *option.secondary_opts)), None)
    if option is not None:
        if option.is_flag:
            return UserError(f"{name} takes no value", _see_help(ctx))
        return UserError(f"{name} needs a value", f"for example: {name} {value_name(option)}")
    visible = [flag for option in options if not option.hidden for flag in (*option.opts, *option.secondary_opts)]
    near = closest(name.strip("-"), [flag.strip("-") for flag in visible if flag.startswith("--")])
    return UserError(f"{ctx.command_path} has no flag {name}", f"did you mean --{near}?" if near else _see_help(ctx))


def _parameter_error(fault: Any, ctx: Context, param: Any) -> UserError:
    """Return a missing or bad value in the style of all errors."""
    name = param.opts[0] if isinstance(param, TyperOption) else value_name(param)
    if not fault.message:  # missing
        choices = param.type_descriptor.choices
        message = f"{name} is required" if isinstance(param, TyperOption) else f"argument {name} is missing"
        return UserError(message, f"{name} {value_name(param)}" if choices else _see_help(ctx))
    source = ctx.get_parameter_source(param.name)
    if source is not None and source.name == "ENVIRONMENT":
        name = str(param.envvar)
    return value_error(fault, name, param) or UserError(f"{name} {fault.message}", _see_help(ctx))


def value_error(fault: Any, name: str, param: Any) -> UserError | None:
    """Return a value that is refused in the style of all errors; `None` if only the fault's own message is known.

    Args:
        fault: raised by the parameter.
        name: of the flag or variable that has the value.
        param: the parameter.
    """
    details: list[Any] = getattr(fault.__cause__, "errors", list)()
    if not details:
        return None
    choices = [str(getattr(choice, "value", choice)) for choice in param.type_descriptor.choices or ()]
    if choices:
        got = details[0]["input"]
        words = " or ".join(filter(None, (", ".join(choices[:-1]), choices[-1])))
        return UserError(f"{name} must be {words}, got {got!r}", did_you_mean(str(got), choices))
    return validation_error(name, details[0])


def value_name(param: Parameter) -> str:
    """Return the name of a parameter's value in usage and help; empty for a switch."""
    if getattr(param, "is_flag", False):
        return ""
    described = cast(TyperOption, param).type_descriptor
    kind: Any = described.annotation
    if param.metavar is not None:
        return param.metavar
    if isinstance(param, TyperArgument):
        return param.name.upper().replace("_", "-")
    if described.choices:
        return "|".join(str(getattr(choice, "value", choice)) for choice in described.choices)
    (kind,) = getattr(kind, "__args__", None) or (kind,)
    return _TYPES.get(kind, "PATH")


def _format_help(command: TyperCommand | TyperGroup, ctx: Context, formatter: HelpFormatter) -> None:
    """Write usage, description, flags by panel, commands and an example as plain text."""
    command.format_usage(ctx, formatter)
    formatter.write_paragraph()
    formatter.write_text(_plain(command.help))
    panels: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for param in command.get_params(ctx):
        record = param.get_help_record(ctx)
        if record is not None:
            kind = "Options" if isinstance(param, TyperOption) else "Arguments"
            panel = getattr(param, "rich_help_panel", None) or kind
            panels[panel].append((_names(param), _plain_extras(_plain(record[1]))))
    if isinstance(command, TyperGroup):
        panels["Commands"] = [
            (name, _plain(inner.help).partition("\n\n")[0]) for name, inner in command.commands.items()
        ]
    for panel, records in sorted(panels.items(), key=lambda item: item[0] not in ("Arguments", "Commands")):
        with formatter.section(panel):
            formatter.write_dl(records)
    if command.epilog:
        formatter.write_paragraph()
        formatter.write_text(_plain(command.epilog))


def _names(param: Parameter) -> str:
    if isinstance(param, TyperArgument):
        return value_name(param)
    names = " / ".join(
        ", ".join(sorted(flags, key=lambda flag: flag.startswith("--")))
        for flags in (param.opts, param.secondary_opts)
        if flags
    )
    return f"{names} {value_name(param)}".rstrip()


def _plain(text: str | None) -> str:
    """Return Markdown of one paragraph or more as plain text."""
    return (text or "").replace("`", "")


def _plain_extras(text: str) -> str:
    """Rewrite the default and range that `typer` adds to a help text: `0<=x<=1` is `0 to 1`."""
    text = re.sub(r"default: \((.*)\)(?=[;\]])", r"default: \1", text)
    text = re.sub(r"(\S+)<=x<=(\S+?)(?=[;\]])", r"\1 to \2", text)
    return text.replace("x>=", "at least ").replace("x<=", "at most ")
