"""Which files are read, what files are called, and where caches are."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import unicodedata
from collections.abc import Iterable
from glob import escape, glob, has_magic
from importlib import resources
from pathlib import Path

from jointnet_cli.errors import UserError
from jointnet_cli.files.text import UNPRINTABLE, decode_text, open_regular

SLUG_LENGTH = 48
"""Characters of a slug at most; also at most three times as many bytes."""
NAME_BYTES = 160
"""Bytes of the part of a file name that a user's text decides: endings and a temporary prefix fit into 255 with it."""
FILE_NAME_BYTES = 255 - len("..0123-01234567-0123")
"""Bytes of a file name at most: common file systems hold 255, which the temporary name of `atomic_file` fits into."""

_UNSAFE = re.compile(rf'{UNPRINTABLE.pattern}|[\t\n<>:"/\\|?*]')


def slug(text: str) -> str:
    """Return lower-case words of `text` joined by dashes, in any script: at most 48 characters, cut between words, never
    empty."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())
    words = "".join(mark if unicodedata.category(mark)[0] in "LMN" else "-" for mark in folded)
    dashed = re.sub("-+", "-", words).strip("-")
    if len(dashed) > SLUG_LENGTH:
        head = dashed[: SLUG_LENGTH + 1]  # one more, so that a word which ends exactly at the limit survives
        dashed = head.rpartition("-")[0] or _cut(dashed, SLUG_LENGTH, 4 * SLUG_LENGTH)
    return _cut(dashed, SLUG_LENGTH, 3 * SLUG_LENGTH).strip("-") or "untitled"


def safe_name(text: str) -> str:
    """Return `text` as a file name that every common file system takes: NFC, at most 160 bytes, never empty.

    Characters that some file system forbids become `_`; a leading dot, which hides a file, too.
    """
    name = _UNSAFE.sub("_", unicodedata.normalize("NFC", text)).strip(" ")
    name = "_" + name[1:] if name.startswith(".") else name
    return _cut(name, NAME_BYTES, NAME_BYTES).rstrip(" .") or "untitled"


def _cut(text: str, characters: int, size: int) -> str:
    """Return the beginning of a text within a number of characters and of bytes in UTF-8, whole with combining marks."""
    end = min(len(text), characters)
    while len(text[:end].encode()) > size:
        end -= 1
    while 0 < end < len(text) and unicodedata.category(text[end])[0] == "M":
        end -= 1
    return text[:end]


def check_free(paths: Iterable[Path], overwrite: bool) -> None:
    """Raise `UserError` where a path cannot be written: its folder is a file or read-only, or it exists already.

    An existing file is no fault with `overwrite`. Nothing is created: this runs before any model is loaded.
    """
    folders: set[Path] = set()
    for path in paths:
        folders.add(path.parent)
        if (size := len(os.fsencode(path.name))) > FILE_NAME_BYTES:
            raise UserError(f"the file name {path.name} has {size} bytes; {FILE_NAME_BYTES} are possible", "shorten it")
        if path.is_dir():
            raise UserError(f"{path} is a folder", hint="move it away, or choose another folder with --out")
        if path.exists() and not overwrite:
            raise UserError(f"{path} exists already", hint="add --overwrite, or choose another folder with --out")
    for folder in folders:
        check_folder(folder)


def check_folder(folder: Path, hint: str = "choose another folder with --out") -> None:
    """Raise `UserError` where a folder cannot be made or written into. Nothing is created."""
    existing = next(parent for parent in (folder, *folder.absolute().parents) if os.path.lexists(parent))
    if not existing.is_dir():
        raise UserError(f"{existing} is not a folder", hint)
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"{existing} cannot be written to", hint)


IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".avif", ".heic", ".heif")
"""Suffixes of photos in folders; of two files with one key the first in this order is read. A file that is named itself may
have any suffix."""

SIDECAR = ".metadata.json"
LAYER = ".layer.exr"
"""Endings of a result's record and of the second layer of its scene."""
OUTPUT_ENDINGS = (
    *(f".{name}{end}.png" for name in ("depth", "normal") for end in ("", "-uncertainty")),
    *(".preview.png", ".sbs.png", ".180_LR.jpg", ".360_TB.jpg", LAYER),
    *(f".mesh.{name}.png" for name in ("front", "behind", "sky")),
)
"""Endings of the names of a result's raster files, apart from its image."""


def list_photos(names: Iterable[str]) -> list[Path]:
    """Return the photos behind `names`, each once, in the order given; folders and patterns in sorted order.

    Raises:
        UserError: a name that leads to no file, or nothing at all.
    """
    found = dict.fromkeys(photo for name in _with_stdin(names) for photo in _expand(name))
    if not found:
        raise UserError("no photos", "name files, folders or patterns, or pipe paths in with -")
    return list(found)


def is_output(path: Path) -> bool:
    """Return whether a file is a raster of a result whose sidecar or EXR lies beside it: a map, preview, texture and so on."""
    ending = next((ending for ending in OUTPUT_ENDINGS if path.name.endswith(ending)), None)
    if ending is None:
        return False
    name = path.name.removesuffix(ending)
    return path.with_name(name + SIDECAR).is_file() or any(path.parent.glob(f"{escape(name)}.rgb*.exr"))


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
    if any(len(os.fsencode(part)) > 255 for part in path.parts):
        raise UserError(f"no file {name[:40]}…", "a name of a file has at most 255 bytes")
    # A file whose own name holds brackets is that file, not a pattern.
    if path.is_file():
        return [path]
    if path.is_dir():
        children = (child for child in path.iterdir() if not child.name.startswith("."))
        photos = sorted(child for child in children if child.suffix.lower() in IMAGE_SUFFIXES)
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


def is_below(path: Path | str, roots: Iterable[Path]) -> bool:
    """Return whether a file lies, behind all links, in one of some folders, which have no links in their own paths.

    Raises:
        OSError, ValueError, RuntimeError: a path that no file can have.
    """
    place = Path(path).resolve()
    return any(place.is_relative_to(root) for root in roots)


def cache_home() -> Path:
    """Return `$XDG_CACHE_HOME/jointnet`, by default `~/.cache/jointnet`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jointnet"


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    with open_regular(path) as stream:
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
