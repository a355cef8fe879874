"""Samples in memory for training: maps of pixels, and latents that are encoded once and kept beside the shards."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from jointnet_cli.data.shards.format import Sample, find_shards, read_shards
from jointnet_cli.data.shards.samples import sample_map
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


def load_pixels(shards: str | Path, modalities: list[str], limit: int | None = None) -> PixelSet:
    """Read a set into memory.

    Raises:
        UserError: no shards, or a map is missing.
    """
    captions: list[str] = []
    maps: dict[str, list[Tensor]] = {name: [] for name in modalities}
    for sample in _limited(shards, modalities, limit):
        captions.append(sample.caption)
        for name in modalities:
            tensor = sample_map(sample, name)
            maps[name].append((tensor[:1] if name == "depth" else tensor).half())
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
    shards: str | Path,
    modalities: list[str],
    encode: Encode,
    vae_hash: str,
    *,
    mirrored: bool = True,
    limit: int | None = None,
    progress: Progress | None = None,
) -> LatentSet:
    """Latents of a set, encoded on the first call and kept in `<shards>/.latents/`.

    Args:
        shards: folder of shards.
        modalities: names in branch order.
        encode: maps (B, 3, H, W) in [-1, 1] to latents (B, C, h, w).
        vae_hash: names the encoder in the cache, so that another VAE gets its own latents.
        mirrored: whether to hold the mirrored samples too; a VAE does not commute with mirroring, so they are encoded.
        limit: use only the first samples.
        progress: called with the number of shards done and their number.
    """
    paths = find_shards(shards)
    cache = (paths[0].parent if Path(shards).suffix == ".tar" else Path(shards)) / ".latents"
    cache.mkdir(exist_ok=True)
    parts = []
    captions: list[str] = []
    for number, path in enumerate(paths):
        wanted = [(name, side) for name in modalities for side in (False, True)[: 1 + mirrored]]
        stored, texts = shard_latents(path, cache / f"{path.stem}-{vae_hash}.safetensors", wanted, encode)
        parts.append(stored)
        captions += texts
        if progress:
            progress(number + 1, len(paths))
        if limit is not None and len(captions) >= limit:
            break
    sides = [
        torch.stack([torch.cat([part[_entry(name, side)] for part in parts]) for name in modalities], dim=1)
        for side in (False, True)[: 1 + mirrored]
    ]
    return LatentSet(torch.stack(sides)[:, :limit], captions[:limit])


def shard_latents(
    shard: Path, cached: Path, wanted: list[tuple[str, bool]], encode: Encode
) -> tuple[dict[str, Tensor], list[str]]:
    """The latents of one shard and its captions, encoding only what the cache lacks; what is older than the shard does not
    count."""
    current = cached.exists() and cached.stat().st_mtime >= shard.stat().st_mtime
    stored, captions = _read_cache(cached) if current else ({}, None)
    missing = [(name, side) for name, side in wanted if _entry(name, side) not in stored]
    if missing:
        names = sorted({name for name, _ in missing})
        pixels = load_pixels(shard, names)
        captions = pixels.captions
        for name, side in missing:
            encoded = [encode(batch) for batch in _map_batches(pixels.maps[name], name, side)]
            stored[_entry(name, side)] = torch.cat(encoded).half().contiguous()
        partial = cached.with_suffix(".partial")
        save_file(stored, partial, metadata={CAPTIONS: to_json(captions)})
        partial.replace(cached)
    return stored, captions or [sample.caption for sample in read_shards([shard], ())]


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


def _limited(shards: str | Path, modalities: list[str], limit: int | None) -> Iterator[Sample]:
    maps = [name for name in modalities if name != "rgb"]
    for number, sample in enumerate(read_shards(find_shards(shards), maps)):
        if limit is not None and number >= limit:
            return
        yield sample
