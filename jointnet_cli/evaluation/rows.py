"""What is measured against what: `NAME=KIND:VALUE`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from jointnet_cli.errors import UserError

_NAMED = re.compile(r"([^=:]+)=(.+)", re.DOTALL)
"""A name holds no colon, so that the `=` of a value, as in `jointnet:runs/a=b`, is not taken for a name's."""


class RowFault(UserError):
    """What all items of a row need is not there, such as its model: the command ends, and no item has failed."""


@contextmanager
def needed_by_all() -> Iterator[None]:
    """Faults in here are the row's.

    Raises:
        RowFault: instead of any UserError.
    """
    try:
        yield
    except UserError as fault:
        raise RowFault(str(fault), fault.hint) from fault


@dataclass(frozen=True)
class Row:
    """One row of a table."""

    name: str
    """What the table calls it."""
    kind: str
    """How its results come about."""
    value: str
    """A model, a folder, or what the kind needs; empty where it needs nothing."""

    @property
    def spec(self) -> str:
        """`KIND:VALUE`, which decides the row's results whatever it is called."""
        return f"{self.kind}:{self.value}" if self.value else self.kind


def parse_row(text: str, kinds: Collection[str]) -> Row:
    """`NAME=KIND:VALUE`, `KIND:VALUE` or `KIND`, where KIND is one of `kinds`.

    Raises:
        UserError: another kind, with the nearest of `kinds`.
    """
    named = _NAMED.fullmatch(text)
    name, spec = named.groups() if named else (text, text)
    kind, _, value = spec.partition(":")
    if kind not in kinds:
        near = difflib.get_close_matches(kind, kinds, n=1)
        known = "the kinds are " + ", ".join(sorted(kinds))
        raise UserError(f"row {text}: no kind {kind!r}", hint=f"did you mean {near[0]}?" if near else known)
    return Row(name, kind, value)


def parse_rows(texts: Collection[str], kinds: Collection[str]) -> list[Row]:
    """All rows of a command.

    Raises:
        UserError: one is wrong, or two have one name.
    """
    rows = [parse_row(text, kinds) for text in texts]
    names = [row.name for row in rows]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"two rows are called {twice}", hint="name them: NAME=KIND:VALUE")
    return rows
