"""Samples in memory for training: maps of pixels, and latents that are encoded once and kept beside the shards."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from jointnet_cli.data.shards.format import require_recorded_hash, sample_count
from jointnet_cli.data.shards.index import Raw, Shard, read_samples, state_of, too_few_samples
from jointnet_cli.data.shards.remote import is_url
from jointnet_cli.data.shards.samples import UnusableSample, decode_sample
from jointnet_cli.data.shards.shard_set import ShardSet
from jointnet_cli.errors import UserError
from jointnet_cli.files.atomic import atomic_file
from jointnet_cli.files.paths import cache_home, file_digest, text_digest
from jointnet_cli.files.text import from_json, to_json
from jointnet_cli.progress import Progress
from jointnet_cli.tensors import flip

ENCODE_BATCH = 32

CAPTIONS, CONTENT, SHARD, STATE = "captions", "sha256", "shard_sha256", "shard_state"
"""Facts of a cache: captions, the hash of captions and latents, the hash of the shard that they were made of, and the size
and times of that file."""

FACTS = "facts"
"""The key of the facts in the metadata, as JSON: of several keys safetensors writes the order at random."""

Encode = Callable[[Tensor], Tensor]


@dataclass
class PixelSet:
    """All samples of a set as the VAE sees them."""

    maps: dict[str, Tensor]
    """Per modality (N, 3, H, W) float16 in [-1, 1]; depth keeps one channel, (N, 1, H, W)."""
    captions: list[str]
    replaced: list[Replaced]
    """Unusable samples that the next usable one stands in for."""


Replaced = tuple[str, str]
"""Why a sample cannot be used, and its key and shard."""


def load_pixels(shards: ShardSet, modalities: list[str]) -> PixelSet:
    """Read a set into memory.

    Raises:
        UserError: no sample can be used, or a shard cannot be read.
    """
    return _pixels(_located(shards), modalities)


def _located(shards: ShardSet) -> Iterator[tuple[str, Raw]]:
    start = 0
    for shard in shards.shards:
        yield from ((shard.location, raw) for raw in islice(shards.raw(start), shard.count))
        start += shard.count


def _pixels(samples: Iterable[tuple[str, Raw]], modalities: list[str]) -> PixelSet:
    decoded: list[tuple[str, dict[str, Tensor]] | None] = []
    replaced: list[Replaced] = []
    shapes: dict[str, torch.Size] = {}
    first_fault: BaseException | None = None
    for location, raw in samples:
        try:
            caption, maps = decode_sample(raw, modalities)
            found = {name: values.shape for name, values in maps.items()}
            shapes = shapes or found
            if found != shapes:
                raise UnusableSample("another size than the first sample")
            decoded.append((caption, maps))
        except UnusableSample as error:
            first_fault = first_fault or error.__cause__ or error
            replaced.append((str(error), f"{raw['__key__']} of {location}"))
            decoded.append(None)
    usable = [number for number, sample in enumerate(decoded) if sample]
    if not usable:
        hint = "`jointnet prepare --label` makes missing maps"
        raise UserError(f"no sample can be used, from {replaced[0][1]} on: {first_fault}", hint)
    places = [bisect_left(usable, number) % len(usable) for number in range(len(decoded))]
    kept = [sample for place in places if (sample := decoded[usable[place]])]
    maps = {name: torch.stack([sample[name] for _, sample in kept]) for name in modalities}
    return PixelSet(maps, [caption for caption, _ in kept], replaced)


@dataclass
class LatentSet:
    """All samples of a set as latents."""

    latents: Tensor
    """(F, N, M, C, h, w) float16: M modalities of N samples, plain and, when F = 2, mirrored."""
    captions: list[str]
    replaced: list[Replaced]
    """Unusable samples that the next usable one of their shard stands in for."""

    def __len__(self) -> int:
        return len(self.captions)


def load_latents(
    shards: ShardSet,
    modalities: list[str],
    encode: Encode,
    vae_hash: str,
    *,
    mirrored: bool = True,
    progress: Progress | None = None,
) -> LatentSet:
    """Return the latents of a set, encoded on the first call and kept in the folder `.latents` beside each shard.

    Latents of shards that lie elsewhere are kept in the cache folder.

    Args:
        shards: the set.
        modalities: names in branch order.
        encode: maps (B, 3, H, W) in [-1, 1] to latents (B, C, h, w).
        vae_hash: names the encoder in the cache, so that another VAE gets its own latents.
        mirrored: whether to hold the mirrored samples too; a VAE does not commute with mirroring, so they are encoded.
        progress: called with the number of shards done and their number.

    Raises:
        UserError: a shard cannot be read, or none of its samples can be used.
    """
    parts = []
    replaced: list[Replaced] = []
    captions: list[str] = []
    sides = (False, True)[: 1 + mirrored]
    for number, shard in enumerate(shards.shards):
        wanted = [(name, side) for name in modalities for side in sides]
        stored, texts, bad = shard_latents(shard.location, _cache_of(shard.location, vae_hash), wanted, encode)
        replaced += bad
        parts.append({name: values[: shard.count] for name, values in stored.items()})
        captions += texts[: shard.count]
        if progress:
            progress(number + 1, len(shards.shards))
    found = [
        torch.stack([torch.cat([part[_entry(name, side)] for part in parts]) for name in modalities], dim=1)
        for side in sides
    ]
    return LatentSet(torch.stack(found), captions, replaced)


def _cache_of(location: str, vae_hash: str) -> Path:
    if is_url(location):
        return cache_home() / "latents" / f"{text_digest(f'{location} {state_of(location)}')}-{vae_hash}.safetensors"
    path = Path(location)
    return path.parent / ".latents" / f"{path.stem}-{vae_hash}.safetensors"


def shard_latents(
    location: str, cached: Path, wanted: list[tuple[str, bool]], encode: Encode
) -> tuple[dict[str, Tensor], list[str], list[Replaced]]:
    """Return the latents of one shard, its captions, and the unusable samples; encode only what the cache lacks.

    A cache that is damaged, or of other content of the shard, is made again. Latents of a shard with unusable samples are not
    kept: which samples stand in depends on the modalities.

    Raises:
        UserError: the shard cannot be read, is damaged or has fewer samples than stated, or none can be used.
    """
    stored, captions = _read_cache(cached, location)
    missing = [(name, side) for name, side in wanted if _entry(name, side) not in stored]
    if missing:
        origin = _require_sound(location)
        samples = ((location, raw) for raw in read_samples(location))
        pixels = _pixels(samples, sorted({name for name, _ in missing}))
        if pixels.replaced and missing != wanted:  # the same samples have to stand in for every modality
            samples, missing = ((location, raw) for raw in read_samples(location)), wanted
            pixels = _pixels(samples, sorted({name for name, _ in wanted}))
        captions = pixels.captions
        _require_count(location, len(captions))
        for name, side in missing:
            encoded = [encode(batch) for batch in _map_batches(pixels.maps[name], name, side)]
            stored[_entry(name, side)] = torch.cat(encoded).half().contiguous()
        if pixels.replaced:
            return stored, captions, pixels.replaced
        cached.parent.mkdir(parents=True, exist_ok=True)
        facts = {**origin, CAPTIONS: captions, CONTENT: _digest(stored, captions)}
        with atomic_file(cached) as partial:
            save_file(stored, partial, metadata={FACTS: to_json(facts)})
    return stored, captions, []


def _read_cache(cached: Path, location: str) -> tuple[dict[str, Tensor], list[str]]:
    """Return the latents and captions of a cache; nothing if it is missing, damaged, or of other content of the shard."""
    try:
        with safe_open(cached, "pt") as file:
            facts = from_json((file.metadata() or {})[FACTS])
            if _is_origin(facts, location):
                stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                if facts[CONTENT] == _digest(stored, facts[CAPTIONS]):
                    return stored, facts[CAPTIONS]
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        pass
    return {}, []


def _is_origin(facts: Mapping[str, str], location: str) -> bool:
    """Return whether a cache was made of the shard as it is now. The name of a remote shard's cache states that already.

    A shard is hashed again only where the file system states a change since then; `cp -p` keeps the date and maybe the size,
    but not the time of the last change of the inode.
    """
    if is_url(location) or facts[STATE] == _file_state(Path(location)):
        return True
    return facts[SHARD] == file_digest(Path(location))


def _require_sound(location: str) -> dict[str, str]:
    """Return what identifies a local shard in the cache.

    Raises:
        UserError: its SHA-256 is not the recorded one.
    """
    if is_url(location):
        return {}
    path = Path(location)
    state = _file_state(path)
    require_recorded_hash(path)
    return {STATE: state, SHARD: file_digest(path)}


def _file_state(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def _require_count(location: str, found: int) -> None:
    if not is_url(location) and found < (stated := sample_count(Path(location))):
        raise too_few_samples(Shard(location, stated), found)


def _digest(stored: Mapping[str, Tensor], captions: list[str]) -> str:
    """Return the SHA-256 of a cache's content: safetensors has no checksum."""
    digest = hashlib.sha256(to_json(captions).encode())
    for name in sorted(stored):
        digest.update(f"{name} {tuple(stored[name].shape)} ".encode())
        digest.update(stored[name].reshape(-1).contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _map_batches(maps: Tensor, modality: str, mirrored: bool) -> Iterator[Tensor]:
    for batch in maps.split(ENCODE_BATCH):
        full = batch.float().expand(-1, 3, -1, -1)
        yield flip(full, modality) if mirrored else full


def _entry(modality: str, mirrored: bool) -> str:
    return f"{modality}.mirrored" if mirrored else modality
