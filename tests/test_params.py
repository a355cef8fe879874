"""Fields of dataclasses as flags, values and words of a command line."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
import typer
from typer.testing import CliRunner

from jointnet_cli.cli.options import expand_flags
from jointnet_cli.cli.usage import Command
from jointnet_cli.errors import UserError
from jointnet_cli.params import Param, check, command_line, make, params


@dataclass(frozen=True)
class Filter:
    side_above: Annotated[int, Param("Least side.", "PIXELS", ge=1)] = 64


@dataclass(frozen=True)
class Settings:
    word: Annotated[str, Param("Any word.", argument=True)]
    kind: Annotated[Literal["a", "b"] | None, Param("A kind.", flag="--as", former="--sort --of-species")] = None
    span: Annotated[float, Param("An angle.", ge=1, le=360, env=True)] = 360.0
    wrap: Annotated[bool, Param("A switch.")] = True
    any: Annotated[float, Param("Any number.")] = 0.5
    rows: Annotated[list[str], Param("Any rows.", flag="--row -r")] = field(default_factory=list)
    filter: Filter = Filter(side_above=32)
    unlisted: object = None


@dataclass(frozen=True)
class Texts:
    place: Annotated[Path, Param("Any folder.", out=True)] = Path("out")
    file: Annotated[Path | None, Param("Any file.")] = None
    code: Annotated[str | None, Param("A code.", pattern="[ab]+", expected="made of a and b")] = None
    any: Annotated[float, Param("Any number.")] = 0.5


@dataclass(frozen=True)
class Other:
    filter: Filter = Filter()


@pytest.fixture
def run():
    """Parse words; return what the command got."""
    app, got = typer.Typer(), []

    def command(settings: Settings, other: Other) -> None:
        got.append((settings, other))

    command.__annotations__ = {"settings": Settings, "other": Other, "return": None}
    app.command(cls=Command)(expand_flags(command))

    def parse(*words: str, **environment: str):
        ran = CliRunner(env={"COLUMNS": "200", **environment}).invoke(app, words)
        return got[-1] if ran.exit_code == 0 else ran.output

    return parse


@pytest.mark.parametrize(
    ("field", "value", "fault"),
    [
        ("place", "", "must name a file or folder, got ''"),
        ("place", "-", "must name a file or folder, got '-'"),
        ("place", "x/" + "a" * 256, "must have names of at most 255 bytes"),
        ("file", "é" * 128, "must have names of at most 255 bytes"),
        ("code", "c", "must be made of a and b, got 'c'"),
        ("code", "", "must not be empty"),
        ("any", "inf", "must be a finite number, got 'inf'"),
    ],
)
def test_flags_and_columns_refuse_the_same_values(field, value, fault):
    app = typer.Typer()

    def command(texts: Texts) -> None:
        pytest.fail(f"taken: {texts}")

    command.__annotations__ = {"texts": Texts, "return": None}
    app.command()(expand_flags(command))
    ran = CliRunner(env={"COLUMNS": "2000"}).invoke(app, [f"--{field}", value])
    assert ran.exit_code == 2 and fault in ran.output
    with pytest.raises(UserError, match=re.escape(f"{field} {fault}")):
        check(Texts, {field: value})


def test_former_names_are_columns_too():
    assert check(Settings, {"sort": "a"}) == check(Settings, {"of_species": "a"}) == {("kind",): "a"}


def test_described_fields_in_order_with_those_of_tables():
    assert [parameter.path for parameter in params(Settings)] == [
        *((name,) for name in ("word", "kind", "span", "wrap", "any", "rows")),
        ("filter", "side_above"),
    ]
    assert [parameter.default for parameter in params(Settings)][1:] == [None, 360.0, True, 0.5, [], 32]
    assert [parameter.flags for parameter in params(Settings)][1:] == [
        ["--as"],
        ["--span"],
        ["--wrap/--no-wrap"],
        ["--any"],
        ["--row", "-r"],
        ["--side-above"],
    ]


def test_flags_make_the_dataclass_and_its_tables(run):
    assert run("x") == (Settings("x"), Other(Filter(32)))
    assert run("x", "--as", "b", "--span", "90", "--no-wrap", "-r", "1", "--row", "2", "--side-above", "8") == (
        Settings("x", "b", 90.0, False, 0.5, ["1", "2"], Filter(8)),
        Other(Filter(8)),  # a table that two groups share has its flags once
    )
    assert run("x", JOINTNET_SPAN="40")[0].span == 40


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--span", "0.5"], "error: --span must be at least 1, got '0.5'\n"),
        (["--span", "361"], "error: --span must be at most 360, got '361'\n"),
        (["--any", "nan"], "error: --any must be a finite number, got 'nan'\n"),
        (["--as", "c"], "error: --as must be a or b, got 'c'\n"),
        (["--side-above", "0"], "error: --side-above must be at least 1, got '0'\n"),
    ],
)
def test_flags_refuse_values(run, words, reason):
    assert reason in run("x", *words)


def test_values_are_checked_as_by_the_flags():
    values = check(Settings, {"word": "x", "span": "90", "side_above": "8"})
    assert values == {("word",): "x", ("span",): 90.0, ("filter", "side_above"): 8}
    assert make(Settings, values) == Settings("x", span=90.0, filter=Filter(8))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"span": 361}, "span must be at most 360, got 361"),
        ({"any": "inf"}, "any must be a finite number, got 'inf'"),
        ({"side_above": 0}, "side_above must be at least 1, got 0"),
        ({"word": 7}, "word must be text, got 7"),
        ({"spam": 7}, "unknown column spam"),
        ({"unlisted": 7}, "unknown column unlisted"),
    ],
)
def test_values_that_a_flag_refuses_are_refused(values, reason):
    with pytest.raises(UserError) as fault:
        check(Settings, values)
    assert str(fault.value) == reason


def test_command_line_names_what_differs_from_the_defaults():
    settings = Settings("x", "a", 90.0, False, 0.5, ["p q", "r"], Filter(8))
    line = "jointnet make a --as a --span 90 --no-wrap --row 'p q' --row r --side-above 8"
    assert command_line("make", ["a"], settings, Other(Filter(8))) == line
    assert command_line("make", ["-a"], Settings("x"), Settings("x", span=1.5)) == "jointnet make --span 1.5 -- -a"


@dataclass(frozen=True)
class Renamed:
    distance: Annotated[float, Param("A distance.", former="--scale --length")] = 1.0
    factor: Annotated[float, Param("A factor.", flag="--scale")] = 2.0


def test_former_names_of_flags_work_unless_another_flag_has_the_name():
    app, got = typer.Typer(), []

    def command(settings: Renamed) -> None:
        got.append(settings)

    command.__annotations__ = {"settings": Renamed, "return": None}
    app.command(cls=Command)(expand_flags(command))
    assert CliRunner().invoke(app, ["--length=3", "--scale", "4"]).exit_code == 0
    assert got == [Renamed(3.0, 4.0)]
    assert "length" not in CliRunner().invoke(app, ["--help"]).output


def test_a_choice_that_is_nearly_valid_is_named():
    with pytest.raises(UserError, match="kind must be a or b, got 'A'") as caught:
        check(Settings, {"kind": "A"})
    assert caught.value.hint == "did you mean a?"
