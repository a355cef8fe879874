"""Samples in memory for training: maps of pixels, and latents that are encoded once and kept beside the shards."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from jointnet_cli.data.shards.format import unpack
from jointnet_cli.data.shards.index import Raw, read_samples, state_of
from jointnet_cli.data.shards.remote import is_url
from jointnet_cli.data.shards.samples import sample_map, stored_channels
from jointnet_cli.data.shards.shard_set import ShardSet
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


def load_pixels(shards: ShardSet, modalities: list[str]) -> PixelSet:
    """Read a set into memory.

    Raises:
        UserError: a map is missing, or a shard cannot be read.
    """
    return _pixels(shards.raw(), modalities)


def _pixels(samples: Iterable[Raw], modalities: list[str]) -> PixelSet:
    captions: list[str] = []
    maps: dict[str, list[Tensor]] = {name: [] for name in modalities}
    for raw in samples:
        sample = unpack(raw, modalities)
        captions.append(sample.caption)
        for name in modalities:
            tensor = sample_map(sample, name)
            maps[name].append(stored_channels(tensor, name).half())
    return PixelSet({name: torch.stack(tensors) for name, tensors in maps.items()}, captions)


@dataclass
class LatentSet:
    """All samples of a set as latents."""

    latents: Tensor
    """(F, N, M, C, h, w) float16: M modalities of N samples, plain and, when F = 2, mirrored."""
    captions: list[str]

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
    """Latents of a set, encoded on the first call and kept in the folder `.latents` beside each shard.

    Latents of shards that lie elsewhere are kept in the cache folder.

    Args:
        shards: the set.
        modalities: names in branch order.
        encode: maps (B, 3, H, W) in [-1, 1] to latents (B, C, h, w).
        vae_hash: names the encoder in the cache, so that another VAE gets its own latents.
        mirrored: whether to hold the mirrored samples too; a VAE does not commute with mirroring, so they are encoded.
        progress: called with the number of shards done and their number.
    """
    parts = []
    captions: list[str] = []
    sides = (False, True)[: 1 + mirrored]
    for number, shard in enumerate(shards.shards):
        wanted = [(name, side) for name in modalities for side in sides]
        stored, texts = shard_latents(shard.location, _cache_of(shard.location, vae_hash), wanted, encode)
        parts.append({name: values[: shard.count] for name, values in stored.items()})
        captions += texts[: shard.count]
        if progress:
            progress(number + 1, len(shards.shards))
    found = [
        torch.stack([torch.cat([part[_entry(name, side)] for part in parts]) for name in modalities], dim=1)
        for side in sides
    ]
    return LatentSet(torch.stack(found), captions)


def _cache_of(location: str, vae_hash: str) -> Path:
    if is_url(location):
        return cache_home() / "latents" / f"{text_digest(f'{location} {state_of(location)}')}-{vae_hash}.safetensors"
    path = Path(location)
    return path.parent / ".latents" / f"{path.stem}-{vae_hash}.safetensors"


def shard_latents(
    location: str, cached: Path, wanted: list[tuple[str, bool]], encode: Encode
) -> tuple[dict[str, Tensor], list[str]]:
    """The latents of one shard and its captions, encoding only what the cache lacks; a cache older than the shard is not
    used."""
    changed = 0 if is_url(location) else Path(location).stat().st_mtime
    current = cached.exists() and cached.stat().st_mtime >= changed
    stored, captions = _read_cache(cached) if current else ({}, None)
    missing = [(name, side) for name, side in wanted if _entry(name, side) not in stored]
    if missing:
        names = sorted({name for name, _ in missing})
        pixels = _pixels(read_samples(location), names)
        captions = pixels.captions
        for name, side in missing:
            encoded = [encode(batch) for batch in _map_batches(pixels.maps[name], name, side)]
            stored[_entry(name, side)] = torch.cat(encoded).half().contiguous()
        cached.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(cached) as partial:
            save_file(stored, partial, metadata={CAPTIONS: to_json(captions)})
    return stored, captions or [unpack(raw, ()).caption for raw in read_samples(location)]


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
