"""The one error type that a user's mistake raises."""

from __future__ import annotations


class UserError(Exception):
    """A fault in what the user asked for: an option, an input file, a recipe, a model folder.

    The command line prints `message` and, if given, a `hint:` line with the remedy, and exits with code 2.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint
