"""The one error type that a user's mistake raises, and hints at the nearest valid word."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(Exception):
    """A fault in what the user asked for: an option, an input file, a recipe, a model folder.

    The command line prints `message` and, if given, a `hint:` line with the remedy, and exits with code 2.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


def closest(word: str, valid: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the valid word nearest to a wrong one; `None` if no likeness, from 0 to 1, reaches `cutoff`."""
    from difflib import get_close_matches

    near = get_close_matches(word, list(valid), n=1, cutoff=cutoff)
    return near[0] if near else None


def did_you_mean(word: str, valid: Iterable[str]) -> str | None:
    """Return a hint that names the valid word nearest to a wrong one; `None` if none is near."""
    near = closest(word, valid)
    return f"did you mean {near}?" if near else None
