"""Samples in memory for training: maps of pixels, and latents that are encoded once and kept beside the shards."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from jointnet_cli.data.shards.format import unpack
from jointnet_cli.data.shards.index import Raw, read_samples, state_of
from jointnet_cli.data.shards.remote import is_url
from jointnet_cli.data.shards.samples import MISSING_MAPS_HINT, UnusableSample, decode_sample
from jointnet_cli.data.shards.shard_set import ShardSet
from jointnet_cli.errors import UserError
from jointnet_cli.files.atomic import atomic_file
from jointnet_cli.files.paths import cache_home, text_digest
from jointnet_cli.files.text import to_json
from jointnet_cli.progress import Progress
from jointnet_cli.tensors import flip

ENCODE_BATCH = 32

CAPTIONS = "captions"

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
        raise UserError(f"no sample can be used, from {replaced[0][1]} on: {first_fault}", hint=MISSING_MAPS_HINT)
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

    A cache older than the shard is not used. Latents of a shard with unusable samples are not kept: which samples stand in
    depends on the modalities.
    """
    changed = 0 if is_url(location) else Path(location).stat().st_mtime
    current = cached.exists() and cached.stat().st_mtime >= changed
    stored, captions = _read_cache(cached) if current else ({}, None)
    missing = [(name, side) for name, side in wanted if _entry(name, side) not in stored]
    if missing:
        samples = ((location, raw) for raw in read_samples(location))
        pixels = _pixels(samples, sorted({name for name, _ in missing}))
        if pixels.replaced and missing != wanted:  # the same samples have to stand in for every modality
            samples, missing = ((location, raw) for raw in read_samples(location)), wanted
            pixels = _pixels(samples, sorted({name for name, _ in wanted}))
        captions = pixels.captions
        for name, side in missing:
            encoded = [encode(batch) for batch in _map_batches(pixels.maps[name], name, side)]
            stored[_entry(name, side)] = torch.cat(encoded).half().contiguous()
        if pixels.replaced:
            return stored, captions, pixels.replaced
        cached.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(cached) as partial:
            save_file(stored, partial, metadata={CAPTIONS: to_json(captions)})
    return stored, captions or [unpack(raw, ()).caption for raw in read_samples(location)], []


def _read_cache(cached: Path) -> tuple[dict[str, Tensor], list[str] | None]:
    with safe_open(cached, "pt") as file:
        captions = (file.metadata() or {}).get(CAPTIONS)
        return {name: file.get_tensor(name) for name in file.keys()}, captions and json.loads(captions)  # noqa: SIM118


def _map_batches(maps: Tensor, modality: str, mirrored: bool) -> Iterator[Tensor]:
    for batch in maps.split(ENCODE_BATCH):
        full = batch.float().expand(-1, 3, -1, -1)
        yield flip(full, modality) if mirrored else full


def _entry(modality: str, mirrored: bool) -> str:
    return f"{modality}.mirrored" if mirrored else modality
