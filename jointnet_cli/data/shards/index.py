"""Find shards on this machine and on others, count their samples, and read a shard from any sample on."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from jointnet_cli.data.shards.archive import StrictTarInfo, headers, is_metadata, open_tar, scan
from jointnet_cli.data.shards.format import IMAGES, Faults, complete_shards, read_stats, stated_count, stats_path
from jointnet_cli.data.shards.remote import BLOCK, RemoteFile, file_system, is_url, read_small, retrying
from jointnet_cli.errors import UserError, reading
from jointnet_cli.files.atomic import write_text
from jointnet_cli.files.paths import cache_home
from jointnet_cli.files.text import from_json, load_object, open_regular, to_json
from jointnet_cli.progress import Progress

Raw = dict[str, Any]
"""The undecoded members of a sample by their suffixes, and its `__key__`."""


@dataclass(frozen=True)
class Shard:
    """A tar file and how many of its samples are used."""

    location: str
    """Path or URL."""
    count: int
    sha256: str = ""
    """The digest that its stats file states, if there is one."""


def list_shards(source: str | Path, *, evaluation: bool = False) -> list[str]:
    """List the paths or URLs of shards: of a folder, of one tar file, or of a pattern with braces.

    With `evaluation` the hint of a fault makes worlds with reserved seeds.

    Raises:
        UserError: there are none.
    """
    source = str(source)
    if "{" in source:
        from webdataset.shardlists import expand_urls

        locations = [str(location) for location in expand_urls(source)]
        missing = [location for location in locations if not is_url(location) and not Path(location).is_file()]
        if missing:
            raise UserError(f"no such shard: {missing[0]}", hint=f"{source} names {len(locations)} shards")
        return locations
    if is_url(source):
        return [source] if ".tar" in source.rpartition("/")[2] else _list_folder(source)
    root = Path(source)
    shards = [root] if root.suffix == ".tar" and root.is_file() else complete_shards(root)
    if not shards:
        reserved = "--evaluation --count 512" if evaluation else "--count 1000"
        hint = f"make some: jointnet prepare worlds {reserved} --out {root}"
        if unfinished := sorted(root.glob("*.tar")):
            shard, stats = unfinished[0].name, stats_path(unfinished[0]).name
            hint = (
                f'{shard} has no {stats}: finish it with `jointnet prepare`, or write {{"count": SAMPLES}} to that file'
            )
        raise UserError(f"no complete shards in {root}", hint=hint)
    return list(map(str, shards))


def count_samples(locations: Sequence[str], progress: Progress | None = None) -> list[Shard]:
    """Count the samples with an image, by stats files or else by reading once; counts are kept in the cache folder.

    Raises:
        UserError: a shard cannot be read, or none has a sample.
    """
    stated, counts, faults = _stated(locations), _Counts(), Faults()
    shards = []
    for number, location in enumerate(locations):
        if location in stated:
            shards.append(stated[location])
        else:
            count, overlooked, scattered = counts.count(location)
            shards.append(Shard(location, count))
            faults.overlooked += overlooked
            faults.scattered += scattered
        if progress:
            progress(number + 1, len(locations))
    named = f"{locations[0]}{' …' if len(locations) > 1 else ''}"
    faults.warn(named)
    if not sum(shard.count for shard in shards):
        raise UserError(f"no samples with an image in {named}")
    return shards


def too_few_samples(shard: Shard, found: int) -> UserError:
    """Return the fault of a shard whose stats state more samples than it has."""
    return UserError(
        f"{shard.location} has {found} samples with an image rather than {shard.count}",
        hint="make it again, or remove its stats file to have it counted",
    )


def read_samples(location: str, start: int = 0) -> Iterator[Raw]:
    """Stream the samples of a shard that have an image, from one of them on; a local file is not read before there.

    Raises:
        UserError: the shard cannot be read, or is damaged.
    """
    begin = 0
    if start and not is_url(location):
        offsets, _ = _offsets(location, Path(location).stat().st_mtime_ns)
        if start >= len(offsets):
            return
        begin, start = offsets[start], 0
    yield from islice((sample for sample in _all_samples(location, begin) if _has_image(sample)), start, None)


def _all_samples(location: str, begin: int = 0) -> Iterator[Raw]:
    """Stream the samples of a shard, those without an image too, from a byte on where one begins."""
    from webdataset.tariterators import group_by_keys

    def members(tar: tarfile.TarFile) -> Iterator[dict[str, Any]]:
        for info in headers(tar):
            if info.isreg() and not is_metadata(info.name) and (file := tar.extractfile(info)):
                yield {"__url__": location, "fname": info.name, "data": file.read()}

    with reading(location):
        try:
            with _open(location) as stream:
                if begin:
                    stream.seek(begin)
                with tarfile.open(fileobj=stream, mode="r|*", tarinfo=StrictTarInfo) as tar:
                    yield from group_by_keys(members(tar))
        except (tarfile.TarError, ValueError, EOFError) as error:
            raise UserError(f"{location} is damaged: {str(error.args[0]) if error.args else error}") from error


class _Counts:
    """Counts of shards that have no stats, kept with the size and date of the file that was counted."""

    def __init__(self) -> None:
        self._path = cache_home() / "shard-counts.json"
        self._known: dict[str, list[Any]] | None = None

    def count(self, location: str) -> tuple[int, int, int]:
        """Return the samples of a shard that have an image, and its `Faults`: overlooked images, scattered samples."""
        if self._known is None:
            self._known = load_object(self._path)
        name, state = location if is_url(location) else str(Path(location).resolve()), state_of(location)
        if not _is_count_of(self._known.get(name), state):
            self._known[name] = [state, *_count(location)]
            self._save()
        _, count, overlooked, scattered = self._known[name]
        return count, overlooked, scattered

    def _save(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self._path, to_json(self._known))
        except OSError:  # without a cache folder it is counted again the next time
            return


def _is_count_of(entry: Any, state: str) -> bool:
    whole = isinstance(entry, list) and len(entry) == 4 and entry[0] == state
    return whole and all(isinstance(number, int) for number in entry[1:])


def _count(location: str) -> tuple[int, int, int]:
    if is_url(location):
        count, faults = 0, Faults()
        for sample in _all_samples(location):
            count += _has_image(sample)
            faults.note(sample["__key__"], sample)
    else:
        begins, faults = _offsets(location, Path(location).stat().st_mtime_ns)
        count = len(begins)
    return count, faults.overlooked, faults.scattered


@lru_cache(maxsize=64)
def _offsets(location: str, changed: int) -> tuple[list[int], Faults]:
    """Return the offsets in bytes of a local shard's samples with an image; `changed` tells versions of a file apart."""
    begins, faults = [], Faults()
    with open_tar(location) as tar:
        for key, members in scan(tar):
            faults.note(key, members)
            if _has_image(members):
                begins.append(min(info.offset for info in members.values()))
    return begins, faults


