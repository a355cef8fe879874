"""Parameters: fields of dataclasses that are flags, batch columns and words of a command line at the same time."""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from enum import Enum
from functools import cache, reduce
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from jointnet_cli.errors import UserError, did_you_mean, validation_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import TypeAdapter

MODEL_PANEL = "Model"
SAMPLING_PANEL = "Sampling"
PROMPT_PANEL = "Prompts and seeds"
OUTPUT_PANEL = "Output"
INPUT_PANEL = "Inputs"
VIEW_PANEL = "View"
SCENE_PANEL = "Scene"
"""Panels of the help pages that several modules use."""

NAME_BYTES, PATH_BYTES = 255, 4000
"""Bytes of a file name and of a path that common file systems can hold."""

Names = tuple[str, ...]
T = TypeVar("T")


@dataclass(frozen=True)
class Param:
    """Describe a field to users. It stands in `Annotated` on the field of a dataclass."""

    help: str
    metavar: str | None = None
    ge: float | None = None
    """Least value."""
    le: float | None = None
    """Greatest value."""
    shown: str | bool = True
    """Default in the help page, where the field's own says too little; `False` shows none."""
    env: bool = False
    """Whether the flag can be set by a variable: `JOINTNET_STEPS` for the field `steps`."""
    panel: str | None = None
    """Panel of the help page."""
    flag: str | None = None
    """Names of the flag, separated by blanks, where they differ from the field's: `--out -o`, `--crop/--whole`, or
    `--json` for a switch without `--no-json`."""
    pattern: str | None = None
    """Regular expression that a text must match; `expected` names what it matches."""
    expected: str = ""
    out: bool = False
    """Whether it is a place to write to."""
    former: str = ""
    """Names that the flag had in earlier versions, separated by blanks. They still work and are not shown."""
    argument: bool = False
    """Whether it is an argument of the command in place of a flag."""
    hidden: bool = False
    """Whether the help page leaves it out."""
    complete: Literal["model", "recipe", "scheduler"] | None = None
    """What a shell completes the value with."""

    # Pydantic reads the bounds by the protocol of `annotated_types.GroupedMetadata`.
    __is_annotated_types_grouped_metadata__ = True

    def __iter__(self) -> Iterator[Any]:
        """Yield bounds as `annotated_types` states them."""
        from annotated_types import Ge, Le

        if self.ge is not None:
            yield Ge(self.ge)
        if self.le is not None:
            yield Le(self.le)


MODEL = Param(
    "Model: `diorama` (embedded), a folder, a zip file, or a hub id.",
    "NAME|DIR|ZIP|HUB",
    env=True,
    panel=MODEL_PANEL,
    flag="--model -m",
    complete="model",
)
BASE = Param(
    "Base of a checkpoint in the published layout.",
    "DIR|HUB",
    shown=False,
    env=True,
    panel=MODEL_PANEL,
    complete="model",
)
"""The flags that name a model and its base."""
JSON = Param("Print one JSON object a line instead of paths.", panel=OUTPUT_PANEL, flag="--json")
QUIET = Param("No progress on stderr; errors still show.", env=True, panel=OUTPUT_PANEL, flag="--quiet -q")


