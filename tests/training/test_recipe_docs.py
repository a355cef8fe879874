"""docs/recipes.md says what the code says: every recipe, every setting, every default."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from jointnet_cli.files.paths import shipped_files
from jointnet_cli.training.recipe import STAGES, JointRecipe

TEXT = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
SECTIONS: dict[str, str] = dict(re.findall(r"^#+ (.+?)\n(.*?)(?=^#|\Z)", TEXT, re.DOTALL | re.MULTILINE))


def rows(section: str) -> list[list[str]]:
    """The cells of a section's table, without its head."""
    lines = [line for line in SECTIONS[section].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def table_of(field: FieldInfo) -> type[BaseModel] | None:
    """The settings behind a field that is a table."""
    kinds = [kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type)]
    return next((kind for kind in kinds if issubclass(kind, BaseModel)), None)


def shown(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    return "none" if default is None else f"`{json.dumps(default)}`"


def tables() -> dict[str, type[BaseModel]]:
    fields = [field for stage in STAGES.values() for field in stage.model_fields.items()]
    return {name: kind for name, field in fields if (kind := table_of(field))}


def test_every_recipe_is_told() -> None:
    assert sorted(row[0].strip("`") for row in rows("Shipped recipes")) == sorted(shipped_files())


@pytest.mark.parametrize("name", tables())
def test_every_setting_of_a_table_is_told_with_its_default(name: str) -> None:
    wanted = [[f"`{key}`", shown(field)] for key, field in tables()[name].model_fields.items()]
    assert [row[:2] for row in rows(f"`[{name}]`")] == wanted


def test_no_table_is_told_that_there_is_not() -> None:
    told = {title.strip("`[]") for title in SECTIONS if title.startswith("`[")}
    assert told == tables().keys()


def test_every_setting_of_the_top_level_is_told_with_its_stages() -> None:
    wanted: dict[str, dict[str, Any]] = {}
    for stage, kind in STAGES.items():
        for key, field in kind.model_fields.items():
            if not table_of(field):  # `vae` is a table of one stage and a folder of another
                entry = wanted.setdefault(f"`{key}`", {"stages": [], "default": shown(field)})
                entry["stages"].append(stage)
                assert entry["default"] == shown(field), key
    told = {row[0]: {"stages": row[1].split(", "), "default": row[2]} for row in rows("Top level")}
    assert told == wanted


def test_the_objective_of_a_joint_recipe_has_the_papers_defaults() -> None:
    default = JointRecipe.model_fields["objective"].default
    assert f"`text_dropout = {default.text_dropout}` and `noise_offset = {default.noise_offset}`" in TEXT
