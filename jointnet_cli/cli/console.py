"""What the terminal sees beside the data: progress and faults on stderr, and the exit code."""

from __future__ import annotations

import codecs
import errno
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BufferedWriter, FileIO, TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from jointnet_cli.errors import FATAL_ERRNOS, UserError
from jointnet_cli.files.text import escaped, escaped_line, escaped_streams, print_paths, to_json, unescaped
from jointnet_cli.progress import PHASES, PhaseProgress, Progress

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar

RUN_FAILED = 1
USER_FAULT = 2
INTERRUPTED = 130
_NAMING_ERRNOS = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.EPERM}
)
"""A name leads to no file, or to one that must not be used."""

T = TypeVar("T")


def stderr() -> Console:
    """Return a console on stderr; rich drops colour and animation off a terminal and honours `NO_COLOR`.

    It escapes the texts of everything that it shows, before it lays them out.
    """
    from rich.console import Console
    from rich.segment import Segment

    class EscapingConsole(Console):
        def render(self, *args: Any, **options: Any) -> Iterable[Segment]:
            for text, style, control in super().render(*args, **options):
                yield Segment(text if control else escaped(text), style, control)

    return EscapingConsole(file=unescaped(sys.stderr), highlight=False, soft_wrap=True)


def error(message: str, hint: str | None = None) -> None:
    """Print `error: message` and, if there is one, `hint: …` on stderr."""
    from rich.text import Text

    console = stderr()
    console.print(Text.assemble(("error: ", "bold red"), escaped_line(message)))
    if hint:
        console.print(Text.assemble(("hint: ", "bold cyan"), escaped_line(hint)))


def note(message: str, quiet: bool = False) -> None:
    """Print one line about the run on stderr."""
    if not quiet:
        stderr().print(escaped_line(message), markup=False)


def debugging() -> bool:
    """Return whether the user asked for tracebacks (`JOINTNET_DEBUG=1`)."""
    return os.environ.get("JOINTNET_DEBUG", "0") not in ("", "0")


def silence_libraries() -> None:
    """Keep the warnings and loading bars of libraries off stderr, which they write to even when it is no terminal."""
    if debugging():
        return
    warnings.simplefilter("ignore")
    for library in ("transformers", "diffusers"):
        # The variable is read when the library is imported, the logger counts where it has been already.
        os.environ.setdefault(f"{library.upper()}_VERBOSITY", "error")
        logging.getLogger(library).setLevel(logging.ERROR)
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # the damage is reported as an error
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def report_error(fault: BaseException, prefix: str = "", *, hint: bool = True) -> None:
    """Print one line for an exception of any kind, its hint, and with `JOINTNET_DEBUG=1` its traceback."""
    if debugging():
        traceback.print_exception(fault)
    if isinstance(fault, UserError):
        error(f"{prefix}{fault}", fault.hint if hint else None)
    elif isinstance(fault, OSError) and fault.strerror:
        place = f": {fault.filename}" if fault.filename else ""
        error(f"{prefix}{fault.strerror}{place}")
    else:
        detail = f": {fault}" if str(fault) else ""
        error(f"{prefix}unexpected {type(fault).__name__}{detail}", "JOINTNET_DEBUG=1 shows where it happened")


def _is_users(fault: Exception) -> bool:
    """Return whether a fault lies in what the user asked for."""
    return isinstance(fault, UserError) or (isinstance(fault, OSError) and fault.errno in _NAMING_ERRNOS)


def for_each(
    things: Iterable[T],
    work: Callable[[T], None],
    *,
    label: Callable[[T], str],
    stops: Callable[[Exception, T], bool] = lambda fault, thing: False,
) -> list[Exception]:
    """Work on one thing after the other and return the faults; a fault of one does not stop the others.

    A hint that the fault before had is not printed again.

    Args:
        things: what is worked on.
        work: done with each.
        label: what its fault is reported with.
        stops: whether the next thing would fail in the same way, so that a fault is raised.

    Raises:
        Exception: a fault that stops the run: those, a full disk, or a reader of stdout that has gone away.
    """
    faults: list[Exception] = []
    for thing in things:
        try:
            work(thing)
        except Exception as fault:
            if (isinstance(fault, OSError) and fault.errno in FATAL_ERRNOS) or stops(fault, thing):
                raise
            last = getattr(faults[-1], "hint", None) if faults else None
            report_error(fault, prefix=label(thing), hint=getattr(fault, "hint", None) != last)
            faults.append(fault)
    return faults


def exit_with(faults: Sequence[Exception], count: int) -> None:
    """End the command with a code where some of `count` things failed.

    Raises:
        typer.Exit: 1 if some failed, 2 if all failed by mistakes of the user.
    """
    if faults:
        unusable = [fault for fault in faults if _is_users(fault)]
        raise typer.Exit(USER_FAULT if len(unusable) == count else RUN_FAILED)


def print_result(line: Mapping[str, Any], paths: Iterable[Path], as_json: bool) -> None:
    """Print one result on stdout: its paths, or its line of JSON."""
    if as_json:
        print(to_json(line, ensure_ascii=False), flush=True)
    else:
        print_paths(*paths)


@escaped_streams()
def run_guarded(run: Callable[[], int]) -> int:
    """Return the exit code of a run, with every exception reported as one line on stderr.

    0 done, 1 the run or some items failed, 2 the user's fault, 130 Ctrl-C. A reader of stdout that goes away
    (`| head`) ends the run with 1 and no words.
    """
    try:
        code = run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        note("interrupted")
        code = INTERRUPTED
    except BrokenPipeError:
        code = RUN_FAILED
    except Exception as fault:
        report_error(fault)
        code = USER_FAULT if _is_users(fault) else RUN_FAILED
    try:
        sys.stdout.flush()
    except OSError:  # the interpreter would fail once more on its way out
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


class _Unfailing(FileIO):
    """A file whose failed writes are lost in silence: a run does not end because nobody reads its notes."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def open_streams() -> None:
    """Open streams that the caller closed (`>&-`), and let stderr and characters not fail.

    What stderr cannot write is lost. `print_paths` can print file names that are not UTF-8, and characters that the
    encoding of a stream lacks become escapes.
    """
    codecs.register_error("printable", _encode_printable)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8"))  # noqa: PTH123, SIM115
    raw = BufferedWriter(_Unfailing(2, "wb", closefd=False))
    sys.stderr = TextIOWrapper(raw, encoding=sys.stderr.encoding, errors="printable", line_buffering=True)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="printable")


def _encode_printable(fault: UnicodeError) -> tuple[str | bytes, int]:
    try:
        return codecs.lookup_error("surrogateescape")(fault)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(fault)


@contextmanager
def progress(description: str, quiet: bool = False) -> Iterator[Progress]:
    """Show a progress bar on a terminal; it spins until the first step is reported and disappears afterwards."""
    with _bar(quiet) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def phase_progress(title: str, quiet: bool = False) -> Iterator[PhaseProgress]:
    """Show the phases of one result on a terminal, one bar after the other."""
    with _bar(quiet) as bar:

        def show(phase: str, done: int, total: int) -> None:
            if total == 0:  # a phase begins
                for task in bar.task_ids:
                    bar.remove_task(task)
                bar.add_task(f"{title}: {PHASES[phase]}", total=None)
            else:
                bar.update(bar.task_ids[-1], completed=done, total=total)

        yield show


def _bar(quiet: bool) -> Bar:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    console = stderr()
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal)
