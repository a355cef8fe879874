"""The error type of users' mistakes, faults of foreign files, messages of validation errors, and the nearest valid word."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

FATAL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EPIPE})
"""The disk or a quota is full, the disk is read-only, or nobody reads stdout any more."""


class UserError(Exception):
    """A fault in what the user asked for: an option, an input file, a recipe, a model folder.

    The command line prints `message` and, if given, a `hint:` line with the remedy, and exits with code 2.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


@contextmanager
def reading(name: object, hint: str | None = None, *, cause: str = "") -> Iterator[None]:
    """Turn whatever a parser raises for foreign data into a `UserError`, such as `a.exr cannot be read: it is cut off`.

    Parsers raise exceptions of any type for damaged files. A full disk (`FATAL_ERRNOS`), Ctrl-C and a `UserError` pass.

    Args:
        name: what is read, for the message: a path, or words such as `the record in a.png`.
        hint: the remedy.
        cause: why it cannot be read, where the exception's own words would mislead.
    """
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError as fault:
        part = "" if fault.filename in (None, name, str(name)) else f" cannot be read: {fault.filename}"
        raise UserError(f"{name}{part} does not exist", hint if part else None) from fault
    except IsADirectoryError as fault:
        raise UserError(f"{name} is a folder, not a file") from fault
    except Exception as fault:
        if isinstance(fault, OSError) and fault.errno in FATAL_ERRNOS:
            raise
        raise UserError(f"{name} cannot be read: {cause or _cause(fault)}", hint) from fault


_CAUSES: tuple[tuple[type[Exception], str], ...] = (
    (MemoryError, "it needs more memory than there is"),
    (RecursionError, "it is nested too deeply"),
    (EOFError, "it is cut off"),
    (struct.error, "it is cut off or damaged"),
    (UnicodeError, "its text is not in the expected encoding"),
    (LookupError, "a part is missing or damaged"),
    (TypeError, "a part is of the wrong type"),
    (AttributeError, "a part is of the wrong type"),
    (OverflowError, "it holds a number that is too large"),
)


def _cause(fault: Exception) -> str:
    """Return why foreign data cannot be read, in one line: plain words where those of the exception name no cause."""
    plain = next((words for kind, words in _CAUSES if isinstance(fault, kind)), "")
    stated = " ".join(str(getattr(fault, "strerror", None) or fault).split())[:200]
    return plain or stated or "it is damaged"


def closest(word: str, valid: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the valid word nearest to a wrong one; `None` if no likeness, from 0 to 1, reaches `cutoff`."""
    from difflib import get_close_matches

    words = list(valid)
    alike = [each for each in words if each.casefold() == word.casefold()]
    near = alike or get_close_matches(word, words, n=1, cutoff=cutoff)
    return near[0] if near else None


def did_you_mean(word: str, valid: Iterable[str]) -> str | None:
    """Return a hint that names the valid word nearest to a wrong one; `None` if none is near."""
    near = closest(word, valid)
    return f"did you mean {near}?" if near else None


def validation_error(where: str, details: Mapping[str, Any]) -> UserError:
    """Return one of pydantic's error details in plain words: `steps must be at least 1, got 0`.

    Args:
        where: the flag, column or key that holds the value.
        details: an entry of `ValidationError.errors()`.
    """
    message, expected, got = _validation_message(where, details)
    return UserError(message, did_you_mean(str(got), expected.replace(" or ", ", ").split(", ")))


def _validation_message(where: str, details: Mapping[str, Any]) -> tuple[str, str, Any]:
    """Return the message, what was expected, and the value."""
    kind, context = details["type"], details.get("ctx", {})
    if kind in ("missing", "missing_argument", "union_tag_not_found"):
        return f"{where} is missing", "", None
    if kind in ("value_error", "assertion_error"):
        return ": ".join(filter(None, (where, str(context["error"])))), "", None
    if "expected" in context or "expected_tags" in context:
        words = str(context.get("expected") or context["expected_tags"]).replace("'", "")
        expected = words if " or " in words else " or ".join(words.rsplit(", ", 1))
        got = context.get("tag", details["input"])
    else:
        bound = {name: _plain(value) for name, value in context.items()}
        unlisted = details["msg"].removeprefix("Input should be ").split(", ")[0]
        expected = _EXPECTED[kind].format_map(bound) if kind in _EXPECTED else unlisted
        got = details["input"]
    if got != got or str(got).strip(" +-").lower() == "nan":  # every bound refuses NaN
        expected = "a finite number"
    shown = repr(got)
    if len(shown) >= 80:
        shown = repr(f"{got[:40]}…") if isinstance(got, str) else type(got).__name__
    return f"{where} must be {expected}, got {shown}", expected, got


_EXPECTED = {
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float", "int_parsing_size"), "a whole number"),
    **dict.fromkeys(("float_parsing", "float_type"), "a number"),
    **dict.fromkeys(("bool_parsing", "bool_type"), "true or false"),
    **dict.fromkeys(("list_type", "tuple_type", "set_type"), "a list"),
    **dict.fromkeys(("dict_type", "mapping_type", "model_type", "dataclass_type"), "a table"),
    "string_type": "text",
    "finite_number": "a finite number",
    "greater_than_equal": "at least {ge}",
    "greater_than": "greater than {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
}
"""What a value must be, by pydantic's type of the error."""


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