@dataclass(frozen=True, eq=False)
class Parameter:
    """A described field of a dataclass, or of a dataclass inside it."""

    path: Names
    """Names of the fields that lead to it: `("filter", "side_above")`."""
    kind: Any
    """Its type."""
    default: Any
    """`dataclasses.MISSING` for a required field."""
    param: Param

    @property
    def name(self) -> str:
        """Name of the field itself."""
        return self.path[-1]

    @property
    def is_path(self) -> bool:
        """Whether it names a file or folder, or several."""
        kinds = (self.kind, *get_args(self.kind))
        return any(isinstance(kind, type) and issubclass(kind, PurePath) for kind in kinds)

    @property
    def flags(self) -> list[str]:
        """Names of the flag, the principal one first; a switch has `--name/--no-name`."""
        if self.param.flag is not None:
            return self.param.flag.split()
        name = self.name.replace("_", "-")
        return [f"--{name}/--no-{name}" if bool in (self.kind, *get_args(self.kind)) else f"--{name}"]

    @property
    def variable(self) -> str | None:
        """Environment variable that sets the flag."""
        return f"JOINTNET_{self.name.upper()}" if self.param.env else None

    def words(self, value: Any) -> list[str]:
        """Return the flag with this value as words of a command line; none for `None`."""
        on, _, off = self.flags[0].partition("/")
        if value is None:
            return []
        if isinstance(value, bool):
            return [on if value else off]
        if isinstance(value, tuple):
            return [on, *map(text_of, value)]
        values = value if isinstance(value, list) else [value]
        return [word for item in values for word in (on, text_of(item))]

    def fault(self, value: Any) -> str | None:
        """Return what a value must be and which it is, where its type and its bounds do not tell that it is wrong.

        Every number must be finite. A text matches its pattern; it is not empty, unless its default is or its pattern says
        that it may be. A path has parts that file systems can hold and is no device, which may be read without end; a place
        to write to is not `-`, which elsewhere is a standard stream.
        """
        if isinstance(value, list | tuple):
            return next(filter(None, map(self.fault, value)), None)
        text, needed = str(value), None if value is None else self._needed(value)
        return needed and f"{needed}, got {f'{text[:40]}…' if len(text) > 60 else text!r}"

    def _needed(self, value: Any) -> str | None:
        if isinstance(value, float) and not math.isfinite(value):
            return "must be a finite number"
        if self.is_path or self.param.out:
            if str(value) == "" or (self.param.out and str(value) == "-"):
                return "must name a file or folder"
            try:
                sizes = [len(os.fsencode(part)) for part in PurePath(value).parts]
            except UnicodeEncodeError:
                return "must be text in UTF-8"
            if max(sizes, default=0) > NAME_BYTES or sum(sizes) > PATH_BYTES:
                return f"must have names of at most {NAME_BYTES} bytes"
            if "\0" in str(value):
                return "must have no NUL character"
            with suppress(OSError):  # what cannot be looked at is refused where it is read
                if not self.param.out and (Path(value).is_char_device() or Path(value).is_block_device()):
                    return "must be a file, not a device"
            return None
        if isinstance(value, str) and not isinstance(value, Enum):
            pattern = self.param.pattern
            if value == "" and self.default != "" and not (pattern and re.fullmatch(pattern, "")):
                return "must not be empty"
            if pattern and not re.fullmatch(pattern, value):
                return f"must be {self.param.expected}"
        return None

    def check(self, value: Any) -> Any:
        """Convert and check a value of a batch file or another program as the flag does.

        Raises:
            UserError: a value that the flag would refuse.
        """
        from pydantic import ValidationError

        if isinstance(value, str) and _several(self.kind):
            value = value.split()
        try:
            checked = _adapter(self).validate_python(value)
        except ValidationError as error:
            raise validation_error(self.name, error.errors()[0]) from None
        if fault := self.fault(value) or self.fault(checked):
            raise UserError(f"{self.name} {fault}")
        return checked


def params(kind: type) -> tuple[Parameter, ...]:
    """Return the described fields of a dataclass in their order, with those of dataclasses that are its fields.

    A field without `Param` is not a parameter.
    """
    return _described(cast(Hashable, kind))


@cache
def _described(kind: Any) -> tuple[Parameter, ...]:
    hints = get_type_hints(kind, include_extras=True)
    found: list[Parameter] = []
    for field in fields(kind):
        hint = hints[field.name]
        default = field.default if field.default_factory is MISSING else field.default_factory()
        marks = getattr(hint, "__metadata__", ())
        param = next((mark for mark in marks if isinstance(mark, Param)), None)
        table = hint.__origin__ if marks else hint
        if param is not None:
            found.append(Parameter((field.name,), table, default, param))
        elif is_dataclass(table):
            for inner in params(cast(type, table)):
                own = inner.default if default is MISSING else reduce(getattr, inner.path, default)
                found.append(replace(inner, path=(field.name, *inner.path), default=own))
    return tuple(found)


