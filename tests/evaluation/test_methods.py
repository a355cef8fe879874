"""Specs of rows."""

from __future__ import annotations

import pytest

from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.methods import MethodSpec, parse_row, parse_rows

KINDS = ("jointnet", "folder", "constant", "midas+refine")


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("ours=jointnet:runs/a", MethodSpec("ours", "jointnet", "runs/a")),
        ("jointnet:runs/a=b", MethodSpec("jointnet:runs/a=b", "jointnet", "runs/a=b")),
        ("x=folder:C:\\maps?kind=distance", MethodSpec("x", "folder", "C:\\maps?kind=distance")),
        ("constant", MethodSpec("constant", "constant", "")),
        ("one value=constant", MethodSpec("one value", "constant", "")),
        ("midas+refine:diorama", MethodSpec("midas+refine:diorama", "midas+refine", "diorama")),
    ],
)
def test_rows_are_understood(text: str, row: MethodSpec) -> None:
    assert parse_row(text, KINDS) == row


def test_a_spec_is_the_row_without_its_name() -> None:
    assert [parse_row(text, KINDS).spec for text in ("a=jointnet:m", "b=constant")] == ["jointnet:m", "constant"]


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(UserError, match="no kind 'jointnett'") as fault:
        parse_row("jointnett:diorama", KINDS)
    assert fault.value.hint == "did you mean jointnet?"
    with pytest.raises(UserError, match=r"^row zzz: no kind 'zzz'$") as fault:
        parse_row("zzz", KINDS)
    assert "constant, folder" in (fault.value.hint or "")


def test_two_rows_of_one_name_are_refused() -> None:
    with pytest.raises(UserError, match="two rows are called a"):
        parse_rows(["a=constant", "a=jointnet:x"], KINDS)
