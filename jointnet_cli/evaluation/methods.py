"""What predicts in an evaluation, and how it is named."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.errors import UserError, did_you_mean
from jointnet_cli.sampling.presets import Sampling

_NAMED = re.compile(r"([^=:]+)=(.+)", re.DOTALL)
"""A name holds no colon, so that the `=` of a value, as in `jointnet:runs/a=b`, is not taken for a name's."""


@dataclass(frozen=True)
class MethodSpec:
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


def parse_row(text: str, kinds: Collection[str]) -> MethodSpec:
    """`NAME=KIND:VALUE`, `KIND:VALUE` or `KIND`, where KIND is one of `kinds`.

    Raises:
        UserError: another kind, with the nearest of `kinds`.
    """
    named = _NAMED.fullmatch(text)
    name, spec = named.groups() if named else (text, text)
    kind, _, value = spec.partition(":")
    if kind not in kinds:
        known = "the kinds are " + ", ".join(sorted(kinds))
        raise UserError(f"row {text}: no kind {kind!r}", hint=did_you_mean(kind, kinds) or known)
    return MethodSpec(name, kind, value)


def parse_rows(texts: Collection[str], kinds: Collection[str]) -> list[MethodSpec]:
    """All rows of a command.

    Raises:
        UserError: one is wrong, or two have one name.
    """
    rows = [parse_row(text, kinds) for text in texts]
    names = [row.name for row in rows]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"two rows are called {twice}", hint="name them: NAME=KIND:VALUE")
    return rows


@dataclass(frozen=True)
class ImageRequest:
    """One picture that is wanted."""

    prompt: str
    seed: int
    disparity: NDArray[np.float32] | None = None
    """(H, W) in [0, 1], near = 1: the depth that the picture is painted for."""


@dataclass(frozen=True)
class GeneratedImage:
    """One picture that was made."""

    image: NDArray[np.float32]
    """(H, W, 3) sRGB in [0, 1]."""
    disparity: NDArray[np.float32] | None
    """(H, W) in [0, 1], near = 1, where the method makes it too."""
    settings: dict[str, Any]
    """How it was made, ready for JSON."""


@dataclass(frozen=True)
class Making:
    """How all rows make their pictures; what is `None` is the model's own default."""

    sampling: Sampling = field(default_factory=Sampling)
    device: str | None = None
    dtype: str | None = None


class Maker(Protocol):
    """Makes the pictures of a row; loads its model when the first is wanted."""

    @property
    def identity(self) -> str:
        """What tells its pictures from those of any other model or settings."""
        ...

    def __call__(self, wish: ImageRequest) -> GeneratedImage:
        """Raises UserError: a picture that it cannot make, or a model that cannot be loaded."""
        ...
