"""`jointnet recipe`: list, show, copy and check recipes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jointnet_cli.cli.console import USER_FAULT, note, report_error
from jointnet_cli.cli.options import AsJson, command_group
from jointnet_cli.errors import UserError
from jointnet_cli.files.text import decode_text, print_paths, read_bytes, to_json
from jointnet_cli.params import QUIET, Param

if TYPE_CHECKING:
    from jointnet_cli.data.settings import PrepareSettings
    from jointnet_cli.training.recipe import BaseRecipe, JointRecipe, VaeRecipe

    Recipe = VaeRecipe | BaseRecipe | JointRecipe | PrepareSettings

PREPARE = "prepare"

Name = Annotated[
    str,
    Param("A shipped recipe such as `depth`, or a TOML file.", "NAME", shown=False, complete="recipe", argument=True),
]
Overrides = Annotated[
    list[str] | None,
    Param("Replace a setting, as in `train.max_steps=500`. Repeatable.", "KEY=VALUE", flag="--set"),
]


def list_(json_output: AsJson = False) -> None:
    """List the recipes that come with the package, of `jointnet train` and of `jointnet prepare`."""
    from jointnet_cli.files.paths import shipped_files

    rows = []
    for name, path in sorted(shipped_files().items()):
        recipe = load(path)
        rows.append({"recipe": name, "stage": _stage(recipe), "description": recipe.description, "path": str(path)})
    if json_output:
        for row in rows:
            print(to_json(row))
        return
    width = max(len(row["recipe"]) for row in rows)
    for row in rows:
        print(f"{row['recipe']:<{width}}  {row['stage']:<7}  {row['description']}")


def show(
    name: Name,
    resolved: Annotated[bool, Param("All settings, with their defaults.", flag="--resolved")] = False,
    overrides: Overrides = None,
) -> None:
    """Print a recipe: the file as it is, or with `--resolved` or `--set` its settings alone, as TOML too."""
    from jointnet_cli.recipe_file import read_values, to_toml

    path = _find(name)
    recipe = load(path, overrides or [])
    if resolved or overrides:
        if is_dataclass(recipe):
            values = asdict(recipe) if resolved else read_values(path, overrides or [])
        else:
            values = recipe.model_dump(mode="json", exclude_unset=not resolved)
        print(to_toml(values), end="")
    else:
        print(decode_text(read_bytes(path)), end="")


def copy(
    name: Name,
    file: Annotated[
        str | None,
        Param(
            "The copy, or a folder for it: one that exists, or a name that ends with `/`.",
            "FILE",
            out=True,
            shown="here, by its last name",
            argument=True,
        ),
    ] = None,
    overwrite: Annotated[bool, Param("Replace a file that exists.", flag="--overwrite")] = False,
) -> None:
    """Write a copy of a recipe to change, and print its path."""
    from jointnet_cli.files.atomic import atomic_file
    from jointnet_cli.files.paths import check_folder

    path = _find(name)
    target = Path(file or path.name)
    if target.is_dir() or (file or "").endswith(("/", os.sep)):
        target = target / path.name
    check_folder(target.parent, "name another FILE")
    if target.exists() and not overwrite:
        raise UserError(f"{target} exists already", hint="pass --overwrite to replace it, or name another FILE")
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(target) as temporary:
        temporary.write_bytes(read_bytes(path))
    print_paths(target)


def check(
    files: Annotated[
        list[str],
        Param("TOML files, or shipped recipes.", "FILE", shown=False, complete="recipe", argument=True),
    ],
    overrides: Overrides = None,
    quiet: Annotated[bool, QUIET] = False,
) -> None:
    """Check recipes and print the names of the valid ones. Inputs that are missing on this machine are only noted."""
    faults = 0
    for name in files:
        try:
            recipe = load(_find(name), overrides or [])
        except UserError as fault:
            report_error(fault)
            faults += 1
            continue
        for line in _absent(recipe):
            note(f"{name}: {line}", quiet)
        print(name)
    if faults:
        raise typer.Exit(USER_FAULT)


def _find(name: str) -> Path:
    from jointnet_cli.files.paths import shipped_files
    from jointnet_cli.recipe_file import find_recipe

    return find_recipe(name, shipped_files())


def load(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Return a recipe of `jointnet train` or `jointnet prepare`, validated.

    Raises:
        UserError: it cannot be read, or a setting is wrong.
    """
    from jointnet_cli.recipe_file import TRAINING, read_values

    if TRAINING & read_values(path).keys():
        from jointnet_cli.training.recipe import load_recipe

        return load_recipe(str(path), overrides)
    from jointnet_cli.data.settings import prepare_settings

    return prepare_settings(str(path), overrides)


def _stage(recipe: Recipe) -> str:
    return getattr(recipe, "stage", PREPARE)


def _absent(recipe: Recipe) -> list[str]:
    """Return the inputs of a training that are missing on this machine."""
    if _stage(recipe) == PREPARE:
        return []
    from jointnet_cli.training.inputs import missing_inputs

    return [missing.description for missing in missing_inputs(recipe)]  # type: ignore[arg-type]


EXAMPLES: dict[str, tuple[Callable[..., None], str]] = {
    "list": (list_, "jointnet recipe list"),
    "show": (show, "jointnet recipe show depth --resolved"),
    "copy": (copy, "jointnet recipe copy depth mine.toml"),
    "check": (check, "jointnet recipe check mine.toml --set data.shards=shards/mine"),
}

app = command_group("recipe", "List, show, copy and check recipes.", EXAMPLES)
