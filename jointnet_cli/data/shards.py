"""Training shards: webdataset tar files with an image, its dense maps, a caption and a JSON record per sample.

A sample holds `.png` or `.jpg` (8-bit sRGB), `.depth.png` (16-bit inverse depth), `.normal.png` (8-bit `(n + 1) / 2`), `.txt`
(caption; without it the record's `caption` or `text`) and `.json` (for a world `seed` and `scene`, for a download
img2dataset's fields; and `depth` with the `scale` that turns the 16-bit values into inverse depth).
Beside each shard `00012.tar` lies `00012_stats.json`, written last: a shard with it is complete (img2dataset's layout).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jointnet_cli.data.folders import record_caption
from jointnet_cli.data.maps import encode_depth, encode_normal, png
from jointnet_cli.errors import UserError
from jointnet_cli.output.orientation import SIDEWAYS, turned, turned_vectors
from jointnet_cli.strict_json import to_json
from jointnet_cli.text_file import read_text

IMAGES = ("png", "jpg", "jpeg", "webp")
"""What the image of a sample may be called."""


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


def write_shard(path: Path, samples: Iterable[Sample]) -> int:
    """Write one shard and its stats file, whole or not at all; returns the number of samples."""
    import webdataset

    partial = path.with_suffix(".tar.partial")
    count = 0
    with webdataset.TarWriter(str(partial)) as tar:
        for sample in samples:
            tar.write(_pack(sample))
            count += 1
    partial.replace(path)
    stats = stats_path(path).with_suffix(".partial")
    stats.write_text(to_json({"count": count, "shard": path.name}))
    stats.replace(stats_path(path))
    return count


def stats_path(shard: Path) -> Path:
    """Where a shard's completion record lies."""
    return shard.with_name(f"{shard.stem}_stats.json")


def is_complete(shard: Path) -> bool:
    """Whether a shard was written to its end."""
    return shard.exists() and stats_path(shard).exists()


def sample_count(shard: Path) -> int:
    """How many samples a complete shard holds; 0 where it is not complete."""
    if not is_complete(shard):
        return 0
    stats = json.loads(stats_path(shard).read_text())
    # Of a download `count` is how many were wanted (img2dataset's meaning).
    return int(stats.get("successes", stats["count"]))


def overlooked_images(suffixes: Iterable[str]) -> list[str]:
    """Return the suffixes of a sample's images that no reader finds, because the file's name has another dot.

    webdataset ends a sample's key at the first dot: `a.b.jpg` has the key `a` and the suffix `b.jpg`. Empty for a sample that
    has an image, whose other members are nobody's loss.
    """
    names = [suffix.lower() for suffix in suffixes]
    if any(name in IMAGES for name in names):
        return []
    return [name for name in names if name.rpartition(".")[2] in IMAGES and name not in ("depth.png", "normal.png")]


def warn_of_overlooked(count: int, source: str | Path) -> None:
    """Say on stderr how many images of shards are not read, and why."""
    if count:
        print(
            f"warning: {count} images in {source} are not read: the key of a sample ends at the first dot of a file's name\n"
            "hint: write a.b.jpg as a_b.jpg, and the files that belong to it likewise",
            file=sys.stderr,
        )


def count_scattered(begins: Mapping[str, int]) -> int:
    """Count the keys whose files do not follow one another, from how often files of each key begin."""
    return sum(number > 1 for number in begins.values())


def warn_of_scattered(count: int, source: str | Path) -> None:
    """Say on stderr how many samples of shards are torn apart."""
    if count:
        print(
            f"warning: {count} samples in {source} are incomplete: their files do not follow one another, and captions or maps "
            "are not found\nhint: write the files sorted by name, as `tar --sort=name` does",
            file=sys.stderr,
        )


def worlds_command(out: str | Path, *, evaluation: bool) -> str:
    """Return the command that makes worlds in a folder, with reserved seeds for an evaluation."""
    return (
        f"jointnet prepare --source worlds {'--evaluation --count 512' if evaluation else '--count 1000'} --out {out}"
    )


def find_shards(source: str | Path, *, evaluation: bool = False) -> list[Path]:
    """List the complete shards of a folder, in order, or the one tar file that `source` names.

    With `evaluation` the hint of a fault makes worlds with reserved seeds.

    Raises:
        UserError: nothing there.
    """
    root = Path(source)
    shards = [root] if root.suffix == ".tar" and root.is_file() else sorted(filter(is_complete, root.glob("*.tar")))
    if not shards:
        raise UserError(
            f"no complete shards in {root}",
            hint=f"make some: {worlds_command(root, evaluation=evaluation)}",
        )
    return shards


def read_shards(shards: Iterable[Path], maps: Iterable[str] = ("depth", "normal")) -> Iterator[Sample]:
    """Stream the samples of shards in order, decoding only the maps asked for."""
    import webdataset

    wanted = set(maps)
    # Every process of a distributed run reads all the shards: batches are drawn from samples in memory.
    paths = [str(shard) for shard in shards]
    for raw in webdataset.WebDataset(paths, shardshuffle=False, nodesplitter=None, empty_check=False):
        yield unpack(raw, wanted)


def _pack(sample: Sample) -> dict[str, Any]:
    packed: dict[str, Any] = {"__key__": sample.key, "png": png(sample.image), "txt": sample.caption}
    record = dict(sample.record)
    if sample.inverse_depth is not None:
        packed["depth.png"], scale = encode_depth(sample.inverse_depth)
        record["depth"] = {"encoding": "inverse depth, 16 bit, sky = 0", "unit": "1/m", "scale": scale}
    if sample.normal is not None:
        packed["normal.png"] = encode_normal(sample.normal)
    packed["json"] = to_json(record)
    return packed


def unpack(raw: Mapping[str, Any], maps: Collection[str]) -> Sample:
    """Decode a sample as webdataset groups it: the content of its members by their suffixes.

    The image is upright and sRGB, whatever its orientation, profile, alpha or bits (`pixels.to_srgb`). A map that lies
    across an image turned by 90 degrees was stored like the image, and is turned with it; any other map is upright already.

    Raises:
        UserError: no image; an image, a map, a caption or a record that cannot be decoded.
    """
    from jointnet_cli.output.pixels import eight_bits, read_raster, to_srgb

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
    return Sample(key, image, sample_caption(raw, record), depth, normal, record)


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
        record = json.loads(data)
    except ValueError as error:
        raise UserError(f"the record of sample {key} is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise UserError(f"the record of sample {key} is not a JSON object")
    return record


def _depth_scale(record: Mapping[str, Any], key: str) -> np.float32:
    try:
        return np.float32(record["depth"]["scale"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"the record of sample {key} does not say the scale of its depth map",
            hint="write depth.scale, the inverse depth of one step of the 16-bit map",
        ) from error


def _lies_across(values: NDArray[np.float32], image: NDArray[np.uint8]) -> bool:
    """Whether one of a map and its image is upright and the other wide."""
    (height, width), (rows, columns) = values.shape[:2], image.shape[:2]
    return (height - width) * (rows - columns) < 0
