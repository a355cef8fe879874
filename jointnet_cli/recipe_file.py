"""Find, read, override and print TOML recipes of every kind."""

from __future__ import annotations

import math
import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError

from jointnet_cli.errors import UserError, closest, did_you_mean, validation_error
from jointnet_cli.files.text import decode_text, read_bytes, to_json

UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")
"""Pydantic's types of the fault in models and in dataclasses."""


class RecipeTable(BaseModel):
    """A table of a recipe, which refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def find_recipe(name: str, shipped: Mapping[str, Path]) -> Path:
    """Return the file of a path or of the name of one of `shipped`.

    A name with the suffix `.toml`, or one that starts with `.`, `/` or `~`, is a path and never the name of a shipped
    recipe. `recipes/NAME.toml`, the path in a checkout, is also understood where there is no folder `recipes`.

    Raises:
        UserError: there is no such file or name.
    """
    path = Path(name).expanduser()
    looks_like_file = path.suffix == ".toml" or name.startswith((".", "/", "~"))
    if name in shipped and not looks_like_file:
        return shipped[name]
    if path.is_file():
        return path
    key = name.removesuffix(".toml").removeprefix("recipes/")
    if key in shipped and name.startswith("recipes/") and not Path("recipes").is_dir():
        return shipped[key]
    last = path.name.removesuffix(".toml")
    near = next((each for each in (key, last) if each in shipped), None) or closest(key, shipped)
    same = [each for each in shipped if each.rpartition("/")[2] == last]
    hint = f"did you mean {near or same[0]}?" if near or same else "jointnet recipe list shows the shipped recipes"
    reason = ": it is a folder" if path.is_dir() else ": there is no such file" if looks_like_file else ""
    raise UserError(f"no recipe {name}{reason}", hint=hint)


TRAINING = {"stage", "data", "train"}
"""Keys that only a recipe of `jointnet train` has."""


def require_command(command: str, name: str, values: Mapping[str, Any]) -> None:
    """Refuse a recipe of another command.

    Args:
        command: `train` or `prepare`.
        name: the recipe as the user named it.
        values: its tables.

    Raises:
        UserError: it says what the recipe is for.
    """
    owner = "train" if TRAINING & values.keys() else "prepare"
    if values and owner != command:
        purpose = f": {values['description']}" if values.get("description") else ""
        show = shlex.join(["jointnet", "recipe", "show", name])
        hint = f"{show} prints it; jointnet recipe list shows the recipes of `jointnet {command}`"
        raise UserError(f"{name} is a recipe of `jointnet {owner}`{purpose}", hint=hint)


def read_values(
    path: Path | None, overrides: Sequence[str] = (), flags: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Read the tables of a recipe without validating them.

    Args:
        path: a TOML file; `None` is an empty recipe.
        overrides: `table.key=value` settings that replace the file's; values are TOML, bare words are strings.
        flags: tables of values from flags, which replace both.

    Raises:
        UserError: invalid TOML, an override without `=`, an override below a key that is not a table.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(decode_text(read_bytes(path)))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: not a valid TOML file: {error}") from error
    for override in overrides:
        _override(values, override)
    merge(values, flags or {})
    return values


def merge(values: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Put values into nested tables; a table of `changes` is merged into the table of that name."""
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(values.get(key, {}), dict):
            merge(values.setdefault(key, {}), value)
        else:
            values[key] = value


def _override(values: dict[str, Any], override: str) -> None:
    """Set `table.key=value` in nested tables; values are TOML, bare words are strings.

    Raises:
        UserError: there is no `=`, or a setting stands where a table should.
    """
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {override}: expected table.key=value", hint="for example --set train.max_minutes=10")
    try:
        parsed = tomllib.loads(f"value = {text}")
        value = parsed["value"] if len(parsed) == 1 else text  # text with line breaks may hold further keys
    except tomllib.TOMLDecodeError:
        value = text
    *tables, last = key.strip().split(".")
    for table in tables:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            raise UserError(f"--set {override}: {table} is not a table")
    values[last] = value


def to_toml(values: Mapping[str, Any]) -> str:
    """Return tables of JSON-compatible values as a TOML file; `None`, which TOML cannot express, becomes a comment."""
    return "\n".join(_toml_lines(values, ())) + "\n"


def _toml_lines(values: Mapping[str, Any], table: tuple[str, ...]) -> Iterator[str]:
    tables = {key: value for key, value in values.items() if isinstance(value, Mapping)}
    for key, value in values.items():
        if value is None:
            yield f"# {key} is not set"
        elif key not in tables:
            yield f"{_toml_key(key)} = {toml_value(value)}"
    for key, value in tables.items():
        path = (*table, key)
        yield f"\n[{'.'.join(map(_toml_key, path))}]"
        yield from _toml_lines(value, path)


def toml_value(value: Any) -> str:
    """Return a value in TOML, which equals JSON except for numbers that are not finite."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return to_json(value, ensure_ascii=False)


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else to_json(key, ensure_ascii=False)


def refusal(
    path: str | Path, error: ValidationError, table: type | Mapping[str, type], *, tag: str | None = None
) -> UserError:
    """Return a validation error in the words of the user.

    Args:
        path: the recipe.
        error: an unknown key in it is reported first, because a misspelt key is also missing.
        table: the class of the whole recipe, or with `tag` the classes by the value of that key.
        tag: the key that decides which class a recipe has.
    """
    fault = min(error.errors(), key=lambda entry: entry["type"] not in UNKNOWN_KEY)
    location = tuple(map(str, fault["loc"]))
    if isinstance(table, Mapping) and location:
        table, location = table[location[0]], location[1:]
    elif isinstance(table, Mapping):
        location = (str(tag),)
    where = ".".join(location)
    if fault["type"] in UNKNOWN_KEY:
        valid = _keys(table, location[:-1])
        hint = did_you_mean(location[-1], valid) or f"valid keys: {', '.join(sorted(valid))}"
        return UserError(f"{path}: unknown key {where}", hint=hint)
    return validation_error(f"{path}: {where}" if where else str(path), fault)


def _keys(table: Any, location: Sequence[str]) -> list[str]:
    """Return the keys of a table of a table, which is a dataclass or a model; a table may be optional."""
    if is_dataclass(table):
        hints = get_type_hints(table)
        kinds = {field.name: hints[field.name] for field in fields(table)}
    else:
        kinds = {name: field.annotation for name, field in table.model_fields.items()}
    if not location:
        return list(kinds)
    kind = kinds[location[0]]
    inner = next(each for each in (kind, *get_args(kind)) if is_dataclass(each) or hasattr(each, "model_fields"))
    return _keys(inner, location[1:])
