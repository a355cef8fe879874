"""Files and folders that appear whole or not at all, and locks between processes."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import platform
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from jointnet_cli.errors import UserError

_TEMPORARY = re.compile(r"\..*\.([0-9a-f]{4})-([0-9a-f]{1,8})-[0-9a-f]{4}(\.[^.]*)?", re.DOTALL)
"""Temporary names: their machine and process in hexadecimal. `FILE_NAME_BYTES` leaves room for them."""


def open_new(path: Path) -> BinaryIO:
    """Create a file for writing in place of what has its name. A link is removed, not followed."""
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o666), "wb")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; on success it takes the place of `path`, on any exception it is removed.

    The temporary name starts with a dot and keeps the suffix, because writers choose the format by it. The file
    is there, empty and new, with the permissions that any new file gets. There is no fsync: this guards against an interrupted
    program, not against a power cut.

    Raises:
        OSError: the disk is full, also where a library says so by another exception; with the name of `path`.
    """
    temporary = _temporary(path, path.stem, path.suffix)
    try:
        open_new(temporary).close()
        yield temporary
        follow_umask(temporary)
        temporary.replace(path)
    except Exception as fault:
        if (code := _storage_fault(fault)) is not None:
            raise OSError(code, os.strerror(code), str(path)) from fault
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _storage_fault(fault: Exception) -> int | None:
    """Return the error number of an exception that means a full or read-only disk; libraries in C++ raise no `OSError`."""
    codes = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
    if isinstance(fault, OSError) and fault.errno is not None:
        return fault.errno if fault.errno in codes else None
    return next((code for code in codes if os.strerror(code).lower() in str(fault).lower()), None)


def follow_umask(path: Path) -> None:
    """Give a file, or every file of a folder, the permissions of a new file; safetensors creates files with mode 0600."""
    mode = 0o666 & ~_umask()
    for file in path.rglob("*") if path.is_dir() else (path,):
        if file.is_file() and not file.is_symlink() and stat.S_IMODE(file.stat().st_mode) != mode:
            with suppress(OSError):  # some file systems have no permissions
                file.chmod(mode)


def _umask() -> int:
    try:  # to ask the system for it is to change it, also for other threads
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("Umask:")[2].split()[0], 8)
    except (OSError, ValueError, IndexError):
        mask = os.umask(0o077)
        os.umask(mask)
        return mask


def set_aside(path: Path) -> Path:
    """Rename a file or folder to `NAME.aside-1`, or the next free number, and return its new path."""
    kept = next(
        kept for number in count(1) if not os.path.lexists(kept := path.with_name(f"{path.name}.aside-{number}"))
    )
    return path.rename(kept)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 with `\\n` line ends, atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new empty folder beside `path`; on success it becomes `path`, on any exception it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path, path.name)
    temporary.mkdir()
    try:
        yield temporary
        follow_umask(temporary)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary(path: Path, stem: str, suffix: str = "") -> Path:
    """Return a temporary name beside `path`, after what killed processes left there has been removed."""
    remove_left(path.parent.absolute())
    return path.with_name(f".{stem}.{_machine()}-{os.getpid():x}-{uuid4().hex[:4]}{suffix}")


@cache
def remove_left(folder: Path) -> None:
    """Remove temporary files and folders whose process, on this machine, has ended. A process does it once a folder."""
    with suppress(OSError):
        for name in os.listdir(folder):  # noqa: PTH208
            owner = _TEMPORARY.fullmatch(name)
            if owner and owner[1] == _machine() and not _runs(int(owner[2], 16)):
                left = folder / name
                with suppress(OSError):
                    shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()


@cache
def _machine() -> str:
    """Return four hexadecimal digits for what makes a process number unique: machine and namespace of processes."""
    facts = [platform.node()]
    with suppress(OSError):
        facts.append(Path("/etc/machine-id").read_text(encoding="utf-8"))
    with suppress(OSError):
        facts.append(os.readlink("/proc/self/ns/pid"))  # noqa: PTH115
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:4]


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's
        return True
    return True


@contextmanager
def claim(path: Path) -> Iterator[Path | None]:
    """Yield the temporary name for the new content of `path`, or `None` while another process holds it.

    The caller renames the temporary file when it is whole; one that is still there at the end is removed. The name is
    always the same and its lock dies with its holder, so that the next process takes over what a killed one left.

    Raises:
        UserError: the name is a symbolic link.
    """
    partial = claim_path(path)
    try:
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as fault:
        if fault.errno != errno.ELOOP:
            raise
        raise UserError(f"{partial} is a symbolic link, which is not followed", hint="remove it") from fault
    try:
        yield partial if _locked(descriptor) and _is(partial, descriptor) else None
    finally:
        # Only the holder's own file: after its rename the name may be another's.
        if _locked(descriptor) and _is(partial, descriptor):
            partial.unlink()
        os.close(descriptor)


def make_once(path: Path, make: Callable[[], object]) -> None:
    """Make a file or folder that is missing. Of several processes that ask at once, one makes it and the others wait."""
    while not path.exists():
        with claim(path) as held:
            if held is None:
                time.sleep(0.1)
            elif not path.exists():
                make()


def claim_path(path: Path) -> Path:
    """Return the temporary name for the new content of `path`. Where it lies, a process is at it or was killed."""
    return path.with_name(f".{path.name}.writing")


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is(path: Path, descriptor: int) -> bool:
    """Return whether the open file still has that name: its former holder may have renamed it between open and lock."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
