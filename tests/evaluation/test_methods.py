"""Specs of methods and their own settings."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jointnet_cli.cli import app
from jointnet_cli.cli.evaluate import COMMANDS
from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.evaluation import Evaluation
from jointnet_cli.evaluation.joint_methods import JointMethod
from jointnet_cli.evaluation.methods import (
    MODEL_KINDS,
    MethodSettings,
    MethodSpec,
    expand_checkpoints,
    parse_method,
    parse_methods,
)
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


@pytest.mark.parametrize("name", ["lr=0.004", "12:30"])
def test_checkpoints_of_a_run_whose_name_marks_a_spec(name: str, tmp_path: Path) -> None:
    for step in (0, 20):
        (tmp_path / f"{name}/models/{step:07}").mkdir(parents=True)
    texts, steps = expand_checkpoints([f"checkpoints:{tmp_path / name}?steps=1"])
    plain = re.sub("[=:]", "-", name)
    assert steps == {f"{plain} 0": (plain, 0), f"{plain} 20": (plain, 20)}
    assert parse_methods(texts, KINDS) == [
        MethodSpec(f"{plain} {step}", "jointnet", f"{tmp_path / name}/models/{step:07}?steps=1") for step in (0, 20)
    ]


def complete_shard(folder: Path) -> None:
    (folder / "00000.tar").touch()
    (folder / "00000_stats.json").write_text('{"count": 1}')


TABLES = [command for command in COMMANDS if issubclass(command, Evaluation)]


@pytest.mark.parametrize("command", TABLES, ids=lambda command: command.name)
def test_the_kinds_of_a_table_are_known_without_torch(command: type[Evaluation]) -> None:
    kinds = command().kinds()
    assert sorted(kinds) == sorted(command.kind_names)
    joint = {name for name, kind in kinds.items() if issubclass(getattr(kind, "func", kind), JointMethod)}
    assert joint == MODEL_KINDS & set(kinds)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("jointnet:diorama?step=4", "unknown setting 'step' in ?step=4"),
        ("jointnet:?steps=0", "steps must be at least 1, got '0'"),
        ("from-depth:diorama?steps=0", "steps must be at least 1, got '0'"),
        ("from-depth:autoencoder:?steps=0", "steps must be at least 1, got '0'"),
        ("jointnet:?scheduler=ddmi", "unknown scheduler ddmi"),
        ("jointnet:runs/none", "runs/none is no folder"),
        ("jointnett:diorama", "unknown method kind 'jointnett'"),
    ],
)
def test_a_wrong_method_is_refused_before_torch_is_imported(
    method: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    complete_shard(tmp_path)
    command = ["evaluate", "normal", "--shards", str(tmp_path), "--out", str(tmp_path / "out"), "--method", method]
    ran = CliRunner().invoke(app, command)
    assert ran.exit_code == 2 and ran.stderr.startswith(f"error: {message}"), ran.stderr
    assert not (tmp_path / "out").exists()


def test_other_methods_that_a_table_needs_are_refused_as_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    complete_shard(tmp_path)
    for command, flag in (("depth", "--refine-from"), ("depth-to-image", "--depth-method")):
        wanted = [] if command == "depth-to-image" else ["--method", "refine:diorama"]
        ran = CliRunner().invoke(
            app, ["evaluate", command, "--shards", str(tmp_path), *wanted, flag, "jointnet:?steps=0"]
        )
        assert ran.exit_code == 2 and ran.stderr.startswith("error: steps must be at least 1"), ran.stderr


@pytest.mark.parametrize("command", ["depth", "normal", "generation", "depth-to-image", "speed"])
def test_missing_data_is_refused_before_torch_is_imported(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    ran = CliRunner().invoke(app, ["evaluate", command, "--shards", str(tmp_path), "--method", "jointnet:none"])
    assert ran.exit_code == 2 and ran.stderr.startswith(f"error: no complete shards in {tmp_path}"), ran.stderr
    if command == "generation":
        ran = CliRunner().invoke(app, ["evaluate", command, "--prompts", f"{tmp_path}/none.txt"])
        assert ran.exit_code == 2 and "none.txt" in ran.stderr, ran.stderr
