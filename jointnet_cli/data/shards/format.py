"""One shard as files: a tar of samples and its statistics."""

from __future__ import annotations

import io
import shlex
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.data.shards.archive import DamagedShard, Entry, new_entry
from jointnet_cli.errors import UserError, reading
from jointnet_cli.files.paths import file_digest
from jointnet_cli.files.text import from_json, load_json, read_text, to_json, warn
from jointnet_cli.modality import MODALITIES, RGB

IMAGES = ("png", "jpg", "jpeg", "webp")
"""What the image of a sample may be called."""

MAP_SUFFIXES = {name: f"{name}.png" for name in MODALITIES if name != RGB}
"""The suffix of a map's member, by modality."""

PLAN = ".plan"
"""The folder beside the shards of images that says which has which place, and how they were made."""

UINT16 = 65535


@dataclass
class Sample:
    """One training sample."""

    key: str
    image: NDArray[np.uint8]
    """(H, W, 3) sRGB."""
    caption: str
    inverse_depth: NDArray[np.float32] | None
    """(H, W) in 1/metres, sky = 0."""
    normal: NDArray[np.float32] | None
    """(H, W, 3) camera-space unit vectors; zero on the sky."""
    record: dict[str, Any]
    colors: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    """(H, W, 3) sRGB of further modalities whose values are colors."""


def stats_path(shard: Path) -> Path:
    """Return the path of a shard's stats file, which marks it as complete."""
    return shard.with_name(f"{shard.stem}_stats.json")


def is_complete(shard: Path) -> bool:
    """Return whether a shard was written to its end."""
    return shard.exists() and stats_path(shard).exists()


def complete_shards(folder: Path) -> list[Path]:
    """Return the complete shards of a folder, in order; possibly none."""
    return sorted(filter(is_complete, folder.glob("*.tar")))


def read_stats(shard: Path) -> dict[str, Any]:
    """Return the content of a shard's stats file; empty where the shard is not complete.

    Raises:
        UserError: it is damaged.
    """
    if not is_complete(shard):
        return {}
    return read_record(stats_path(shard), _check_stats, repair_hint(shard))


def repair_hint(path: Path) -> str:
    """Return the command that makes what is damaged in a file's folder again."""
    return f"jointnet prepare --repair {shlex.quote(str(path.parent))}"


def _check_stats(stats: dict[str, Any]) -> None:
    counts = [stated_count(stats), *stats.get("status_dict", {}).values()]
    if min(counts) < 0 or not all(isinstance(count, int) for count in counts):
        raise ValueError("a count is not a whole number from 0 on")
    for key, kind in {"labels": dict, "received": int, "duration": int | float, "sha256": str}.items():
        if key in stats and not isinstance(stats[key], kind):
            raise ValueError(f"{key} has another type")
    if not all(isinstance(label, dict) for label in stats.get("labels", {}).values()):
        raise ValueError("labels has another type")


def read_record(path: Path, check: Callable[[dict[str, Any]], object], remedy: str) -> dict[str, Any]:
    """Read a JSON object that this program wrote.

    Args:
        path: the file.
        check: raises for content that cannot be used; called with the object.
        remedy: the way out, as a hint.

    Raises:
        UserError: the file is missing or damaged.
        OSError: it cannot be read.
    """
    try:
        record = load_json(path)
        if not isinstance(record, dict):
            raise ValueError("it is not a JSON object")
        check(record)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing", hint=remedy) from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        cause = f"{error} is missing" if isinstance(error, KeyError) else error
        raise UserError(f"{path} is damaged: {cause}", hint=remedy) from error
    return record


def require_recorded_hash(shard: Path, key: str = "sha256", path: Path | None = None) -> None:
    """Compare the SHA-256 of a shard, or of the file at `path`, with the one in the shard's stats, if they state one.

    Raises:
        DamagedShard: they differ, or the file is missing.
    """
    path, recorded = path or shard, read_stats(shard).get(key)
    if recorded is None:
        return
    if not path.is_file():
        raise damaged_shard(path, "it is missing")
    if file_digest(path) != recorded:
        raise damaged_shard(path, f"its SHA-256 differs from {stats_path(shard).name}")


