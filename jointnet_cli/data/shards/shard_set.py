"""Shards wherever they lie: which there are, how many samples each holds, and those samples from any one on."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from jointnet_cli.data.shards.format import (
    IMAGES,
    count_scattered,
    find_shards,
    overlooked_images,
    sample_count,
    stated_count,
    warn_of_overlooked,
    warn_of_scattered,
)
from jointnet_cli.data.shards.remote import BLOCK, RemoteFile, file_system, is_url, retrying
from jointnet_cli.errors import UserError
from jointnet_cli.files.atomic import write_text
from jointnet_cli.files.paths import cache_home
from jointnet_cli.files.text import to_json
from jointnet_cli.progress import Progress

Raw = dict[str, Any]
"""The undecoded members of a sample by their suffixes, and its `__key__`."""

_META = "__[^/]*__($|/)"
"""Names of metadata, which webdataset passes over."""


@dataclass(frozen=True)
class Shard:
    """A tar file and how many of its samples are used."""

    place: str
    """Path or URL."""
    count: int


def list_shards(source: str, *, evaluation: bool = False) -> list[str]:
    """The paths or URLs of shards: of a folder, of one tar file, or of a pattern with braces.

    Raises:
        UserError: there are none.
    """
    from webdataset.shardlists import expand_urls

    if "{" in source:
        places = [str(place) for place in expand_urls(source)]
        missing = [place for place in places if not is_url(place) and not Path(place).is_file()]
        if missing:
            raise UserError(f"no such shard: {missing[0]}", hint=f"{source} names {len(places)} shards")
        return places
    if not is_url(source):
        return [str(path) for path in find_shards(source, evaluation=evaluation)]
    return [source] if ".tar" in source.rpartition("/")[2] else _list_folder(source)


def count_samples(places: Sequence[str], progress: Progress | None = None) -> list[Shard]:
    """Shards with their counts: as their stats files have it, else counted once and kept in the cache folder.

    Only samples with an image count. `progress` is called with the shards done and their number.

    Raises:
        UserError: a shard cannot be read, or none has a sample.
    """
    stated = _stated(places)
    index = _Index()
    shards, overlooked, scattered = [], 0, 0
    for number, place in enumerate(places):
        count, lost, torn = (stated[place], 0, 0) if place in stated else index.count(place)
        shards.append(Shard(place, count))
        overlooked, scattered = overlooked + lost, scattered + torn
        if progress:
            progress(number + 1, len(places))
    named = f"{places[0]}{' …' if len(places) > 1 else ''}"
    warn_of_overlooked(overlooked, named)
    warn_of_scattered(scattered, named)
    if not sum(shard.count for shard in shards):
        raise UserError(f"no samples with an image in {named}")
    return shards


def limited(shards: Sequence[Shard], limit: int | None) -> list[Shard]:
    """The shards that hold the first `limit` samples, the last one cut short; all of them without a limit."""
    kept: list[Shard] = []
    left = sum(shard.count for shard in shards) if limit is None else limit
    for shard in shards:
        if left <= 0:
            break
        kept.append(Shard(shard.place, min(shard.count, left)))
        left -= shard.count
    return kept


def read_samples(place: str, start: int = 0) -> Iterator[Raw]:
    """Stream the samples of a shard that have an image, from one of them on; a local file is not read before there.

    Raises:
        UserError: the shard cannot be read, or is damaged.
    """
    begin = 0
    if start and not is_url(place):
        offsets, *_ = _offsets(place, Path(place).stat().st_mtime_ns)
        if start >= len(offsets):
            return
        begin, start = offsets[start], 0
    yield from islice((sample for sample in _all_samples(place, begin) if _has_image(sample)), start, None)


def _all_samples(place: str, begin: int = 0) -> Iterator[Raw]:
    """Stream the samples of a shard, those without an image too, from a byte on where one begins."""
    from webdataset.tariterators import group_by_keys, tar_file_iterator

    try:
        with _open(place) as stream:
            if begin:
                stream.seek(begin)
            yield from group_by_keys({"__url__": place, **member} for member in tar_file_iterator(stream))
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise UserError(f"{place} is damaged: {str(error.args[0]) if error.args else error}") from error
    except OSError as error:
        raise UserError(f"{place} cannot be read: {error.strerror or error}") from error


class _Index:
    """Counts of shards that have no stats, kept with the size and date of the file that was counted."""

    def __init__(self) -> None:
        self._path = cache_home() / "shard-counts.json"
        self._known: dict[str, list[Any]] | None = None

    def count(self, place: str) -> tuple[int, int, int]:
        """Count a shard's samples with an image, the images that no reader finds, and the samples that are torn apart."""
        if self._known is None:
            self._known = self._load()
        name, state = place if is_url(place) else str(Path(place).resolve()), _state_of(place)
        if name not in self._known or self._known[name][0] != state or len(self._known[name]) != 4:
            self._known[name] = [state, *_count(place)]
            self._save()
        _, count, lost, torn = self._known[name]
        return int(count), int(lost), int(torn)

    def _load(self) -> dict[str, list[Any]]:
        try:
            known = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

    def _save(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self._path, to_json(self._known))
        except OSError:  # without a cache folder it is counted again the next time
            return