def columns(kind: type, names: Iterable[str]) -> dict[str, Parameter]:
    """Return the described fields of a dataclass by the names that are asked for, present or former ones.

    Raises:
        UserError: an unknown name.
    """
    known = {parameter.name: parameter for parameter in params(kind)}
    former = {
        old.lstrip("-").replace("-", "_"): parameter.name
        for parameter in known.values()
        for old in parameter.param.former.split()
    }
    found = {}
    for name in names:
        if former.get(name, name) not in known:
            hint = did_you_mean(name, known) or f"known are {', '.join(sorted(known))}"
            raise UserError(f"unknown column {name}", hint)
        found[name] = known[former.get(name, name)]
    return found


def check(kind: type, values: Mapping[str, Any]) -> dict[Names, Any]:
    """Convert and check values by field name, as the flags of a dataclass do; return them by path.

    Raises:
        UserError: an unknown name, or a value that the flag would refuse.
    """
    known = columns(kind, values)
    return {known[name].path: known[name].check(value) for name, value in values.items()}


def make(kind: type[T], values: Mapping[Names, Any]) -> T:
    """Make a dataclass from values by path; what is missing keeps its default."""
    own: dict[str, Any] = {}
    below: dict[str, dict[Names, Any]] = {}
    for (name, *rest), value in values.items():
        if rest:
            below.setdefault(name, {})[tuple(rest)] = value
        else:
            own[name] = value
    hints = get_type_hints(kind)
    return kind(**own, **{name: make(hints[name], inner) for name, inner in below.items()})


def override(settings: T, values: Mapping[Names, Any]) -> T:
    """Return a copy of a dataclass with other values at some paths."""
    for (name, *rest), value in values.items():
        changed = override(getattr(settings, name), {tuple(rest): value}) if rest else value
        settings = replace(settings, **{name: changed})  # type: ignore[type-var]
    return settings


def command_line(command: str, arguments: Sequence[str], *groups: Any) -> str:
    """Return a line for a POSIX shell: `jointnet COMMAND`, the arguments, and the flags that differ from their defaults."""
    flags: list[list[str]] = []
    for group in groups:
        for parameter in params(type(group)):
            value = reduce(getattr, parameter.path, group)
            words = [] if parameter.param.argument or value == parameter.default else parameter.words(value)
            if words not in flags:  # groups may share a table
                flags.append(words)
    return shell_line(command, arguments, [word for flag in flags for word in flag])


def shell_line(command: str, arguments: Sequence[str], flags: Sequence[str]) -> str:
    """Return `jointnet COMMAND`, arguments and flags, quoted for a POSIX shell."""
    # After `--` a leading dash does not make an option of an argument.
    dashed = any(argument.startswith("-") for argument in arguments)
    line = [*flags, "--", *arguments] if dashed else [*arguments, *flags]
    return shlex.join(["jointnet", *command.split(), *line])


def text_of(value: Any) -> str:
    """Return `7.5`, and `360` rather than `360.0`, without a loss of digits."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


@cache
def _adapter(parameter: Parameter) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    described: Any = Annotated[parameter.kind, parameter.param]
    if several := _several(parameter.kind):  # the bounds are those of each value
        described = tuple[tuple(Annotated[kind, parameter.param] for kind in get_args(several))]  # type: ignore[misc]
        described = described | None if type(None) in get_args(parameter.kind) else described
    return TypeAdapter(described)


def _several(kind: Any) -> Any:
    """Return the type of a flag that takes several values, `None` for any other."""
    return next((each for each in (kind, *get_args(kind)) if get_origin(each) is tuple), None)
