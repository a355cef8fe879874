"""Which files are read, what files are called, and where caches are."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import unicodedata
from collections.abc import Iterable
from glob import glob, has_magic
from importlib import resources
from pathlib import Path

from jointnet_cli.errors import UserError
from jointnet_cli.files.text import decode_text

SLUG_LENGTH = 48


def slug(text: str) -> str:
    """Lower-case ASCII words of `text` joined by dashes: at most 48 characters, cut between words, never empty."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    dashed = re.sub(r"[^a-z0-9]+", "-", ascii_text).strip("-")
    if len(dashed) > SLUG_LENGTH:
        head = dashed[: SLUG_LENGTH + 1]  # one more, so that a word which ends exactly at the limit survives
        dashed = head.rpartition("-")[0] or head[:SLUG_LENGTH]
    return dashed or "untitled"


def stem(index: int, seed: int, text: str) -> str:
    """Return the part that all files of one result share; `index` counts the items of a batch from 0."""
    return f"{index:05}_{seed}_{slug(text)}"


def check_free(paths: Iterable[Path], overwrite: bool) -> None:
    """Raise `UserError` where a path cannot be written: its folder is a file or read-only, or it exists already.

    An existing file is no fault with `overwrite`. Nothing is created: this runs before any model is loaded.
    """
    folders: set[Path] = set()
    for path in paths:
        folders.add(path.parent)
        if path.is_dir():
            raise UserError(f"{path} is a folder", hint="move it away, or choose another folder with --out")
        if path.exists() and not overwrite:
            raise UserError(f"{path} exists already", hint="add --overwrite, or choose another folder with --out")
    for folder in folders:
        existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
        if not existing.is_dir():
            raise UserError(f"{existing} is not a folder", hint="choose another folder with --out")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise UserError(f"{existing} cannot be written to", hint="choose another folder with --out")


IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".avif", ".heic")
"""Suffixes of photos in folders; of two files with one key the first in this order is read. A file that is named itself may
have any suffix."""


def list_photos(names: Iterable[str]) -> list[Path]:
    """Return the photos behind `names`, each once, in the order given; folders and patterns in sorted order.

    Raises:
        UserError: a name that leads to no file, or nothing at all.
    """
    found = dict.fromkeys(photo for name in _with_stdin(names) for photo in _expand(name))
    if not found:
        raise UserError("no photos", "name files, folders or patterns, or pipe paths in with -")
    return list(found)


def _with_stdin(names: Iterable[str]) -> Iterable[str]:
    for name in names:
        if name == "-":
            # As the file system has names: what is not UTF-8 stays what it is.
            lines = decode_text(sys.stdin.buffer.read(), "surrogateescape").split("\n")
            yield from (line.strip() for line in lines if line.strip())
        else:
            yield name


def _expand(name: str) -> list[Path]:
    path = Path(name)
    # A file whose own name holds brackets is that file, not a pattern.
    if path.is_file():
        return [path]
    if path.is_dir():
        photos = sorted(child for child in path.iterdir() if child.suffix.lower() in IMAGE_SUFFIXES)
        if not photos:
            raise UserError(f"no photos in folder {path}", f"looked for {', '.join(sorted(IMAGE_SUFFIXES))}")
        return photos
    if has_magic(name):
        matches = map(Path, glob(name, recursive=True))  # noqa: PTH207 (Path.glob refuses absolute patterns)
        photos = sorted(match for match in matches if match.is_file())
        if not photos:
            raise UserError(f"no file matches {name}")
        return photos
    raise UserError(f"no file {path}")


def cache_home() -> Path:
    """Return `$XDG_CACHE_HOME/jointnet`, by default `~/.cache/jointnet`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jointnet"


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def text_digest(text: str, digits: int = 12) -> str:
    """Return the first hexadecimal digits of the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def shipped_files() -> dict[str, Path]:
    """Return the recipes that come with the package, by name such as `diorama/base`."""
    # A wheel has `recipes/` inside of the package, a checkout beside it.
    installed = Path(str(resources.files("jointnet_cli"))) / "recipes"
    root = installed if installed.is_dir() else installed.parent.parent / "recipes"
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in sorted(root.rglob("*.toml"))}