def damaged_shard(shard: Path, cause: str) -> DamagedShard:
    """Return the fault of a damaged shard, with the way out."""
    return DamagedShard(
        f"{shard} is damaged: {cause}",
        hint=f"restore it, or make it again: {repair_hint(shard)}",
    )


def stated_count(stats: Mapping[str, Any]) -> int:
    """Return the number of samples that a stats file states. Of a download `count` is the number of rows, as in img2dataset."""
    return int(stats.get("successes", stats["count"]))


def sample_count(shard: Path) -> int:
    """Return how many samples a complete shard holds; 0 where it is not complete."""
    stats = read_stats(shard)
    return stated_count(stats) if stats else 0


@dataclass
class Faults:
    """Counts of images and samples in shards that readers miss or find incomplete."""

    overlooked: int = 0
    """Images whose file name has another dot: `a.b.jpg` has the key `a` and the suffix `b.jpg`, as in webdataset."""
    scattered: int = 0
    """Samples whose files do not follow one another."""
    _begins: Counter[str] = field(default_factory=Counter, repr=False)

    def note(self, key: str, suffixes: Collection[str]) -> None:
        """Count what is wrong with the next files of one key."""
        self._begins[key] += 1
        self.scattered += self._begins[key] == 2
        names = {name.lower() for name in suffixes}
        if not names.intersection(IMAGES):
            others = names - set(MAP_SUFFIXES.values())
            self.overlooked += sum(name.rpartition(".")[2] in IMAGES for name in others)

    def warn(self, source: str | Path) -> None:
        """Warn on stderr of what is not read, and why."""
        if self.overlooked:
            warn(
                f"{self.overlooked} images in {source} are not read: the key of a sample ends at the first dot of a "
                "file's name",
                "write a.b.jpg as a_b.jpg, and the files that belong to it likewise",
            )
        if self.scattered:
            warn(
                f"{self.scattered} samples in {source} are incomplete: their files do not follow one another, and "
                "captions or maps are not found",
                "write the files sorted by name, as `tar --sort=name` does",
            )


def pack(sample: Sample) -> Entry:
    """Return a sample as it is written, undated, so that the same sample gives the same bytes."""
    record = dict(sample.record)
    members = {"png": png(sample.image), "txt": sample.caption.encode()}
    if sample.inverse_depth is not None:
        members["depth.png"], scale = encode_depth(sample.inverse_depth)
        record["depth"] = {"encoding": "inverse depth, 16 bit, sky = 0", "unit": "1/m", "scale": scale}
    if sample.normal is not None:
        members["normal.png"] = encode_normal(sample.normal)
    members |= {MAP_SUFFIXES[name]: png(values) for name, values in sample.colors.items()}
    members["json"] = to_json(record).encode()
    return new_entry(sample.key, dict(sorted(members.items())))


