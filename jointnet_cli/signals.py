"""Signals that become exceptions, at once or at the end of a block."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Handler = Callable[[int, Any], None]


class Terminated(KeyboardInterrupt):
    """SIGTERM: the machine is wanted for something else."""


def interruption(number: int) -> KeyboardInterrupt:
    """Return the exception that a signal stands for."""
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()


@contextmanager
def raise_on_sigterm() -> Iterator[None]:
    """Let SIGTERM raise `Terminated` while entered, as Ctrl-C raises `KeyboardInterrupt`."""

    def stop(number: int, frame: Any) -> None:
        raise interruption(number)

    with _handling(stop, signal.SIGTERM):
        yield


@contextmanager
def defer_signals() -> Iterator[list[int]]:
    """Hold SIGINT and SIGTERM back until the block ends, then deliver the first; yields the numbers of those that came."""
    held: list[int] = []
    with _handling(lambda number, frame: held.append(number), signal.SIGINT, signal.SIGTERM):
        yield held
    if held:
        signal.raise_signal(held[0])


@contextmanager
def _handling(handler: Handler, *numbers: int) -> Iterator[None]:
    """Handle signals; outside the main thread, which alone gets them, do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