def _count(place: str) -> tuple[int, int, int]:
    if is_url(place):
        count = lost = 0
        keys: Counter[str] = Counter()
        for sample in _all_samples(place):
            count += _has_image(sample)
            lost += len(overlooked_images(sample))
            keys[sample["__key__"]] += 1
        return count, lost, count_scattered(keys)
    try:
        begins, lost, torn = _offsets(place, Path(place).stat().st_mtime_ns)
        return len(begins), lost, torn
    except tarfile.TarError as error:
        raise UserError(f"{place} is damaged: {error}") from error


@lru_cache(maxsize=64)
def _offsets(place: str, changed: int) -> tuple[list[int], int, int]:
    """Where the samples of a local shard begin, in bytes; how many images no reader finds; how many samples are torn apart.

    Found by its headers alone; `changed` tells versions of a file apart.
    """
    from webdataset.tariterators import base_plus_ext

    begins: list[int] = []
    current: str | None = None
    suffixes: list[str] = []
    keys: Counter[str] = Counter()
    begin = lost = 0
    with tarfile.open(place, "r:") as tar:
        for info in tar:
            tar.members = []  # type: ignore[attr-defined]
            key, suffix = base_plus_ext(info.name)
            if not info.isreg() or key is None or re.match(_META, info.name):
                continue
            if key != current:
                lost += len(overlooked_images(suffixes))
                current, begin, suffixes = key, info.offset, []
                keys[key] += 1
            if suffix.lower() in IMAGES and not any(name in IMAGES for name in suffixes):
                begins.append(begin)
            suffixes.append(suffix.lower())
    return begins, lost + len(overlooked_images(suffixes)), count_scattered(keys)


def _open(place: str) -> BinaryIO:
    if is_url(place):
        return io.BufferedReader(RemoteFile(place), BLOCK)
    return Path(place).open("rb")


def _has_image(sample: Raw) -> bool:
    return any(name in sample for name in IMAGES)


def _list_folder(url: str) -> list[str]:
    """The shards of a folder elsewhere: the complete ones where there are stats files, else all."""
    system, path = file_system(url)
    hint = f"name them by a pattern: {url.rstrip('/')}/{{00000..00127}}.tar"
    try:
        names = {str(name) for name in retrying(url, lambda: system.ls(path, detail=False))}
    except (UserError, NotImplementedError) as error:
        raise UserError(f"the shards of {url} cannot be listed", hint=hint) from error
    shards = sorted(name for name in names if name.endswith(".tar"))
    complete = [name for name in shards if _stats_name(name) in names]
    if not shards:
        raise UserError(f"no shards in {url}", hint=hint)
    return [system.unstrip_protocol(name) for name in complete or shards]


def _stats_name(place: str) -> str:
    return place.removesuffix(".tar") + "_stats.json"


def _stated(places: Sequence[str]) -> dict[str, int]:
    """What stats files say, where there are any."""
    stated = {place: sample_count(Path(place)) for place in places if not is_url(place)}
    found = {place: number for place, number in stated.items() if number}
    remote = [place for place in places if is_url(place) and place.endswith(".tar")]
    if remote:
        system, _ = file_system(remote[0])
        stats = [file_system(_stats_name(place))[1] for place in remote]
        contents = retrying(remote[0], lambda: _read_all(system, stats))
        for place, path in zip(remote, stats, strict=True):
            number = _stated_count(contents.get(path, b""))
            if number is not None:
                found[place] = number
    return found


def _read_all(system: Any, paths: Sequence[str]) -> dict[str, bytes]:
    """The contents of small files, many at a time, without those that are not there."""
    answers: dict[str, Any] = system.cat(list(paths), on_error="return")
    for answer in answers.values():
        status = getattr(answer, "status", None) or 0
        absent = isinstance(answer, FileNotFoundError | PermissionError) or 400 <= status < 500
        if isinstance(answer, BaseException) and not absent:
            raise answer
    return {path: answer for path, answer in answers.items() if isinstance(answer, bytes)}


def _stated_count(content: bytes) -> int | None:
    try:
        return stated_count(json.loads(content))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _state_of(place: str) -> str:
    """What changes with a file."""
    if not is_url(place):
        status = Path(place).stat()
        return f"{status.st_size} {status.st_mtime_ns}"
    system, path = file_system(place)
    facts = retrying(place, lambda: system.info(path))
    return " ".join(str(facts.get(name)) for name in ("size", "ETag", "Last-Modified", "LastModified"))
