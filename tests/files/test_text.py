"""JSON that every reader takes: no NaN, no infinity."""

from __future__ import annotations

import ast
import json
import math
import sys
import tomllib
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import jointnet_cli
from jointnet_cli.files.text import escaped, escaped_line, escaped_streams, finite, print_paths, to_json, warn
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


HOSTILE = "a\x1b[31m\x9b\x07\x7f\r\u202e\u2067\u200f\u2028\udcff\tb\n"


def test_text_cannot_control_a_terminal() -> None:
    assert escaped("Größe 大 👩‍💻\t\n") == "Größe 大 👩‍💻\t\n"
    shown = "a\\u001b[31m\\u009b\\u0007\\u007f\\u000d\\u202e\\u2067\\u200f\\u2028\\udcff\tb"
    assert escaped(HOSTILE) == f"{shown}\n"
    assert escaped_line(HOSTILE) == f"{shown}\\n"


def test_printed_json_parses_to_the_same_strings(capsys: pytest.CaptureFixture[str]) -> None:
    with escaped_streams():
        print(to_json({HOSTILE: [HOSTILE]}, ensure_ascii=False, indent=1))
        print(HOSTILE, end="", file=sys.stderr)
    printed = capsys.readouterr()
    assert escaped(printed.out) == printed.out and json.loads(printed.out) == {HOSTILE: [HOSTILE]}
    assert printed.err == escaped(HOSTILE)


def test_paths_are_bytes_for_a_pipe_and_escaped_for_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path("a\x1b\n\udcff ö.png")
    for terminal, shown in ((False, b"a\x1b\n\xff \xc3\xb6.png\n"), (True, "a\\u001b\\n\\udcff ö.png\n".encode())):
        stream = TextIOWrapper(BytesIO(), encoding="utf-8", errors="surrogateescape")
        stream.isatty = lambda terminal=terminal: terminal  # type: ignore[method-assign]
        monkeypatch.setattr(sys, "stdout", stream)
        with escaped_streams():
            print_paths(path)
        assert stream.buffer.getvalue() == shown  # type: ignore[attr-defined]


def test_a_warning_is_one_line_and_its_hint_another(capsys: pytest.CaptureFixture[str]) -> None:
    warn("a\nhint: run this", "copy it")
    warn("b")
    assert capsys.readouterr().err == "warning: a\\nhint: run this\nhint: copy it\nwarning: b\n"
