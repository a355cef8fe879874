"""Samples in memory for training: maps of pixels, and latents that are encoded once and kept beside the shards."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from jointnet_cli.data.shards import Sample, find_shards, read_shards
from jointnet_cli.errors import UserError
from jointnet_cli.modality import flip, relative_disparity, to_map
from jointnet_cli.strict_json import to_json

ENCODE_BATCH = 32
CAPTIONS = "captions"
Encode = Callable[[Tensor], Tensor]
Progress = Callable[[int, int], None]


@dataclass
class PixelSet:
    """All samples of a set as the VAE sees them."""

    maps: dict[str, Tensor]
    """Per modality (N, 3, H, W) float16 in [-1, 1]; depth keeps one channel, (N, 1, H, W)."""
    captions: list[str]


def sample_map(sample: Sample, modality: str) -> Tensor:
    """One modality of a sample as its map (3, H, W) in [-1, 1].

    Raises:
        UserError: the sample has no such map.
    """
    if modality == "rgb":
        values = torch.from_numpy(sample.image.astype(np.float32) / 255).permute(2, 0, 1)[None]
    elif modality == "depth" and sample.inverse_depth is not None:
        values = relative_disparity(torch.from_numpy(sample.inverse_depth)[None])
    elif modality == "normal" and sample.normal is not None:
        values = torch.from_numpy(sample.normal).permute(2, 0, 1)[None]
    else:
        raise UserError(f"sample {sample.key} has no {modality} map", hint="prepare shards that carry it")
    return to_map(values, modality)[0]


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


def order(size: int, places: Sequence[int], seed: int) -> Tensor:
    """Which of `size` samples stand at some places of a run (B,): epochs of seeded permutations, a function of the place
    alone, so that a resumed run goes on with the very samples it would have seen."""
    where = torch.tensor(places)
    found = torch.empty_like(where)
    for epoch in (where // size).unique().tolist():
        here = where // size == epoch
        found[here] = _epoch_order(size, epoch, seed)[where[here] % size]
    return found


@lru_cache(maxsize=4)
def _epoch_order(size: int, epoch: int, seed: int) -> Tensor:
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
