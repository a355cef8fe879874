"""A file is rewritten by one process at a time, and a process that was killed leaves nothing that stays."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def claim(path: Path) -> Iterator[Path | None]:
    """Yield the temporary name for the new content of `path`, or `None` while another process holds it.

    The caller renames the temporary file when it is whole; one that is still there at the end is removed. The name is
    always the same and its lock dies with its holder, so that the next process takes over what a killed one left.
    """
    partial = claim_path(path)
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield partial if _lock(descriptor) and _is(partial, descriptor) else None
    finally:
        # Only the holder's own file: after its rename the name may be another's.
        if _lock(descriptor) and _is(partial, descriptor):
            partial.unlink()
        os.close(descriptor)


def claim_path(path: Path) -> Path:
    """The temporary name for the new content of `path`. Where it lies, a process is at it or was killed."""
    return path.with_name(f".{path.name}.writing")


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is(path: Path, descriptor: int) -> bool:
    """Whether the open file still has that name: its former holder may have renamed it between open and lock."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