def _open(location: str) -> BinaryIO:
    if is_url(location):
        return io.BufferedReader(RemoteFile(location), BLOCK)
    return open_regular(location)


def _has_image(sample: Collection[str]) -> bool:
    return any(name in sample for name in IMAGES)


def _list_folder(url: str) -> list[str]:
    """Return the shards of a folder elsewhere: the complete ones where there are stats files, else all."""
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


def _stats_name(location: str) -> str:
    return location.removesuffix(".tar") + "_stats.json"


def _stated(locations: Sequence[str]) -> dict[str, Shard]:
    """Return what stats files say, where there are any."""
    local = {location: read_stats(Path(location)) for location in locations if not is_url(location)}
    shards = [_shard(location, stats) for location, stats in local.items() if stats]
    found = {shard.location: shard for shard in shards if shard.count}
    remote = [location for location in locations if is_url(location) and location.endswith(".tar")]
    if remote:
        for location, content in zip(remote, read_small([_stats_name(each) for each in remote]), strict=True):
            if content is not None and (shard := _remote_shard(location, content)) is not None:
                found[location] = shard
    return found


def _remote_shard(location: str, content: bytes) -> Shard | None:
    try:
        shard = _shard(location, from_json(content))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None
    return shard if shard.count >= 0 else None


def _shard(location: str, stats: Mapping[str, Any]) -> Shard:
    return Shard(location, stated_count(stats), str(stats.get("sha256", "")))


def state_of(location: str) -> str:
    """Return what changes with a file."""
    if not is_url(location):
        status = Path(location).stat()
        return f"{status.st_size} {status.st_mtime_ns}"
    system, path = file_system(location)
    facts = retrying(location, lambda: system.info(path))
    return " ".join(str(facts.get(name)) for name in ("size", "ETag", "Last-Modified", "LastModified"))
