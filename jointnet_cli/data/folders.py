"""Tables of the images in folders and in shards, which are filtered like any other table."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from jointnet_cli.data.rows import HIDDEN, OFFSET, RESULTS, SIZE, TAR
from jointnet_cli.data.shards.archive import open_tar, scan
from jointnet_cli.data.shards.format import Faults, record_caption
from jointnet_cli.data.source_files import SOURCE_SUFFIXES
from jointnet_cli.errors import UserError, reading
from jointnet_cli.files.paths import is_below
from jointnet_cli.files.text import decode_text, from_json, read_bytes, to_json, warn

EARLIER = frozenset(RESULTS) - {"width", "height"}
"""What an earlier download said of its own results; width and height are those of the image that is there."""

Scalar = str | int | float | bool | None


def write_index(entries: Iterable[dict[str, Scalar]], path: Path) -> None:
    """Write a table of images, one JSON object a line.

    Raises:
        UserError: there is none.
    """
    count = 0
    with path.open("w", encoding="utf-8", errors="replace") as file:  # names of files may be no text
        for entry in entries:
            file.write(to_json(entry, ensure_ascii=False) + "\n")
            count += 1
    if not count:
        raise UserError("there are no images in the source", hint=f"images are {', '.join(sorted(SOURCE_SUFFIXES))}")


def images_below(places: Iterable[Path]) -> Iterator[dict[str, Scalar]]:
    """Yield images, and every image below folders in the order of its path, captioned by the `.txt` or `.json` beside it."""
    garbled: list[str] = []
    outside: list[Path] = []
    places = list(places)
    roots = [(place if place.is_dir() else place.parent).resolve() for place in places]

    def usable(path: Path) -> bool:
        """Return whether a file is there, and note one that is a link out of the folders that were named."""
        if not path.is_file():
            return False
        if not (inside := is_below(path, roots)):
            outside.append(path)
        return inside

    for place in places:
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            hidden = any(part.startswith(".") for part in path.relative_to(place).parts)
            if path.suffix.lower() not in SOURCE_SUFFIXES or hidden or not (path == place or usable(path)):
                continue
            text, record = path.with_suffix(".txt"), path.with_suffix(".json")
            has_text = usable(text)
            fields = _record(read_bytes(record), str(record), caption_needed=not has_text) if usable(record) else {}
            caption = _text(read_bytes(text), str(text), garbled) if has_text else record_caption(fields, str(record))
            yield {**fields, "url": str(path.resolve()), "caption": caption}
    _warn_of_garbled(garbled)
    if outside:
        warn(
            f"{len(outside)} files are links out of the folders that were named, such as {outside[0]}: they are "
            "left out",
            "copy the files, or name the folder where they lie",
        )


def images_in_shards(shards: Iterable[Path]) -> Iterator[dict[str, Scalar]]:
    """Yield every image in tar files, with its caption, the plain values of its record, and where its bytes lie."""
    garbled: list[str] = []
    for shard in shards:
        faults = Faults()
        with open_tar(shard) as tar:
            for key, sample in scan(tar):
                faults.note(key, sample)
                yield from _image_of(tar, shard, key, sample, garbled)
        faults.warn(shard)
    _warn_of_garbled(garbled)


def _image_of(
    tar: tarfile.TarFile, shard: Path, key: str, sample: dict[str, tarfile.TarInfo], garbled: list[str]
) -> Iterator[dict[str, Scalar]]:
    image = next((sample[name] for name in sample if f".{name}" in SOURCE_SUFFIXES), None)
    if image is None:
        return
    fields: dict[str, Scalar] = {}
    if "json" in sample:
        data = _read(tar, sample["json"])
        fields = _record(data, f"{shard}: {key}.json", caption_needed="txt" not in sample)
    fields = {name: value for name, value in fields.items() if name not in EARLIER}
    text = sample.get("txt")
    caption = (
        _text(_read(tar, text), f"{shard}: {text.name}", garbled)
        if text
        else record_caption(fields, f"{shard}: {key}.json")
    )
    place: dict[str, Scalar] = {TAR: str(shard.resolve()), OFFSET: image.offset_data, SIZE: image.size}
    address = fields.get("url") or f"{shard.name}/{image.name}"
    yield {**fields, "url": str(address), "caption": caption, **place}


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return file.read() if file else b""


def _text(data: bytes, name: str, garbled: list[str]) -> str:
    """Return a caption; the names of those that are no text are added to `garbled`."""
    try:
        return decode_text(data).strip()
    except UnicodeDecodeError:
        garbled.append(name)
        return decode_text(data, errors="replace").strip()


def _warn_of_garbled(names: Sequence[str]) -> None:
    if names:
        warn(
            f"{len(names)} captions are not UTF-8 text, such as {names[0]}: unreadable bytes become U+FFFD",
            "save them as UTF-8",
        )


def _record(data: bytes, name: str, *, caption_needed: bool) -> dict[str, Scalar]:
    """Return the plain values of a JSON object, by names in lower case.

    Only plain values can be columns. Names in SQL have no case: a `URL` of the record must not replace the image's.
    """
    with reading(name, "mend it, or remove it"):
        record: Any = from_json(data)
    if not isinstance(record, dict):
        raise UserError(f"{name}: not a JSON object")
    if caption_needed:
        record_caption(record, name)
    plain = {key.lower(): value for key, value in record.items() if isinstance(value, str | int | float | bool)}
    return {key: value for key, value in plain.items() if key not in HIDDEN}
