"""Which photos are meant: files, folders, patterns, or a list on stdin."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from glob import glob, has_magic
from pathlib import Path

from jointnet_cli.errors import UserError
from jointnet_cli.text_file import decode_text

PHOTO_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""What counts as a photo inside a folder; a file that is named itself may have any suffix."""


def list_photos(names: Iterable[str]) -> list[Path]:
    """The photos behind `names`, each once, in the order given; folders and patterns in sorted order.

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
        photos = sorted(child for child in path.iterdir() if child.suffix.lower() in PHOTO_SUFFIXES)
        if not photos:
            raise UserError(f"no photos in folder {path}", f"looked for {', '.join(sorted(PHOTO_SUFFIXES))}")
        return photos
    if has_magic(name):
        matches = map(Path, glob(name, recursive=True))  # noqa: PTH207 (Path.glob refuses absolute patterns)
        photos = sorted(match for match in matches if match.is_file())
        if not photos:
            raise UserError(f"no file matches {name}")
        return photos
    raise UserError(f"no file {path}")
