"""How long work reports what it has done."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with what is done and how much there is to do."""
