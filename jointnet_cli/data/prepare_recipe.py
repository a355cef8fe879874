"""The recipe of a download: columns, filter, images, limits of the fetcher, size of a shard."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError

from jointnet_cli.data.fetch_settings import FetchSettings
from jointnet_cli.data.filter import Filter
from jointnet_cli.data.plan import Sifting
from jointnet_cli.errors import UserError
from jointnet_cli.recipe_file import (
    Settings,
    find_recipe,
    read_values,
    refusal,
    shipped_files,
    telling_fault,
)

IMAGE = ("size", "resize", "quality")
"""The settings of the fetcher that the table `image` has; `fetch` has the others."""
DERIVED = ("min_side", "max_aspect")
"""The settings of the fetcher that follow from the filter."""
CONTENT = (*IMAGE, *DERIVED, "max_bytes", "max_pixels", "opt_out")
"""The settings of the fetcher that decide which images there are and what they are like, not only how fast they come."""


class Shards(Settings):
    """How the images are divided."""

    size: int = Field(1000, ge=1, le=10_000)
    """Images that are wanted, a shard; those that fail leave gaps."""


class PrepareRecipe(Settings):
    """A download."""

    description: str = ""
    columns: dict[str, str] = Field({})
    """Our name of a column -> the source's. Needed only where the two differ: `url`, `caption` and COYO's names."""
    filter: Filter = Filter()
    image: dict[str, Any] = Field({})
    fetch: dict[str, Any] = Field({})
    shards: Shards = Shards()

    def settings(self, **changes: Any) -> FetchSettings:
        """The fetcher's settings; the size that images really have is checked against the filter's bounds.

        Raises:
            UserError: an unknown setting, with the nearest name, or a value out of range.
        """
        names = [field.name for field in fields(FetchSettings) if field.name not in DERIVED]
        _check_names("image", self.image, IMAGE)
        _check_names("fetch", self.fetch, [name for name in names if name not in IMAGE])
        side = self.filter.side_above
        derived = {"min_side": 0 if side is None else side + 1, "max_aspect": self.filter.aspect_below}
        try:
            return TypeAdapter(FetchSettings).validate_python({**self.image, **self.fetch, **derived, **changes})
        except ValidationError as error:
            fault = telling_fault(error)
            raise UserError(f"{fault['loc'][0]}: {fault['msg'].lower()}") from None

    def sifting(self, source: str) -> Sifting:
        """What the set of images from a source follows from."""
        settings = TypeAdapter(FetchSettings).dump_python(self.settings(), mode="json")
        return Sifting(
            source,
            dict(self.columns),
            self.filter,
            self.shards.size,
            image={name: settings[name] for name in CONTENT},
        )


def prepare_recipes() -> dict[str, Path]:
    """The recipes of downloads that come with the package, by name such as `prepare/coyo`."""
    return {name: path for name, path in shipped_files().items() if name.startswith("prepare/")}


def load_prepare_recipe(
    name: str | None, overrides: Sequence[str] = (), flags: Mapping[str, Any] | None = None
) -> PrepareRecipe:
    """Read and validate a recipe; without a name, the one that asks for nothing.

    Args:
        name: a TOML file, or the name of a shipped recipe.
        overrides: `table.key=value` settings that replace the file's; values are TOML, bare words are strings.
        flags: tables of values that replace both.

    Raises:
        UserError: no such recipe, invalid TOML, an unknown key (with the nearest valid one) or a value out of range.
    """
    path = None if name is None else find_recipe(name, prepare_recipes())
    values = read_values(path, overrides, flags)
    try:
        return PrepareRecipe.model_validate(values)
    except ValidationError as error:
        fault = telling_fault(error)
        table = PrepareRecipe.model_fields.get(str(fault["loc"][0]))
        kind = table.annotation if table and len(fault["loc"]) > 1 else PrepareRecipe
        valid = list(kind.model_fields) if isinstance(kind, type) and issubclass(kind, Settings) else []
        raise refusal(path or "settings", ".".join(map(str, fault["loc"])), fault, valid) from None


def _check_names(table: str, given: dict[str, Any], valid: Sequence[str]) -> None:
    for name in given:
        if name not in valid:
            near = difflib.get_close_matches(name, valid, n=1)
            hint = f"did you mean {near[0]}?" if near else f"valid keys: {', '.join(sorted(valid))}"
            raise UserError(f"unknown key {table}.{name}", hint=hint)
