"""JSON that every reader takes: no NaN, no infinity."""

from __future__ import annotations

import ast
import json
import math
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import jointnet_cli
from jointnet_cli.files.text import finite, to_json
from jointnet_cli.recipe_file import to_toml

NUMBERS = st.floats() | st.integers() | st.booleans() | st.none() | st.text(max_size=5)
VALUES = st.recursive(
    NUMBERS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def expected(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: expected(item) for key, item in value.items()}
    if isinstance(value, list):
        return [expected(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@given(VALUES)
def test_every_value_becomes_strict_json(value: Any) -> None:
    assert json.loads(to_json(value), parse_constant=refuse) == expected(value) == finite(value)


def test_options_are_those_of_json() -> None:
    value = {"é": [1, math.nan], "path": Path("a")}
    assert to_json(value, ensure_ascii=False, default=str) == '{"é": [1, null], "path": "a"}'
    assert to_json({"a": (math.inf,)}, indent=1) == '{\n "a": [\n  null\n ]\n}'
    with pytest.raises(TypeError, match="not JSON serializable"):
        to_json({1, 2})


def test_one_function_of_the_package_encodes_json() -> None:
    root = Path(jointnet_cli.__file__).parent
    callers = [
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Attribute) and node.attr in ("dump", "dumps") and ast.unparse(node.value) == "json")
        or (isinstance(node, ast.ImportFrom) and node.module == "json")
    ]
    assert set(callers) == {"files/text.py"}


def test_toml_has_its_own_words_for_what_is_not_finite() -> None:
    values = {"a": math.inf, "b": [1.5, -math.inf], "c": "é"}
    assert tomllib.loads(to_toml(values)) == values
    assert math.isnan(tomllib.loads(to_toml({"a": math.nan}))["a"])