def unpack(raw: Mapping[str, Any], maps: Collection[str]) -> Sample:
    """Decode a sample as webdataset groups it: the content of its members by their suffixes.

    The image is brought upright and to 8-bit sRGB without alpha (`files.raster.to_srgb`). A map that lies
    across an image turned by 90 degrees was stored like the image, and is turned with it; any other map is upright already.

    Raises:
        UserError: no image; an image, a map, a caption or a record that cannot be decoded.
    """
    from jointnet_cli.files.decode import read_raster
    from jointnet_cli.files.raster import SIDEWAYS, eight_bits, to_srgb, turned, turned_vectors

    key = raw["__key__"]
    record = _record(raw.get("json", b"{}"), key)
    depth = normal = None
    name = next((name for name in IMAGES if name in raw), None)
    if name is None:
        raise UserError(f"sample {key} has no image", hint=f"a shard's images are {', '.join(IMAGES)}")
    raster = read_raster(raw[name], f"the image of sample {key}")
    image = eight_bits(to_srgb(raster, f"the image of sample {key}"))
    sideways = raster.orientation if raster.orientation in SIDEWAYS else 1
    if "depth" in maps and "depth.png" in raw:
        stored = read_raster(raw["depth.png"], f"the depth map of sample {key}").samples[..., 0]
        depth = stored.astype(np.float32) * _depth_scale(record, key)
        if _lies_across(depth, image):
            depth = turned(depth, sideways)
    if "normal" in maps and "normal.png" in raw:
        normal = read_raster(raw["normal.png"], f"the normal map of sample {key}").fractions()[..., :3] * 2 - 1
        if _lies_across(normal, image):
            normal = turned_vectors(normal, sideways)
    colors = {}
    for name in maps:
        if name != RGB and MODALITIES[name].values == "color" and MAP_SUFFIXES[name] in raw:
            what = f"the {name} map of sample {key}"
            colored = read_raster(raw[MAP_SUFFIXES[name]], what)
            colors[name] = eight_bits(to_srgb(colored, what))
            if _lies_across(colors[name], image):
                colors[name] = turned(colors[name], sideways)
    return Sample(key, image, sample_caption(raw, record), depth, normal, record, colors)


def sample_caption(raw: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """Return the text of a sample's `.txt`, or without one the caption in its record.

    Raises:
        UserError: bytes that are no text, or a caption that has no plain text form.
    """
    if "txt" in raw:
        return read_text(raw["txt"], f"the caption of sample {raw['__key__']}")
    return record_caption(record, f"the record of sample {raw['__key__']}")


def _record(data: bytes, key: str) -> dict[str, Any]:
    try:
        record = from_json(data)
    except ValueError as error:
        raise UserError(f"the record of sample {key} is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise UserError(f"the record of sample {key} is not a JSON object")
    return record


def _depth_scale(record: Mapping[str, Any], key: str) -> np.float32:
    hint = "write depth.scale, the inverse depth of one step of the 16-bit map"
    with reading(f"the depth map of sample {key}", hint, cause="its record does not state its scale"):
        scale = np.float32(float(record["depth"]["scale"]))
        if not 0 < scale < np.inf:
            raise ValueError("no scale")
        return scale


def _lies_across(values: NDArray[Any], image: NDArray[np.uint8]) -> bool:
    """Return whether one of a map and its image is upright and the other wide."""
    (height, width), (rows, columns) = values.shape[:2], image.shape[:2]
    return bool((height - width) * (rows - columns) < 0)


def encode_depth(inverse_depth: NDArray[np.float32]) -> tuple[bytes, float]:
    """Return inverse depth (H, W), at least 0, as a 16-bit PNG, and the scale that turns its values back."""
    scale = max(float(inverse_depth.max()), 1e-9)
    return png(np.rint(inverse_depth.clip(0) / scale * UINT16).astype(np.uint16)), scale / UINT16


def encode_normal(normal: NDArray[np.float32]) -> bytes:
    """Return unit vectors (H, W, 3) as an 8-bit PNG, (n + 1) / 2."""
    return png(np.rint((normal + 1) * 127.5).astype(np.uint8))


def png(array: NDArray[Any]) -> bytes:
    """Return an array of 8 or 16 bits, grey or RGB, as a PNG file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


CAPTIONS = ("caption", "text")
"""Fields of a record that may hold the caption, the first one first."""


def record_caption(record: Mapping[str, Any], name: str) -> str:
    """Return the first caption in a record that is not empty; an empty one if there is none.

    Raises:
        UserError: the caption has no plain text form; `name` says whose it is.
    """
    lower = {key.lower(): value for key, value in record.items()}
    caption = next((lower[key] for key in CAPTIONS if lower.get(key) not in (None, "")), "")
    if isinstance(caption, list | dict):
        raise UserError(
            f"{name}: the caption is a list or an object, which cannot be read as plain text",
            hint="write the caption as a string, or put a .txt file beside the image",
        )
    return caption if isinstance(caption, str) else to_json(caption)
