"""Zip files of models, unpacked into the cache with distrust."""

from __future__ import annotations

import hashlib
import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath

from jointnet_cli.errors import UserError
from jointnet_cli.model.places import cache_home
from jointnet_cli.model.whole import whole_folder

SUFFIXES = {".json", ".txt", ".model", ".safetensors", ".bin"}
"""Files that models are made of; others are left in the archive."""
LIMIT = 64 * 2**30
"""Bytes that an archive may unpack to: more than any model here has."""


def unpack(archive: Path) -> Path:
    """The folder in the cache that holds a zip file's model; it is unpacked once.

    Raises:
        UserError: no zip file, or one with entries that lead out of its folder, links, or too much in it.
    """
    state = archive.stat()
    name = f"{archive.resolve()} {state.st_size} {state.st_mtime_ns}"
    folder = cache_home() / "archives" / f"{archive.stem}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    if not folder.is_dir():
        try:
            with zipfile.ZipFile(archive) as content, whole_folder(folder) as new:
                for entry in _trusted(content, archive):
                    _extract(content, entry, new)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise UserError(f"{archive} cannot be unpacked: {error}", hint="copy or download it again") from error
    return _root(folder)


def _trusted(content: zipfile.ZipFile, archive: Path) -> list[zipfile.ZipInfo]:
    """The files of a model in an archive, none of which leads out of it."""
    entries = [entry for entry in content.infolist() if not entry.is_dir()]
    for entry in entries:
        path = PurePosixPath(entry.filename)
        if path.is_absolute() or ".." in path.parts or "\\" in entry.filename or ":" in entry.filename:
            raise UserError(f"{archive} is refused: its entry {entry.filename} leads out of its folder")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise UserError(f"{archive} is refused: its entry {entry.filename} is a link")
    kept = [entry for entry in entries if PurePosixPath(entry.filename).suffix in SUFFIXES]
    if sum(entry.file_size for entry in kept) > LIMIT:
        raise UserError(f"{archive} is refused: it unpacks to more than {LIMIT // 2**30} GiB")
    return kept


def _extract(content: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path) -> None:
    # The reader stops at the entry's stated size, which `LIMIT` was compared with.
    target = folder.joinpath(*PurePosixPath(entry.filename).parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    with content.open(entry) as source, target.open("wb") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)


def _root(folder: Path) -> Path:
    """The folder itself, or the one folder that all of it is in."""
    children = list(folder.iterdir())
    return children[0] if len(children) == 1 and children[0].is_dir() else folder
