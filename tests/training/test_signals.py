"""Ctrl-C is held back, delivered, and never lost."""

from __future__ import annotations

import shlex
import signal
import threading
from pathlib import Path

import pytest
import typer
from torch.optim.optimizer import register_optimizer_step_post_hook

from jointnet_cli.cli.train import RunOptions
from jointnet_cli.cli.train import train as command
from jointnet_cli.signals import Terminated, defer_signals, raise_on_sigterm
from jointnet_cli.training.checkpoints import Checkpoints

from .conftest import TINY, TRAIN


def test_ctrl_c_comes_after_the_block() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt), defer_signals():
        signal.raise_signal(signal.SIGINT)
        done.append("the rest of the block")
    assert done
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_inner_block_waits_for_the_outer() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt), defer_signals():
        with defer_signals():
            signal.raise_signal(signal.SIGINT)
        done.append("after the inner block")
    assert done


def test_without_ctrl_c_nothing_happens() -> None:
    with defer_signals():
        pass
    with pytest.raises(ValueError, match="mine"), defer_signals():
        raise ValueError("mine")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_pass_through() -> None:
    done: list[str] = []

    def work() -> None:
        with defer_signals():
            done.append("done")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == ["done"]


def test_sigterm_is_like_ctrl_c() -> None:
    done: list[str] = []
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated), raise_on_sigterm():
        with defer_signals() as held:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
            done.append("the rest of the block")
        done.append("after the block")
    assert done == ["the rest of the block"] and held == [signal.SIGTERM, signal.SIGINT]
    assert signal.getsignal(signal.SIGTERM) is before


def test_ctrl_c_says_what_is_saved_and_how_to_go_on(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hook = register_optimizer_step_post_hook(lambda *_: signal.raise_signal(signal.SIGINT))
    settings = [*TRAIN, *TINY["vae"]]
    try:
        with pytest.raises(typer.Exit) as caught:
            command("diorama/vae", overrides=settings, run=RunOptions(out=tmp_path, max_minutes=9))
    finally:
        hook.remove()
    assert caught.value.exit_code == 130
    *_, saved, again = capsys.readouterr().err.splitlines()
    assert saved == f"interrupted: step 1 is saved in {tmp_path}/state/000000001"
    words = shlex.split(again.removeprefix("continue with: "))
    assert words[:3] == ["jointnet", "train", "diorama/vae"] and words[-4:] == [
        "--max-minutes",
        "9",
        "--out",
        str(tmp_path),
    ]
    assert words[3:-4:2] == ["--set"] * len(settings) and words[4:-4:2] == settings


def test_a_run_that_is_terminated_saves_and_ends_with_143(workspace: Path, tmp_path: Path) -> None:
    hook = register_optimizer_step_post_hook(lambda *_: signal.raise_signal(signal.SIGTERM))
    try:
        with pytest.raises(typer.Exit) as caught:
            command("diorama/vae", overrides=[*TRAIN, *TINY["vae"]], run=RunOptions(out=tmp_path))
    finally:
        hook.remove()
    assert caught.value.exit_code == 143
    assert Checkpoints(tmp_path / "state", 1).newest() == 1


def test_a_run_that_cannot_go_on_ends_with_1(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoilt = [*TRAIN, *TINY["vae"], "train.learning_rate=1e30", "train.warmup_steps=0"]
    with pytest.raises(typer.Exit) as caught:
        command("diorama/vae", overrides=spoilt, run=RunOptions(out=tmp_path, quiet=True))
    assert caught.value.exit_code == 1
    said = capsys.readouterr()
    assert "no longer finite" in said.err and "hint: lower train.learning_rate" in said.err and said.out == ""
