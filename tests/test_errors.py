from __future__ import annotations

import errno
import json
import os
import struct
import tokenize

import pytest

from jointnet_cli.errors import UserError, reading


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (struct.error("unpack requires a buffer of 8 bytes"), "it is cut off or damaged"),
        (KeyError("dataWindow"), "a part is missing or damaged"),
        (tokenize.TokenError("EOF in multi-line statement", (1, 0)), "('EOF in multi-line statement', (1, 0))"),
        (RecursionError("maximum recursion depth exceeded"), "it is nested too deeply"),
        (MemoryError(), "it needs more memory than there is"),
        (SyntaxError("not a PNG file"), "not a PNG file"),
        (OSError(errno.EIO, os.strerror(errno.EIO)), "Input/output error"),
        (RuntimeError(), "it is damaged"),
        (ValueError("line\nby  line" + "x" * 500), "line by line" + "x" * 188),
    ],
)
def test_every_fault_of_a_parser_names_the_file_and_the_cause(fault: Exception, cause: str) -> None:
    with pytest.raises(UserError) as caught, reading("a.exr", "mend it"):
        raise fault
    assert str(caught.value) == f"a.exr cannot be read: {cause}"
    assert caught.value.hint == "mend it" and caught.value.__cause__ is fault


@pytest.mark.parametrize(
    "fault",
    [UserError("said already"), OSError(errno.ENOSPC, "full"), BrokenPipeError(errno.EPIPE, ""), KeyboardInterrupt()],
)
def test_users_errors_full_disks_and_interrupts_pass(fault: BaseException) -> None:
    with pytest.raises(type(fault)) as caught, reading("a.exr"):
        raise fault
    assert caught.value is fault


def test_the_cause_can_be_stated() -> None:
    words = r"^a\.json cannot be read: it is no record$"
    with pytest.raises(UserError, match=words), reading("a.json", cause="it is no record"):
        json.loads("{")
