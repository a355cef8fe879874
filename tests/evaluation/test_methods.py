"""Specs of methods and their own settings."""

from __future__ import annotations

import pytest

from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.methods import MethodSettings, MethodSpec, parse_method, parse_methods
from jointnet_cli.sampling.presets import Sampling

KINDS = ("jointnet", "folder", "constant", "refine")


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("ours=jointnet:runs/a", MethodSpec("ours", "jointnet", "runs/a")),
        ("jointnet:runs/a=b", MethodSpec("jointnet:runs/a=b", "jointnet", "runs/a=b")),
        ("x=folder:C:\\maps?kind=distance", MethodSpec("x", "folder", "C:\\maps?kind=distance")),
        ("constant", MethodSpec("constant", "constant", "")),
        ("one value=constant", MethodSpec("one value", "constant", "")),
        ("refine:diorama", MethodSpec("refine:diorama", "refine", "diorama")),
    ],
)
def test_methods_are_understood(text: str, row: MethodSpec) -> None:
    assert parse_method(text, KINDS) == row


def test_a_spec_is_the_method_without_its_name() -> None:
    assert [parse_method(text, KINDS).spec for text in ("a=jointnet:m", "b=constant")] == ["jointnet:m", "constant"]


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown method kind 'jointnett'") as fault:
        parse_method("jointnett:diorama", KINDS)
    assert fault.value.hint == "did you mean jointnet?"
    with pytest.raises(UserError, match=r"^unknown method kind 'zzz' in zzz$") as fault:
        parse_method("zzz", KINDS)
    assert "constant, folder" in (fault.value.hint or "")


def test_two_methods_of_one_name_are_refused() -> None:
    with pytest.raises(UserError, match="two methods are called a"):
        parse_methods(["a=constant", "a=jointnet:x"], KINDS)


def test_a_method_overrides_settings() -> None:
    settings = MethodSettings(sampling=Sampling(steps=20, guidance=3.0), ensemble=2)
    found = settings.override("steps=4&scheduler=ddim&strength=0.5")
    assert found.sampling == Sampling(steps=4, guidance=3.0, scheduler="ddim")
    assert (found.ensemble, found.strength) == (2, 0.5)
    assert settings.override("") == settings
    with pytest.raises(UserError, match="steps must be at least 1, got '0'"):
        settings.override("steps=0")
    with pytest.raises(UserError, match="unknown setting 'step'") as fault:
        settings.override("step=4")
    assert fault.value.hint == "did you mean steps?"
    with pytest.raises(UserError, match="steps must be a whole number, got 'many'"):
        settings.override("steps=many")
